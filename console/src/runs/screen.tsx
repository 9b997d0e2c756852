// The screen Runs: a list, and one run with its graph, log and steps.

import { ago, cost, duration, moment } from "../format";
import { useLoad } from "../lake";
import { call } from "../api";
import { link, useRoute } from "../route";
import type { Job } from "../types";
import { Empty, Loading, ProblemBox, Status } from "../ui/parts";
import { RunPage, waiting } from "./run";

/** Interval between refreshes of a list, in milliseconds. */
export const REFRESH_MS = 3000;

export function RunsScreen() {
  const { path } = useRoute();
  return <div class="page">{path[1] ? <RunPage id={path[1]} key={path[1]} /> : <Runs />}</div>;
}

function Runs() {
  const found = useLoad("runs", (signal) => call<Job[]>("/v1/jobs?kind=run&limit=200", { signal }), REFRESH_MS);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="runs" />;
  if (found.value.length === 0) {
    return (
      <Empty title="There are no runs yet">
        <p>A run computes the models of a project on a branch, and merges it when every check passed.</p>
        <pre>headwater run</pre>
      </Empty>
    );
  }
  return <JobList jobs={found.value} />;
}

/** Elapsed time of a job. */
export function elapsed({ started, ended }: Job): string {
  if (!started) return "";
  return duration((ended ? new Date(ended) : new Date()).getTime() - new Date(started).getTime());
}

export function JobList({ jobs, kinds = false }: { jobs: Job[]; kinds?: boolean }) {
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th>Status</th>
            {kinds && <th>Kind</th>}
            <th>What</th>
            <th>Ref</th>
            <th>Author</th>
            <th>Begun</th>
            <th class="number">Time</th>
            <th class="number">Cost</th>
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.id}>
              <td>
                <Status status={job.status} />
              </td>
              {kinds && <td>{job.kind}</td>}
              <td class="wide">
                <a href={link([kinds ? "functions" : "runs", ...(kinds ? ["job"] : []), job.id])}>{job.summary || job.id}</a>
                {(job.waits_for ?? []).map((reason) => <small> {waiting(reason)}</small>)}
                {job.error && <small class="bad"> {job.error.message}</small>}
              </td>
              <td>{job.reference}</td>
              <td>{job.author}</td>
              <td title={moment(job.created)}>{ago(job.created)}</td>
              <td class="number">{elapsed(job)}</td>
              <td class="number">{job.cost ? cost(job.cost) : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
