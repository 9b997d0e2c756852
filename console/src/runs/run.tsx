// One job: its graph if it is a run, its log as it is written, and the usage of each step.

import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api";
import { go, link } from "../route";
import { bytes, cost, count, duration, moment } from "../format";
import { useLoad } from "../lake";
import type { Job } from "../types";
import { Empty, Loading, ProblemBox, Status, attempt } from "../ui/parts";
import { Dag, type Step } from "./dag";
import { type LogLine, useRunState } from "./events";
import { elapsed } from "./screen";

export function RunPage({ id }: { id: string }) {
  const { state, problem } = useRunState(id);
  const found = useLoad(`job ${id} ${state.ended}`, (signal) => call<Job>(`/v1/jobs/${id}`, { signal }), state.ended ? 0 : 2000);
  const last = useRef<Job | null>(null);
  if (found.value) last.current = found.value;
  const [chosen, setChosen] = useState<string | null>(null);
  const job = found.value ?? last.current;
  if (!job) return found.problem ? <ProblemBox problem={found.problem} /> : <Loading what="the job" />;
  const shown = chosen ? state.log.filter(({ model }) => model === chosen) : state.log;
  const step = state.steps.find(({ name }) => name === chosen);
  // The branch of a failed run is kept; the hint of the run's error contains its name.
  const branch = /run\/[0-9a-f-]{36}/.exec(job.error?.hint ?? "")?.[0];
  const running = job.status === "running" || job.status === "queued";
  const stop = () => attempt(async () => void (await call(`/v1/jobs/${id}/stop`, { method: "POST" })));
  const rerun = () =>
    attempt(async () => {
      const next = await call<Job>(`/v1/jobs/${id}/rerun`, { method: "POST" });
      go(["runs", next.id]);
    });
  return (
    <article>
      <header class="title">
        <h2 class="wide">{job.summary || job.kind}</h2>
        <Status status={state.ended ?? job.status} />
        <small>
          {job.kind} on {job.reference ?? "no ref"} by {job.author} · {moment(job.created)} · {elapsed(job)}
          {job.cost ? ` · ${cost(job.cost)}` : ""}
          {running && state.progress && ` · ${state.progress}`}
        </small>
        <span class="grow" />
        {branch && (
          <a class="button" href={link(["catalog", "compare", branch, job.reference ?? "main"])}>Compare its branch</a>
        )}
        {job.kind === "run" && !running && <button type="button" onClick={rerun}>Run again</button>}
        {running && <button type="button" class="danger" onClick={stop}>Stop</button>}
      </header>
      {problem && <ProblemBox problem={problem} />}
      {job.error && <ProblemBox problem={job.error} />}
      {state.steps.length > 0 && <Dag label="Graph of the run" steps={state.steps} chosen={chosen} choose={(name) => setChosen(chosen === name ? null : name)} />}
      {step?.report?.error && <ProblemBox problem={step.report.error} />}
      {state.steps.length > 0 && <Steps steps={state.steps} choose={setChosen} />}
      {(job.waits_for ?? []).map((reason) => <p class="muted">{waiting(reason)}</p>)}
      <h3>
        Log{chosen && <> of {chosen} <button type="button" class="quiet" onClick={() => setChosen(null)}>show all</button></>}
      </h3>
      {shown.length === 0 ? <p class="muted">{running ? "Nothing was printed yet." : "Nothing was printed."}</p> : <Log lines={shown} />}
      {job.kind !== "run" && <UsageLines job={job} />}
    </article>
  );
}

/** Returns the text for the reason why a job waits. A call's reason is already a sentence. */
export const waiting = (reason: string) => (reason.includes("waits for") ? reason : `waits for ${reason}`);

function Steps({ steps, choose }: { steps: Step[]; choose: (name: string) => void }) {
  const longest = Math.max(...steps.map(({ report }) => report?.usage.wall_ms ?? 0), 1);
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th>Step</th>
            <th>Kind</th>
            <th>State</th>
            <th class="number">Rows</th>
            <th>Time</th>
            <th class="number">Waited</th>
            <th class="number">CPU</th>
            <th class="number">Memory</th>
            <th class="number">Read</th>
            <th class="number">Cost</th>
          </tr>
        </thead>
        <tbody>
          {steps.map(({ name, kind, state, report }) => {
            const usage = ["unchanged", "reused", "skipped"].includes(state) ? undefined : report?.usage;
            return (
              <tr key={name}>
                <td><button type="button" class="quiet" onClick={() => choose(name)}>{name}</button></td>
                <td>{kind}</td>
                <td>
                  <Status status={state} />
                  {report?.reuses && <small> from {report.reuses}</small>}
                </td>
                <td class="number">{report?.rows == null ? "" : count(report.rows)}</td>
                <td class="plan-time">
                  {usage && <span class="bar" style={{ width: `${(usage.wall_ms / longest) * 100}%` }} />}
                  <span>{usage ? duration(usage.wall_ms) : ""}</span>
                </td>
                <td class="number">{usage ? duration(usage.queue_ms + usage.environment_ms) : ""}</td>
                <td class="number">{usage ? duration(usage.cpu_us / 1000) : ""}</td>
                <td class="number">{usage ? bytes(usage.memory_bytes_peak) : ""}</td>
                <td class="number">{usage ? bytes(usage.bytes_read) : ""}</td>
                <td class="number">{report?.cost ? cost(report.cost) : ""}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function Log({ lines }: { lines: LogLine[] }) {
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  return (
    <div
      class="log"
      ref={box}
      tabIndex={0}
      onScroll={({ currentTarget: it }) => {
        atEnd.current = it.scrollTop + it.clientHeight > it.scrollHeight - 20;
      }}
    >
      {lines.map((line) => (
        <div class={`log-${line.stream}`}>
          <small>{line.time.slice(11, 19)}</small>
          {line.model && <b>{line.model}</b>}
          <span title={line.file ? `${line.file}:${line.line ?? ""}` : undefined}>{line.text}</span>
        </div>
      ))}
    </div>
  );
}

/** Shows the time and the resources that a job used. */
function UsageLines({ job }: { job: Job }) {
  const { usage } = job;
  const lines: [string, string, number][] = [
    ["time", duration(usage.wall_ms), usage.wall_ms],
    ["processor", duration(usage.cpu_us / 1000), usage.cpu_us],
    ["peak memory", bytes(usage.memory_bytes_peak), usage.memory_bytes_peak],
    ["read", `${bytes(usage.bytes_read)}, ${count(usage.rows_read)} rows`, usage.bytes_read + usage.rows_read],
    ["written", `${bytes(usage.bytes_written)}, ${count(usage.rows_written)} rows`, usage.rows_written],
    ["in the queue", duration(usage.queue_ms), usage.queue_ms],
    ["environment", duration(usage.environment_ms), usage.environment_ms],
    ["cold starts", `${usage.cold_starts} of ${usage.calls} calls`, usage.calls],
  ];
  const shown = lines.filter(([, , value]) => value > 0);
  if (shown.length === 0) return <Empty title="Nothing was measured" />;
  return (
    <table class="list narrow">
      <tbody>
        {shown.map(([label, text]) => (
          <tr><td class="muted">{label}</td><td class="number">{text}</td></tr>
        ))}
      </tbody>
    </table>
  );
}
