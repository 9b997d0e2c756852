// The plan of a statement: `EXPLAIN`, or `EXPLAIN ANALYZE` with time and rows per operator.

import { useEffect, useState } from "preact/hooks";
import { type Problem, toProblem } from "../api";
import { bytes, count, duration, plural } from "../format";
import { Loading, ProblemBox } from "../ui/parts";
import { run } from "./result";

interface Operator {
  depth: number;
  name: string;
  detail: string;
  rows: number | null;
  ms: number | null;
  /** Bytes that a scan read. */
  bytes: number | null;
}

const UNITS: Record<string, number> = { ns: 1e-6, "µs": 1e-3, us: 1e-3, ms: 1, s: 1000, m: 60_000 };
const MULTIPLES: Record<string, number> = { K: 1e3, M: 1e6, B: 1e9 };

/** Returns a metric such as `output_rows=109.1 K`. */
function metric(metrics: string, name: string): number | null {
  const found = new RegExp(`\\b${name}=([\\d.,]+) ?([KMB]?)`).exec(metrics);
  return found ? Number(found[1]!.replaceAll(",", "")) * (MULTIPLES[found[2]!] ?? 1) : null;
}

/** Replaces the paths of a scan by the table's name and the number of files. */
function shortened(detail: string): string {
  return detail.replace(/file_groups=\{\d+ groups?: (.*?)\}/, (whole, groups: string) => {
    const table = /^\[*(.*?)-[0-9a-f]{8}\/data\//.exec(groups)?.[1]?.replaceAll("/", ".");
    if (!table) return whole;
    const files = new Set(groups.replace(/[[\]]/g, "").split(", ").map((file) => file.replace(/:\d+\.\.\d+$/, "")));
    const number = groups.includes("...") ? "many files" : plural(files.size, "file");
    return `${table.replace(/^public\./, "")}, ${number}`;
  });
}

/** Parses a plan's text: one operator per line, children indented. */
export function parsePlan(text: string): Operator[] {
  return text.split("\n").filter((line) => line.trim()).map((line) => {
    const indent = line.length - line.trimStart().length;
    const metrics = /,? ?metrics=\[(.*)\]$/.exec(line.trim())?.[1] ?? "";
    const body = line.trim().replace(/,? ?metrics=\[.*\]$/, "");
    const colon = body.indexOf(": ");
    const time = /elapsed_compute=([\d.]+)(ns|µs|us|ms|s|m)/.exec(metrics);
    const scan = /time_elapsed_scanning_total=([\d.]+)(ns|µs|us|ms|s|m)/.exec(metrics) ?? time;
    return {
      depth: indent / 2,
      name: colon < 0 ? body : body.slice(0, colon),
      detail: colon < 0 ? "" : shortened(body.slice(colon + 2)),
      rows: metric(metrics, "output_rows"),
      ms: scan ? Number(scan[1]) * UNITS[scan[2]!]! : null,
      bytes: metric(metrics, "bytes_scanned"),
    };
  });
}

interface Found {
  kind: string;
  operators: Operator[];
}

const KINDS: Record<string, string> = {
  "Plan with Metrics": "Measured plan",
  physical_plan: "Plan",
  logical_plan: "Logical plan",
};

async function explain(sql: string, ref: string, analyze: boolean, signal: AbortSignal): Promise<Found[]> {
  const result = await run(`EXPLAIN ${analyze ? "ANALYZE " : ""}${sql}`, ref, signal);
  const found: Found[] = [];
  for (let row = 0; row < result.rows; row += 1) {
    const text = result.text(row, result.columns.length - 1) ?? "";
    const kind = result.columns.length > 1 ? (result.text(row, 0) ?? "") : "plan";
    found.push({ kind: KINDS[kind] ?? kind.replaceAll("_", " "), operators: parsePlan(text) });
  }
  return found.reverse();
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
  const [first, ...others] = plans ?? [];
  return (
    <div class="plan">
      <div class="toolbar flush">
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
      {first && <PlanTable plan={first} />}
      {others.map((plan) => (
        <details>
          <summary>{plan.kind}</summary>
          <PlanTable plan={plan} />
        </details>
      ))}
    </div>
  );
}

function PlanTable({ plan }: { plan: Found }) {
  const measured = plan.operators.some(({ rows, ms }) => rows !== null || ms !== null);
  const longest = Math.max(...plan.operators.map(({ ms }) => ms ?? 0), 0.001);
  return (
    <div class="scroll">
      <table class="plan-table">
        {measured && (
          <thead>
            <tr><th>Operator</th><th class="number">Rows</th><th class="number">Read</th><th class="number">Time, all threads</th></tr>
          </thead>
        )}
        <tbody>
          {plan.operators.map(({ depth, name, detail, rows, ms, bytes: read }) => (
            <tr>
              <td style={{ paddingLeft: `${8 + depth * 18}px` }}>
                <b>{name}</b> <code title={detail}>{detail}</code>
              </td>
              {measured && <td class="number">{rows === null ? "" : count(rows)}</td>}
              {measured && <td class="number">{read === null ? "" : bytes(read)}</td>}
              {measured && (
                <td class="number plan-time">
                  <span class="bar" style={{ width: `${((ms ?? 0) / longest) * 100}%` }} />
                  <span>{ms === null ? "" : ms < 1 ? `${Math.round(ms * 1000)} µs` : ms < 10 ? `${ms.toFixed(1)} ms` : duration(ms)}</span>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
