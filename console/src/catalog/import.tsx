// The import of files from this computer: upload, plan, start, and follow the job.

import { useEffect, useState } from "preact/hooks";
import { ApiError, type Problem, call, lines, segment, send, toProblem } from "../api";
import { bytes, count } from "../format";
import { changes } from "../lake";
import { go } from "../route";
import { Dialog, Loading, ProblemBox, toast } from "../ui/parts";

interface ImportPlan {
  table: string;
  creates_table: boolean;
  files: { path: string; bytes: number; format: string }[];
  columns: { name: string; type: string; exists: boolean; reason: string; hint?: string | null }[];
  skipped: string[];
}

interface JobEvent {
  type: string;
  stage?: string;
  done?: number;
  total?: number | null;
  unit?: string;
  status?: string;
  error?: Problem | null;
}

type Phase = "uploading" | "planning" | "ready" | "importing";

/** Returns a table's name for a file: `Flights 2013.csv.gz` becomes `flights_2013`. */
function tableFor(file: File): string {
  const stem = file.name.replace(/\.(gz|zst)$/i, "").replace(/\.[^.]*$/, "");
  const name = stem.toLowerCase().replace(/[^a-z0-9_]+/g, "_").replace(/^_+|_+$/g, "");
  return /^[a-z_]/.test(name) ? name : `table_${name}`;
}

export function ImportDialog({ files, at, close }: { files: File[]; at: string; close: () => void }) {
  const [table, setTable] = useState(tableFor(files[0]!));
  const [sources, setSources] = useState<string[]>([]);
  const [plan, setPlan] = useState<ImportPlan | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [phase, setPhase] = useState<Phase>("uploading");
  const [progress, setProgress] = useState("");
  const fail = (error: unknown) => {
    setProblem(toProblem(error));
    setPhase("ready");
  };
  useEffect(() => {
    const abort = new AbortController();
    upload(files, abort.signal, setProgress)
      .then(setSources)
      .catch((error) => abort.signal.aborted || fail(error));
    return () => abort.abort();
  }, [files]);
  useEffect(() => {
    if (sources.length === 0) return;
    const abort = new AbortController();
    setPhase("planning");
    setProblem(null);
    // Wait until the user pauses typing the name.
    const timer = setTimeout(() => {
      call<ImportPlan>("/v1/imports", {
        body: { table, sources, ref: at, dry_run: true },
        signal: abort.signal,
      })
        .then((found) => {
          setPlan(found);
          setPhase("ready");
        })
        .catch((error) => abort.signal.aborted || (setPlan(null), fail(error)));
    }, 300);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [sources, table, at]);
  const start = async (event: Event) => {
    event.preventDefault();
    setPhase("importing");
    setProblem(null);
    try {
      await follow({ table, sources, ref: at }, setProgress);
      changes.update((round) => round + 1);
      toast(`Imported into ${table}.`);
      close();
      go(["catalog", "table", plan?.table.includes(".") ? plan.table : `public.${table}`]);
    } catch (error) {
      fail(error);
    }
  };
  return (
    <Dialog title={`Import into ${at}`} close={close}>
      <form class="form" onSubmit={start}>
        <p class="muted">{files.map((file) => `${file.name} (${bytes(file.size)})`).join(", ")}</p>
        <label>
          Table
          <input value={table} required onInput={(event) => setTable(event.currentTarget.value)} />
        </label>
        {phase !== "ready" && <Loading what={`${phase} ${progress}`.trim()} />}
        {problem && <ProblemBox problem={problem} />}
        {plan && phase === "ready" && !problem && <Plan plan={plan} />}
        <button class="primary" disabled={phase !== "ready" || !plan || problem !== null}>
          {plan && !plan.creates_table ? "Append rows" : "Create table"}
        </button>
      </form>
    </Dialog>
  );
}

async function upload(files: File[], signal: AbortSignal, progress: (text: string) => void) {
  const paths: string[] = [];
  for (const [index, file] of files.entries()) {
    progress(`file ${index + 1} of ${files.length}`);
    const path = `/v1/uploads?name=${segment(file.name)}`;
    const response = await send(path, { method: "POST", bytes: file, signal });
    paths.push(((await response.json()) as { path: string }).path);
  }
  progress("");
  return paths;
}

/** Starts an import and waits for its end. Throws the job's error. */
async function follow(request: object, progress: (text: string) => void) {
  const job = await call<{ id: string }>("/v1/imports", { body: request });
  const response = await send(`/v1/jobs/${job.id}/events?follow=true`, { accept: "application/x-ndjson" });
  for await (const event of lines<JobEvent>(response)) {
    if (event.type === "progress") {
      progress(`${event.stage}: ${count(event.done ?? 0)}${event.total ? ` of ${count(event.total)}` : ""} ${event.unit}`);
    }
    if (event.type === "ended" && event.status !== "succeeded") {
      throw new ApiError(event.error ?? { code: event.status ?? "failed", message: `the import was ${event.status}` });
    }
  }
}

function Plan({ plan }: { plan: ImportPlan }) {
  if (plan.files.length === 0) {
    return <p class="muted">Skipped files that were imported before: {plan.skipped.length}.</p>;
  }
  return (
    <div class="scroll plan-columns">
      <table class="list">
        <thead>
          <tr><th>Column</th><th>Type</th><th>{plan.creates_table ? "New table" : "Existing table"}</th></tr>
        </thead>
        <tbody>
          {plan.columns.map(({ name, type, reason, hint }) => (
            <tr>
              <td><b>{name}</b></td>
              <td><code>{type}</code></td>
              <td class="muted wide">{reason}{hint && ` – ${hint}`}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
