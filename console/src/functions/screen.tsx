// The screen Functions: deployed functions, jobs of all kinds, environments, triggers and events.

import { useState } from "preact/hooks";
import { call } from "../api";
import { bytes, duration } from "../format";
import { useLoad } from "../lake";
import { link, useRoute } from "../route";
import { JobList, REFRESH_MS } from "../runs/screen";
import { RunPage } from "../runs/run";
import type { Job } from "../types";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import { SubNav } from "../ui/sub_nav";
import { calledFunction } from "./called";
import { Environments } from "./environments";
import { Events } from "./events";
import { FunctionPage } from "./function";
import { Queue } from "./queue";
import { Triggers } from "./triggers";

const PARTS = [
  { title: "Functions", path: ["functions"] },
  { title: "Jobs", path: ["functions", "jobs"] },
  { title: "Queue", path: ["functions", "queue"] },
  { title: "Environments", path: ["functions", "environments"] },
  { title: "Triggers", path: ["functions", "triggers"] },
  { title: "Events", path: ["functions", "events"] },
];

export function FunctionsScreen() {
  const { path } = useRoute();
  const part = path[1];
  return (
    <>
      <SubNav parts={PARTS} active={part === "job" ? "functions/jobs" : part === "function" ? "functions" : path.slice(0, 2).join("/")} />
      <div class="page">
        {part === undefined && <Functions />}
        {part === "jobs" && <Jobs />}
        {part === "job" && path[2] && <RunPage id={path[2]} key={path[2]} />}
        {part === "function" && path[2] && <FunctionPage name={path[2]} key={path[2]} />}
        {part === "queue" && <Queue />}
        {part === "environments" && <Environments />}
        {part === "triggers" && <Triggers />}
        {part === "events" && <Events trigger={path[2]} key={path[2] ?? ""} />}
      </div>
    </>
  );
}

export interface FunctionSummary {
  name: string;
  defined_at: string;
  arguments: { name: string; required: boolean }[];
  memory_bytes: number;
  timeout_ms: number;
  reuse: boolean;
}

interface Statistics {
  calls: number;
  failed: number;
  cold: number;
  running: number;
  wait: number;
  p50: number;
  p95: number;
}

/** Sums the latest calls of each function. */
function statistics(jobs: Job[]): Map<string, Statistics> {
  const groups = new Map<string, Job[]>();
  for (const job of jobs) {
    const name = calledFunction(job.summary);
    groups.set(name, [...(groups.get(name) ?? []), job]);
  }
  const sum = (jobs: Job[], of: (job: Job) => number) => jobs.reduce((total, job) => total + of(job), 0);
  return new Map(
    [...groups].map(([name, all]) => {
      const times = all.map(({ usage }) => usage.wall_ms).sort((one, other) => one - other);
      const at = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0;
      return [name, {
        calls: all.length,
        failed: all.filter(({ status }) => status === "failed").length,
        cold: sum(all, ({ usage }) => usage.cold_starts),
        running: all.filter(({ status }) => status === "running" || status === "queued").length,
        wait: sum(all, ({ usage }) => usage.queue_ms) / all.length,
        p50: at(0.5),
        p95: at(0.95),
      }];
    }),
  );
}

function Functions() {
  const found = useLoad("functions", async (signal) => {
    const [functions, jobs] = await Promise.all([
      call<FunctionSummary[]>("/v1/functions", { signal }),
      call<Job[]>("/v1/jobs?kind=function&limit=1000", { signal }),
    ]);
    return { functions, statistics: statistics(jobs) };
  }, REFRESH_MS);
  if (found.problem?.code === "deployment_not_found" || found.value?.functions.length === 0) {
    return (
      <Empty title="No function is deployed">
        <p>Write a function, and deploy the project:</p>
        <pre>{"import headwater\n\n@headwater.function()\ndef greet(name):\n    return f\"Hello, {name}\""}</pre>
        <pre>headwater deploy</pre>
      </Empty>
    );
  }
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="functions" />;
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th>Function</th><th>Defined at</th><th class="number">Memory</th><th class="number">Limit</th>
            <th class="number">Calls</th><th class="number">Running</th><th class="number">Failed</th>
            <th class="number">Cold</th><th class="number">Median</th><th class="number">95 %</th><th class="number">Waited</th>
          </tr>
        </thead>
        <tbody>
          {found.value.functions.map(({ name, defined_at, arguments: all, memory_bytes, timeout_ms }) => {
            const one = found.value!.statistics.get(name);
            return (
              <tr key={name}>
                <td><a href={link(["functions", "function", name])}><b>{name}</b></a><small>({all.map(({ name, required }) => (required ? name : `${name}?`)).join(", ")})</small></td>
                <td><code>{defined_at}</code></td>
                <td class="number">{bytes(memory_bytes)}</td>
                <td class="number">{duration(timeout_ms)}</td>
                <td class="number">{one?.calls ?? 0}</td>
                <td class="number">{one?.running ?? 0}</td>
                <td class={one?.failed ? "number bad" : "number"}>{one?.failed ?? 0}</td>
                <td class="number">{one?.cold ?? 0}</td>
                <td class="number">{one ? duration(one.p50) : ""}</td>
                <td class="number">{one ? duration(one.p95) : ""}</td>
                <td class="number">{one ? duration(one.wait) : ""}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      <p class="muted">The numbers are computed from the last 1,000 calls.</p>
    </div>
  );
}

const KINDS = ["query", "import", "run", "trigger", "maintenance", "function", "merge", "cherry_pick", "revert", "diff", "commit", "backfill"];
const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled", "interrupted"];

function Jobs() {
  const [kind, setKind] = useState("");
  const [status, setStatus] = useState("");
  const path = `/v1/jobs?${new URLSearchParams({ limit: "200", ...(kind && { kind }), ...(status && { status }) })}`;
  const found = useLoad(path, (signal) => call<Job[]>(path, { signal }), REFRESH_MS);
  const filter = (label: string, value: string, set: (value: string) => void, all: string[]) => (
    <label>
      {label}
      <select value={value} onChange={(event) => set(event.currentTarget.value)}>
        <option value="">all</option>
        {all.map((one) => <option>{one}</option>)}
      </select>
    </label>
  );
  return (
    <>
      <div class="toolbar flush">
        {filter("Kind", kind, setKind, KINDS)}
        {filter("Status", status, setStatus, STATUSES)}
      </div>
      {found.problem && <ProblemBox problem={found.problem} retry={found.reload} />}
      {found.loading && <Loading what="jobs" />}
      {found.value && (found.value.length ? <JobList jobs={found.value} kinds /> : <Empty title="No job matches" />)}
    </>
  );
}
