// Statistics of one column of a result: nulls, distinct values, range, and most frequent values.

import { useMemo } from "preact/hooks";
import { count } from "../format";
import type { Result } from "./result";

/** Maximum number of distinct values that are counted. */
const DISTINCT_MAX = 200_000;

interface Summary {
  nulls: number;
  distinct: number;
  isExact: boolean;
  min: string | null;
  max: string | null;
  mean: number | null;
  frequent: [string, number][];
}

function summarize(result: Result, column: number): Summary {
  const { numeric, temporal } = result.columns[column]!;
  const counts = new Map<string, number>();
  let nulls = 0;
  let sum = 0;
  let low = null as { order: number | string; row: number } | null;
  let high = null as typeof low;
  for (let row = 0; row < result.rows; row += 1) {
    const text = result.text(row, column);
    if (text === null) {
      nulls += 1;
      continue;
    }
    const order = numeric ? Number(text) : text;
    if (typeof order === "number") sum += order;
    if (low === null || order < low.order) low = { order, row };
    if (high === null || order > high.order) high = { order, row };
    if (counts.has(text) || counts.size < DISTINCT_MAX) counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const values = result.rows - nulls;
  return {
    nulls,
    distinct: counts.size,
    isExact: counts.size < DISTINCT_MAX,
    min: low && result.text(low.row, column),
    max: high && result.text(high.row, column),
    mean: numeric && !temporal && values ? sum / values : null,
    frequent: [...counts].sort((one, other) => other[1] - one[1]).slice(0, 8),
  };
}

export function Statistics(props: { result: Result; column: number; close: () => void }) {
  const { result, column } = props;
  const found = useMemo(() => summarize(result, column), [result, column]);
  const { name, type } = result.columns[column]!;
  const most = found.frequent[0]?.[1] ?? 1;
  const lines: [string, string][] = [
    ["rows", count(result.rows)],
    ["null", `${count(found.nulls)} (${percent(found.nulls, result.rows)})`],
    ["distinct", `${found.isExact ? "" : "over "}${count(found.distinct)}`],
    ["minimum", found.min ?? "–"],
    ["maximum", found.max ?? "–"],
  ];
  if (found.mean !== null) lines.push(["mean", found.mean.toPrecision(6)]);
  return (
    <aside class="side-panel" aria-label={`Statistics of ${name}`}>
      <header>
        <b>{name}</b> <small>{type}</small>
        <span class="grow" />
        <button type="button" class="quiet" onClick={props.close} aria-label="Close">✕</button>
      </header>
      <dl>
        {lines.map(([label, value]) => (
          <>
            <dt>{label}</dt>
            <dd title={value}>{value}</dd>
          </>
        ))}
      </dl>
      <h3>Most frequent</h3>
      <ul class="bars">
        {found.frequent.map(([value, times]) => (
          <li>
            <span class="bar" style={{ width: `${(times / most) * 100}%` }} />
            <span class="bar-text">{value || "(empty)"}</span>
            <small>{count(times)}</small>
          </li>
        ))}
      </ul>
    </aside>
  );
}

const percent = (part: number, all: number) => (all ? `${((100 * part) / all).toFixed(1)} %` : "–");
