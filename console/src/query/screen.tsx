// The screen Query: tabs with an editor, and the result below it.

import type { EditorView } from "@codemirror/view";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Problem, call, send, toProblem } from "../api";
import { bytes, cost, count, duration, plural } from "../format";
import { changes, loadRelations, ref as chosen, useLoad } from "../lake";
import { link, replace, useRoute } from "../route";
import { store, useStore } from "../store";
import type { Job } from "../types";
import { Elapsed, Empty, ProblemBox, attempt, download, toast } from "../ui/parts";
import { Chart } from "./chart";
import { type Check, useCheck } from "./check";
import { Editor } from "./editor";
import { Grid } from "./grid";
import { HistoryPanel } from "./history_panel";
import { Plan } from "./plan";
import { ROWS_MAX, type Result, run } from "./result";
import { SchemaPanel } from "./schema_panel";
import { Statistics } from "./statistics";
import { addTab, changeTab, closeTab, openText, remember, save, tabs } from "./workspace";

/** The last execution in a tab. */
interface Execution {
  sql: string;
  ref: string;
  /** Offset of the statement in the tab's text. */
  offset: number;
  /** The tab's text when the execution started. */
  text: string;
  started: number;
  abort: AbortController;
  bytes: number;
  ms?: number;
  result?: Result;
  problem?: Problem;
  cancelled?: boolean;
  job?: Job;
}

/** Executions by tab; they continue while another screen is shown. */
const executions = store<Record<string, Execution>>({});

function change(tab: string, execution: Execution, part: Partial<Execution>) {
  const all = executions.get();
  if (all[tab]?.abort !== execution.abort) return;
  executions.set({ ...all, [tab]: { ...all[tab]!, ...part } });
}

/** Runs SQL in a tab. */
async function execute(tab: string, sql: string, offset: number) {
  executions.get()[tab]?.abort.abort();
  const abort = new AbortController();
  const at = chosen.get();
  const text = tabs.get().all.find(({ id }) => id === tab)?.text ?? sql;
  const execution: Execution = { sql, ref: at, offset, text, started: performance.now(), abort, bytes: 0 };
  executions.set({ ...executions.get(), [tab]: execution });
  const time = new Date().toISOString();
  const elapsed = () => performance.now() - execution.started;
  try {
    const result = await run(sql, at, abort.signal, (bytes) => change(tab, execution, { bytes }));
    const ms = elapsed();
    change(tab, execution, { result, ms });
    remember({ sql, ref: at, time, ms, rows: result.rows });
    if (!/^\s*(select|with|explain|show|describe|values|from)\b/i.test(sql)) changes.update((n) => n + 1);
    if (result.job) change(tab, execution, { job: await call<Job>(`/v1/jobs/${result.job}`) });
  } catch (error) {
    const ms = elapsed();
    if (abort.signal.aborted) {
      change(tab, execution, { cancelled: true, ms });
      remember({ sql, ref: at, time, ms, error: "cancelled" });
      return;
    }
    const problem = toProblem(error);
    change(tab, execution, { problem, ms });
    remember({ sql, ref: at, time, ms, error: problem.message });
  }
}

