// The plan of a statement: `EXPLAIN`, or `EXPLAIN ANALYZE` with time and rows per operator.

import { useEffect, useState } from "preact/hooks";
import { type Problem, toProblem } from "../api";
import { count } from "../format";
import { Loading, ProblemBox } from "../ui/parts";
import { run } from "./result";

interface Operator {
  depth: number;
  name: string;
  detail: string;
  rows: number | null;
  ms: number | null;
}

const UNITS: Record<string, number> = { ns: 1e-6, "µs": 1e-3, us: 1e-3, ms: 1, s: 1000, m: 60_000 };
const MULTIPLES: Record<string, number> = { K: 1e3, M: 1e6, B: 1e9 };

/** Parses a plan's text: one operator per line, children indented. */
export function parsePlan(text: string): Operator[] {
  return text.split("\n").filter((line) => line.trim()).map((line) => {
    const indent = line.length - line.trimStart().length;
    const metrics = /,? ?metrics=\[(.*)\]$/.exec(line.trim());
    const body = line.trim().replace(/,? ?metrics=\[.*\]$/, "");
    const colon = body.indexOf(": ");
    const rows = /output_rows=([\d.,]+) ?([KMB]?)/.exec(metrics?.[1] ?? "");
    const time = /elapsed_compute=([\d.]+)(ns|µs|us|ms|s|m)/.exec(metrics?.[1] ?? "");
    return {
      depth: indent / 2,
      name: colon < 0 ? body : body.slice(0, colon),
      detail: colon < 0 ? "" : body.slice(colon + 2),
      rows: rows ? Number(rows[1]!.replaceAll(",", "")) * (MULTIPLES[rows[2]!] ?? 1) : null,
      ms: time ? Number(time[1]) * UNITS[time[2]!]! : null,
    };
  });
}

interface Found {
  kind: string;
  operators: Operator[];
  text: string;
}

async function explain(sql: string, ref: string, analyze: boolean, signal: AbortSignal): Promise<Found[]> {
  const result = await run(`EXPLAIN ${analyze ? "ANALYZE " : ""}${sql}`, ref, signal);
  const found: Found[] = [];
  for (let row = 0; row < result.rows; row += 1) {
    const text = result.text(row, result.columns.length - 1) ?? "";
    const kind = result.columns.length > 1 ? (result.text(row, 0) ?? "") : "plan";
    found.push({ kind: kind.replaceAll("_", " "), operators: parsePlan(text), text });
  }
  return found;
}

export function Plan({ sql, at }: { sql: string; at: string }) {
  const [analyze, setAnalyze] = useState(false);
  const [plans, setPlans] = useState<Found[] | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    setPlans(null);
    setProblem(null);
    explain(sql, at, analyze, abort.signal)
      .then(setPlans)
      .catch((error) => abort.signal.aborted || setProblem(toProblem(error)));
    return () => abort.abort();
  }, [sql, at, analyze]);
  return (
    <div class="plan">
      <div class="toolbar">
        <label>
          <input
            type="checkbox"
            checked={analyze}
            onChange={(event) => setAnalyze(event.currentTarget.checked)}
          />
          Run it and measure each operator
        </label>
      </div>
      {problem && <ProblemBox problem={problem} />}
      {!plans && !problem && <Loading what="the plan" />}
      {[...(plans ?? [])].reverse().map((plan) => <PlanTable plan={plan} />)}
    </div>
  );
}

function PlanTable({ plan }: { plan: Found }) {
  const measured = plan.operators.some(({ rows, ms }) => rows !== null || ms !== null);
  const longest = Math.max(...plan.operators.map(({ ms }) => ms ?? 0), 0.001);
  return (
    <section>
      <h3>{plan.kind}</h3>
      <table class="plan-table">
        <tbody>
          {plan.operators.map(({ depth, name, detail, rows, ms }) => (
            <tr>
              <td style={{ paddingLeft: `${8 + depth * 18}px` }}>
                <b>{name}</b> <code>{detail}</code>
              </td>
              {measured && <td class="number">{rows === null ? "" : `${count(rows)} rows`}</td>}
              {measured && (
                <td class="number plan-time">
                  <span class="bar" style={{ width: `${((ms ?? 0) / longest) * 100}%` }} />
                  <span>{ms === null ? "" : `${ms.toFixed(ms < 10 ? 2 : 0)} ms`}</span>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
