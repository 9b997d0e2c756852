// One function: a form that calls it, and its last calls.

import { useState } from "preact/hooks";
import { type Problem, call, segment, send, toProblem } from "../api";
import { useLoad } from "../lake";
import { JobList, REFRESH_MS } from "../runs/screen";
import type { Job } from "../types";
import { Field } from "../ui/form";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import { calledFunction } from "./called";
import type { FunctionSummary } from "./screen";

/** Maximum number of calls of all functions that are searched. */
const CALLS_MAX = 1000;

/** Maximum number of calls in the list. */
const SHOWN_MAX = 100;

/** Returns the value of an argument's text: JSON, or else the text. */
export function argumentOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function FunctionPage({ name }: { name: string }) {
  const found = useLoad(`function ${name}`, async (signal) => {
    const [functions, jobs] = await Promise.all([
      call<FunctionSummary[]>("/v1/functions", { signal }),
      call<Job[]>(`/v1/jobs?kind=function&limit=${CALLS_MAX}`, { signal }),
    ]);
    return {
      one: functions.find((one) => one.name === name),
      jobs: jobs.filter(({ summary }) => calledFunction(summary) === name).slice(0, SHOWN_MAX),
    };
  }, REFRESH_MS);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="the function" />;
  const { one, jobs } = found.value;
  if (!one) return <Empty title={`The deployed version has no function ${name}`} />;
  return (
    <article>
      <header class="title">
        <h2>{name}</h2>
        <small>{one.defined_at}</small>
      </header>
      <Invoke one={one} called={found.reload} />
      <h3>Last calls</h3>
      {jobs.length === 0 ? <p class="muted">The function has not been called yet.</p> : <JobList jobs={jobs} kinds />}
    </article>
  );
}

function Invoke({ one, called }: { one: FunctionSummary; called: () => void }) {
  const [texts, setTexts] = useState<Record<string, string>>({});
  const [result, setResult] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    setResult(null);
    const given = Object.entries(texts).filter(([, text]) => text !== "");
    const values = Object.fromEntries(given.map(([key, text]) => [key, argumentOf(text)]));
    try {
      const response = await send(`/v1/functions/${segment(one.name)}/invoke`, { body: { arguments: values } });
      setResult(await response.text());
    } catch (error) {
      setProblem(toProblem(error));
    }
    setBusy(false);
    called();
  };
  return (
    <form class="card form" onSubmit={submit}>
      {one.arguments.map(({ name, required }) => (
        <Field
          key={name}
          label={required ? name : `${name} (optional)`}
          value={texts[name] ?? ""}
          required={required}
          placeholder="JSON, or text"
          change={(text) => setTexts({ ...texts, [name]: text })}
        />
      ))}
      <button class="primary" disabled={busy}>{busy ? "Running…" : "Call"}</button>
      {result !== null && <pre class="code" aria-label="Result">{result}</pre>}
      {problem && <ProblemBox problem={problem} />}
    </form>
  );
}
