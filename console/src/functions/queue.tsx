// Jobs that wait or run, with the reasons why they wait.

import { call } from "../api";
import { useLoad } from "../lake";
import { JobList, REFRESH_MS } from "../runs/screen";
import type { Job } from "../types";
import { Empty, Loading, ProblemBox } from "../ui/parts";

export function Queue() {
  const path = "/v1/jobs?status=queued,running&limit=200";
  const found = useLoad("queue", (signal) => call<Job[]>(path, { signal }), REFRESH_MS);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="the queue" />;
  if (found.value.length === 0) return <Empty title="No job waits or runs" />;
  return <JobList jobs={found.value} kinds />;
}
