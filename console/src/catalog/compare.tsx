// The preview of a merge of one branch into another: its changes, and its conflicts.

import { useEffect, useState } from "preact/hooks";
import { ApiError, type Problem, call, segment, toProblem } from "../api";
import { changes, loadRefs, useLoad } from "../lake";
import { go } from "../route";
import type { ConflictCause, MergeConflict, MergeReport } from "../types";
import { Empty, Loading, ProblemBox, toast } from "../ui/parts";
import { DiffView } from "./diff";

type Choice = "ours" | "theirs";

interface Outcome {
  report: MergeReport | null;
  problem: Problem | null;
}

async function merge(source: string, target: string, options: object, signal?: AbortSignal): Promise<Outcome> {
  const path = `/v1/branches/${segment(target)}/merge`;
  try {
    const report = await call<MergeReport>(path, { body: { source, ...options }, ...(signal ? { signal } : {}) });
    return { report, problem: null };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const report = error.problem.context?.report as MergeReport | undefined;
    return { report: report ?? null, problem: error.problem };
  }
}

export function Compare({ source, target }: { source: string; target: string }) {
  const [choices, setChoices] = useState<Record<string, Choice>>({});
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [conflicts, setConflicts] = useState<MergeConflict[]>([]);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    merge(source, target, { dry_run: true, choices }, abort.signal)
      .then((found) => {
        setOutcome(found);
        // Conflicts stay listed after a choice, so that the user can change the choice.
        setConflicts((known) => [
          ...known,
          ...(found.report?.conflicts ?? []).filter(({ table }) => !known.some((one) => one.table === table)),
        ]);
      })
      .catch((error) => abort.signal.aborted || setOutcome({ report: null, problem: toProblem(error) }));
    return () => abort.abort();
  }, [source, target, choices]);
  const apply = async () => {
    setBusy(true);
    const found = await merge(source, target, { choices });
    setBusy(false);
    setOutcome(found);
    if (found.problem) return;
    changes.update((round) => round + 1);
    toast(`Merged ${source} into ${target}.`);
    go(["catalog", "branches"]);
  };
  const report = outcome?.report;
  const open = (report?.conflicts ?? []).filter(({ table }) => !choices[table]);
  const isConflict = outcome?.problem?.code === "merge_conflict";
  return (
    <article>
      <header class="title">
        <h2>Merge {source} into</h2>
        <TargetPicker source={source} target={target} />
        <span class="grow" />
        <button type="button" class="primary" disabled={busy || !report || outcome?.problem !== null || report.outcome === "up_to_date"} onClick={apply}>
          {busy ? "Merging…" : `Merge into ${target}`}
        </button>
      </header>
      {!outcome && <Loading what="the comparison" />}
      {outcome?.problem && !isConflict && <ProblemBox problem={outcome.problem} />}
      {report && <Verdict report={report} open={open.length} source={source} target={target} />}
      {conflicts.map((conflict) => (
        <Conflict
          key={conflict.table}
          conflict={conflict}
          source={source}
          target={target}
          choice={choices[conflict.table]}
          choose={(choice) => setChoices({ ...choices, [conflict.table]: choice })}
        />
      ))}
      <h3>Differences from {target} to {source}</h3>
      <DiffView from={target} to={source} />
    </article>
  );
}

function TargetPicker({ source, target }: { source: string; target: string }) {
  const refs = useLoad("refs", loadRefs);
  const names = (refs.value?.branches ?? []).map(({ name }) => name).filter((name) => name !== source);
  return (
    <select aria-label="Target" value={target} onChange={(event) => go(["catalog", "compare", source, event.currentTarget.value])}>
      {(names.includes(target) ? names : [target, ...names]).map((name) => <option>{name}</option>)}
    </select>
  );
}

function Verdict(props: { report: MergeReport; open: number; source: string; target: string }) {
  const { report, open, source, target } = props;
  if (report.outcome === "up_to_date") {
    return <Empty title={`${target} already contains ${source}`}><p>There is nothing to merge.</p></Empty>;
  }
  if (open > 0) {
    return (
      <p class="verdict bad" role="status">
        {open === 1 ? "One table conflicts" : `${open} tables conflict`}. Choose a side for each, or change one side and compare again.
      </p>
    );
  }
  return (
    <p class="verdict good" role="status">
      The merge is possible. It changes {report.tables.length === 1 ? "one table" : `${report.tables.length} tables`}: {report.tables.join(", ")}.
    </p>
  );
}

interface ConflictProps {
  conflict: MergeConflict;
  source: string;
  target: string;
  choice: Choice | undefined;
  choose(choice: Choice): void;
}

function Conflict({ conflict, source, target, choice, choose }: ConflictProps) {
  const { table, source_change, target_change } = conflict;
  return (
    <section class="card conflict" aria-label={`Conflict in ${table}`}>
      <header class="title">
        <b>{table}</b>
        <span class={choice ? "status good" : "status bad"}>{choice ? "✓ resolved" : "✕ conflict"}</span>
        <span class="grow" />
        <label>
          <input type="radio" name={table} checked={choice === "ours"} onChange={() => choose("ours")} /> keep {target}
        </label>
        <label>
          <input type="radio" name={table} checked={choice === "theirs"} onChange={() => choose("theirs")} /> take {source}
        </label>
      </header>
      <p class="muted">
        {target_change} on {target}
        {conflict.target && ` by “${conflict.target.message}” (${conflict.target.author})`}, {source_change} on {source}
        {conflict.source && ` by “${conflict.source.message}” (${conflict.source.author})`}
      </p>
      {(conflict.causes ?? []).map((cause) => <Cause cause={cause} source={source} target={target} />)}
    </section>
  );
}

function Cause({ cause, source, target }: { cause: ConflictCause; source: string; target: string }) {
  const text = (value: unknown) => (value === null || value === undefined ? "NULL" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const rows = cause.changed ?? [];
  return (
    <>
      <p>{cause.message}</p>
      {rows.length > 0 && (
        <div class="scroll">
          <table class="list">
            <thead>
              <tr><th>Row</th><th>Column</th><th>Before</th><th>{target}</th><th>{source}</th></tr>
            </thead>
            <tbody>
              {rows.flatMap((row) => {
                const key = row.columns.filter(({ changed }) => !changed).map(({ column, base }) => `${column} ${text(base)}`).slice(0, 4).join(", ");
                return row.columns.filter(({ changed }) => changed).map(({ column, base, source, target }) => (
                  <tr>
                    <td class="muted">{key}</td>
                    <td><b>{column}</b></td>
                    <td>{text(base)}</td>
                    <td>{row.target_removed ? "removed" : text(target)}</td>
                    <td>{row.source_removed ? "removed" : text(source)}</td>
                  </tr>
                ));
              })}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}
