// The state of a run, from its event stream.

import { useEffect, useState } from "preact/hooks";
import { type Problem, lines, send, toProblem } from "../api";
import type { StepReport } from "../types";
import type { Step } from "./dag";

interface PlannedStep {
  name: string;
  kind: string;
  parents: string[];
}

export interface LogLine {
  time: string;
  stream: string;
  model?: string;
  file?: string;
  line?: number;
  text: string;
}

type Event = { sequence: number; time: string } & (
  | { type: "started" }
  | { type: "planned"; steps: PlannedStep[] }
  | { type: "environment"; environment: string; python: string; packages: Record<string, string> }
  | { type: "step_started"; step: string }
  | ({ type: "step_ended" } & StepReport)
  | { type: "value_ended"; report: Record<string, unknown> }
  | ({ type: "log" } & LogLine)
  | { type: "progress"; stage: string; done: number; total?: number; unit: string }
  | { type: "ended"; status: string; error?: Problem }
);

export interface RunState {
  steps: Step[];
  log: LogLine[];
  /** The job's status once it has ended. */
  ended: string | null;
  progress: string;
}

/** Maximum number of lines of the log on the page. */
const LINES_MAX = 5_000;

export const empty: RunState = { steps: [], log: [], ended: null, progress: "" };

/** Returns the state after an event. */
export function next(state: RunState, event: Event): RunState {
  switch (event.type) {
    case "planned":
      return {
        ...state,
        steps: event.steps.map(({ name, kind, parents }) => ({ name, kind, parents, state: "queued" })),
      };
    case "step_started":
      return withStep(state, event.step, { state: "running" });
    case "step_ended":
      return withStep(state, event.step, { state: event.status, kind: event.kind, report: event });
    case "log":
      return { ...state, log: [...state.log.slice(-LINES_MAX + 1), event] };
    case "progress":
      return { ...state, progress: `${event.stage}: ${event.done}${event.total ? ` of ${event.total}` : ""} ${event.unit}` };
    case "ended":
      return { ...state, ended: event.status, progress: "" };
    default:
      return state;
  }
}

function withStep(state: RunState, name: string, part: Partial<Step>): RunState {
  const known = state.steps.some((step) => step.name === name);
  const steps = known ? state.steps : [...state.steps, { name, kind: "", parents: [], state: "queued" }];
  return { ...state, steps: steps.map((step) => (step.name === name ? { ...step, ...part } : step)) };
}

/** Follows a job's events until its end; continues after a lost connection. */
export function useRunState(job: string): { state: RunState; problem: Problem | null } {
  const [state, setState] = useState<RunState>(empty);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    setState(empty);
    setProblem(null);
    follow(job, abort.signal, setState).catch((error) => abort.signal.aborted || setProblem(toProblem(error)));
    return () => abort.abort();
  }, [job]);
  return { state, problem };
}

async function follow(job: string, signal: AbortSignal, show: (state: RunState) => void) {
  let state = empty;
  let after = 0;
  let scheduled = 0;
  // Many events arrive at once: one rendering per frame is enough.
  const schedule = () => {
    scheduled ||= requestAnimationFrame(() => {
      scheduled = 0;
      show(state);
    });
  };
  for (let attempt = 0; state.ended === null && attempt < 5; attempt += 1) {
    const path = `/v1/jobs/${job}/events?follow=true&after=${after}`;
    const response = await send(path, { accept: "application/x-ndjson", signal });
    try {
      for await (const event of lines<Event>(response)) {
        state = next(state, event);
        after = event.sequence;
        attempt = 0;
        schedule();
      }
    } catch (error) {
      if (signal.aborted) throw error;
    }
    if (state.ended === null) await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