export function QueryScreen() {
  const { all, active } = useStore(tabs);
  const at = useStore(chosen);
  const round = useStore(changes);
  const execution = useStore(executions)[active];
  const view = useRef<EditorView | null>(null);
  // In a narrow window the side panel opens on demand.
  const [side, setSide] = useState(false);
  const [panel, setPanel] = useState<"tables" | "history">("tables");
  const relations = useLoad(`relations ${at} ${round}`, (signal) => loadRelations(at, signal));
  const last = useRef(relations.value);
  if (relations.value) last.current = relations.value;
  useShared();
  const tab = all.find(({ id }) => id === active) ?? all[0]!;
  const start = useCallback(() => {
    if (!view.current) return;
    const { state } = view.current;
    const { from, to } = state.selection.main;
    const sql = from === to ? state.doc.toString() : state.sliceDoc(from, to);
    if (sql.trim()) void execute(tabs.get().active, sql, from === to ? 0 : from);
  }, []);
  const insert = (text: string) => {
    const editor = view.current;
    if (!editor) return;
    editor.dispatch(editor.state.replaceSelection(text));
    editor.focus();
  };
  const preview = (name: string) => {
    const sql = `SELECT * FROM ${name} LIMIT 1000`;
    openText(sql, name);
    setSide(false);
    void execute(tabs.get().active, sql, 0);
  };
  const checked = useCheck(tab.text, at, relations.value ?? last.current);
  // Hide the problem of an earlier text, because its position does not apply to the current text.
  const failed = execution?.problem && execution.text === tab.text ? execution : null;
  const problem = failed?.problem ?? checked?.problem;
  const placed = useStable(problem ? { problem, offset: failed?.offset ?? 0 } : null, problem);
  const running = execution !== undefined && execution.ms === undefined;
  useCancelKey(running ? execution.abort : null);
  return (
    <div class="query">
      <aside class={side ? "query-side open" : "query-side"}>
        <div class="tabs" role="tablist" aria-label="Side panel">
          {(["tables", "history"] as const).map((name) => (
            <button type="button" role="tab" aria-selected={panel === name} onClick={() => setPanel(name)}>
              {name === "tables" ? "Tables" : "History"}
            </button>
          ))}
        </div>
        {panel === "tables" ? (
          <SchemaPanel
            relations={relations.value ?? last.current}
            problem={relations.problem}
            insert={insert}
            preview={preview}
          />
        ) : (
          <HistoryPanel />
        )}
      </aside>
      <div class="query-main">
        <TabBar />
        <div class="toolbar">
          <button type="button" class="primary" onClick={start} disabled={running} title="Ctrl+Enter">
            Run
          </button>
          {running && (
            <button type="button" onClick={() => execution.abort.abort()}>
              Cancel
            </button>
          )}
          {!running && checked && <CheckLine check={checked} />}
          <span class="grow" />
          <button type="button" class="quiet narrow-only" aria-expanded={side} onClick={() => setSide(!side)}>
            Tables
          </button>
          <button type="button" class="quiet" onClick={() => saveTab(tab.title, tab.text)}>Save</button>
          <button type="button" class="quiet" onClick={() => share(tab.text, at)}>Share</button>
        </div>
        <Editor
          id={tab.id}
          text={tab.text}
          relations={relations.value ?? last.current}
          problem={placed}
          changed={(text) => changeTab(tabs.get().active, { text })}
          run={start}
          attach={(editor) => (view.current = editor)}
        />
        <Answer execution={execution} running={running} />
      </div>
    </div>
  );
}

/** Shows the maximum number of bytes that a statement reads, or the reason why it cannot run. */
function CheckLine({ check: { estimate, problem } }: { check: Check }) {
  if (problem) {
    return <span class="check bad" data-testid="check" title={problem.hint ?? ""}>✕ {problem.message}</span>;
  }
  if (!estimate) return null;
  const { files, tables } = estimate;
  const price = cost(estimate.cost, estimate.currency);
  const names = tables.slice(0, 3).join(", ") + (tables.length > 3 ? "…" : "");
  const from = files === null ? names : `${plural(files, "file")} of ${names}`;
  return (
    <span class="check" data-testid="check" title="The columns that the statement reads, in the row groups that its conditions do not exclude.">
      ✓ {tables.length === 0 ? "reads no table" : `reads at most ${bytes(estimate.bytes)} in ${from}, ${price}`}
    </span>
  );
}

/** Escape cancels the statement, unless a completion or a dialog uses the key. */
function useCancelKey(abort: AbortController | null) {
  useEffect(() => {
    if (!abort) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) abort.abort();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [abort]);
}

/** Returns the same object until `key` changes, so that effects that use it do not run again. */
function useStable<T>(value: T, key: unknown): T {
  const kept = useRef({ key, value });
  if (kept.current.key !== key) kept.current = { key, value };
  return kept.current.value;
}

/** Opens the text of a shared link. */
function useShared() {
  const route = useRoute();
  const sql = route.query.get("sql");
  const at = route.query.get("ref");
  useEffect(() => {
    if (sql === null) return;
    if (at) chosen.set(at);
    openText(sql);
    replace(["query"]);
  }, [sql, at]);
}

function share(sql: string, ref: string) {
  const address = `${location.origin}/${link(["query"], { ref, sql })}`;
  navigator.clipboard?.writeText(address).then(
    () => toast("The link is copied. It contains the text, not the result."),
    () => prompt("Copy the link:", address),
  );
}

function saveTab(title: string, sql: string) {
  const name = prompt("Name of the query:", title)?.trim();
  if (!name) return;
  save(name, sql);
  changeTab(tabs.get().active, { title: name });
  toast(`Saved “${name}” in this browser.`);
}

