// A chart of a result: a mark and the columns of its axes, drawn by Observable Plot.

import { areaY, barX, barY, dot, lineY } from "@observablehq/plot";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count } from "../format";
import { drawPlot } from "../ui/plot";
import type { Result } from "./result";

/** Maximum number of rows of a chart. */
const ROWS_MAX = 20_000;

const MARKS = ["bar", "horizontal bar", "line", "area", "dot"] as const;
type Mark = (typeof MARKS)[number];

interface Choice {
  mark: Mark;
  x: number;
  y: number;
  color: number;
}

type Row = Record<string, unknown>;

/** Chooses a mark and columns that suit the result. */
function suggest(result: Result): Choice {
  const { columns } = result;
  const labels = columns.flatMap((column, index) => (column.numeric ? [] : [index]));
  const [first = -1, second = -1] = labels;
  const numbers = columns.flatMap((column, index) => (column.numeric ? [index] : []));
  if (first >= 0 && numbers.length && columns[first]!.temporal) {
    return { mark: "line", x: first, y: numbers[0]!, color: second };
  }
  if (first >= 0 && numbers.length) {
    const mark = result.rows > 24 ? "horizontal bar" : "bar";
    return { mark, x: first, y: numbers[0]!, color: -1 };
  }
  return { mark: "dot", x: numbers[0] ?? 0, y: numbers[1] ?? numbers[0] ?? 0, color: -1 };
}

function rowsOf(result: Result, { x, y, color }: Choice): Row[] {
  const rows: Row[] = [];
  for (let row = 0; row < Math.min(result.rows, ROWS_MAX); row += 1) {
    const at = (column: number) => (column < 0 ? null : chartValue(result, row, column));
    rows.push({ x: at(x), y: at(y), color: at(color) });
  }
  return rows;
}

function chartValue(result: Result, row: number, column: number): unknown {
  const { numeric, temporal } = result.columns[column]!;
  const text = result.text(row, column);
  if (text === null) return null;
  if (temporal) return new Date(Number(result.value(row, column)));
  return numeric ? Number(text) : text;
}

function draw(result: Result, choice: Choice, width: number, height: number) {
  const rows = rowsOf(result, choice);
  const name = (column: number) => result.columns[column]?.name ?? "";
  const color = choice.color >= 0 ? "color" : undefined;
  const paint = { fill: color ?? "var(--accent)", z: color ?? null, tip: true };
  const stroke = { stroke: color ?? "var(--accent)", z: color ?? null, tip: true };
  const labels = { x: name(choice.x), y: name(choice.y) };
  const marks = {
    bar: () => barY(rows, { x: "x", y: "y", ...paint, sort: { x: null } }),
    "horizontal bar": () => barX(rows, { y: "x", x: "y", ...paint, sort: { y: null } }),
    line: () => lineY(rows, { x: "x", y: "y", ...stroke }),
    area: () => areaY(rows, { x: "x", y: "y", ...paint, fillOpacity: 0.7 }),
    dot: () => dot(rows, { x: "x", y: "y", ...stroke }),
  };
  const flipped = choice.mark === "horizontal bar";
  const longest = Math.max(...rows.map((row) => String((flipped ? row.x : row.y) ?? "").length), 4);
  return drawPlot({
    width,
    height: flipped ? Math.max(height, 60 + 18 * new Set(rows.map((row) => row.x)).size) : height,
    marginLeft: Math.min(180, 24 + longest * 7),
    marginBottom: 44,
    x: { label: flipped ? labels.y : labels.x, grid: flipped },
    y: { label: flipped ? labels.x : labels.y, grid: !flipped },
    color: color ? { legend: true } : {},
    marks: [marks[choice.mark]()],
  });
}

export function Chart({ result }: { result: Result }) {
  const suggested = useMemo(() => suggest(result), [result]);
  const [choice, setChoice] = useState(suggested);
  const [width, setWidth] = useState(0);
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => setChoice(suggested), [suggested]);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!width || !host.current) return;
    host.current.replaceChildren(draw(result, choice, width, Math.max(240, host.current.clientHeight - 8)));
  }, [result, choice, width]);
  const column = (label: string, key: "x" | "y" | "color") => (
    <label>
      {label}
      <select
        value={choice[key]}
        onChange={(event) => setChoice({ ...choice, [key]: Number(event.currentTarget.value) })}
      >
        {key === "color" && <option value={-1}>none</option>}
        {result.columns.map(({ name }, index) => (
          <option value={index}>{name}</option>
        ))}
      </select>
    </label>
  );
  return (
    <div class="chart">
      <div class="toolbar">
        <label>
          Mark
          <select
            value={choice.mark}
            onChange={(event) => setChoice({ ...choice, mark: event.currentTarget.value as Mark })}
          >
            {MARKS.map((mark) => (
              <option>{mark}</option>
            ))}
          </select>
        </label>
        {column("Category or x", "x")}
        {column("Value", "y")}
        {column("Colour", "color")}
        {result.rows > ROWS_MAX && <small>the first {count(ROWS_MAX)} rows</small>}
      </div>
      <div class="chart-host" ref={host} />
    </div>
  );
}