function TabBar() {
  const { all, active } = useStore(tabs);
  return (
    <div class="tabs" role="tablist" aria-label="Queries">
      {all.map(({ id, title }) => (
        <span class={id === active ? "tab active" : "tab"}>
          <button
            type="button"
            role="tab"
            aria-selected={id === active}
            onClick={() => tabs.update(({ all }) => ({ all, active: id }))}
          >
            {title}
          </button>
          <button type="button" class="tab-close" aria-label={`Close ${title}`} onClick={() => closeTab(id)}>
            ✕
          </button>
        </span>
      ))}
      <button type="button" class="quiet" aria-label="New query" title="New query" onClick={() => addTab()}>
        +
      </button>
    </div>
  );
}

type Part = "rows" | "chart" | "plan";

function Answer({ execution, running }: { execution: Execution | undefined; running: boolean }) {
  const [part, setPart] = useState<Part>("rows");
  const [column, setColumn] = useState<number | null>(null);
  useEffect(() => setColumn(null), [execution?.result]);
  if (!execution) {
    return (
      <Empty title="No result yet">
        <p>Write SQL and press <kbd>Ctrl</kbd> + <kbd>Enter</kbd>. A selection runs alone.</p>
      </Empty>
    );
  }
  const { result, problem } = execution;
  return (
    <section class="answer" aria-label="Answer" aria-busy={running}>
      <div class="answer-bar">
        <div class="tabs" role="tablist" aria-label="Answer">
          {(["rows", "chart", "plan"] as const).map((name) => (
            <button type="button" role="tab" aria-selected={part === name} onClick={() => setPart(name)}>
              {name[0]!.toUpperCase() + name.slice(1)}
            </button>
          ))}
        </div>
        <Facts execution={execution} running={running} />
        <span class="grow" />
        {result && <Downloads execution={execution} />}
      </div>
      <div class="answer-body">
        {part === "plan" && <Plan sql={execution.sql} at={execution.ref} />}
        {part !== "plan" && problem && <ProblemBox problem={problem} />}
        {part !== "plan" && running && <p class="loading">Running…</p>}
        {part !== "plan" && execution.cancelled && (
          <Empty title="Cancelled"><p>The statement was cancelled before it ended.</p></Empty>
        )}
        {part === "chart" && result && <Chart result={result} />}
        {part === "rows" && result && <Grid result={result} columnChosen={setColumn} />}
        {part === "rows" && result && column !== null && (
          <Statistics result={result} column={column} close={() => setColumn(null)} />
        )}
      </div>
    </section>
  );
}

/** Shows time, rows, bytes and cost of a statement. */
function Facts({ execution, running }: { execution: Execution; running: boolean }) {
  const { result, job, ms } = execution;
  if (running) {
    return (
      <span class="facts" role="status">
        <Elapsed since={execution.started} />
        {execution.bytes > 0 && ` · ${bytes(execution.bytes)} received`}
      </span>
    );
  }
  return (
    <span class="facts" role="status" data-testid="facts">
      {result && `${result.truncated ? `first ${count(ROWS_MAX)} rows` : plural(result.rows, "row")} · `}
      {duration(ms ?? 0)}
      {job && ` · ${bytes(job.usage.bytes_read)} read`}
      {job && job.cost !== undefined && ` · ${cost(job.cost)}`}
    </span>
  );
}

const FORMATS = [
  { name: "CSV", extension: "csv", media: "text/csv" },
  { name: "NDJSON", extension: "ndjson", media: "application/x-ndjson" },
  { name: "Parquet", extension: "parquet", media: "application/vnd.apache.parquet" },
  { name: "Arrow", extension: "arrows", media: "application/vnd.apache.arrow.stream" },
];

/** Runs the statement again and offers all of its rows as a file. */
function Downloads({ execution }: { execution: Execution }) {
  const choose = async (event: Event) => {
    const select = event.currentTarget as HTMLSelectElement;
    const format = FORMATS.find(({ name }) => name === select.value);
    select.value = "";
    if (!format) return;
    await attempt(async () => {
      const body = { sql: execution.sql, ref: execution.ref };
      const response = await send("/v1/query", { body, accept: format.media });
      download(`result.${format.extension}`, await response.blob());
    });
  };
  const reads = /^\s*(select|with|show|describe|values|from|explain)\b/i.test(execution.sql);
  if (!reads) return null;
  return (
    <select aria-label="Download" onChange={choose}>
      <option value="">Download…</option>
      {FORMATS.map(({ name }) => (
        <option>{name}</option>
      ))}
    </select>
  );
}
