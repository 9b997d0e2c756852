// The screen Usage: the usage and cost of jobs, by day, kind or model.

import { barY } from "@observablehq/plot";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api";
import { bytes, cost, count, duration } from "../format";
import { useLoad } from "../lake";
import { link } from "../route";
import type { Usage } from "../types";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import { drawPlot } from "../ui/plot";

interface Line {
  group: string;
  jobs: number;
  usage: Usage;
  gib_seconds?: number;
  cost: number;
  currency: string;
}

const DAYS = [1, 7, 30, 90];
const GROUPS = ["kind", "model", "function", "trigger", "branch", "author", "day", "job"];

function since(days: number): string {
  return new Date(Date.now() - (days - 1) * 86_400_000).toISOString().slice(0, 10);
}

export function UsageScreen() {
  const [days, setDays] = useState(30);
  const [by, setBy] = useState("kind");
  const start = since(days);
  const path = (group: string) => `/v1/usage?by=${group}&since=${start}`;
  const daily = useLoad(path("day"), (signal) => call<Line[]>(path("day"), { signal }));
  const grouped = useLoad(path(by), (signal) => call<Line[]>(path(by), { signal }));
  const problem = daily.problem ?? grouped.problem;
  const total = (daily.value ?? []).reduce((sum, line) => sum + line.cost, 0);
  const jobs = (daily.value ?? []).reduce((sum, line) => sum + line.jobs, 0);
  return (
    <div class="page">
      <div class="toolbar flush">
        <label>
          Last
          <select value={days} onChange={(event) => setDays(Number(event.currentTarget.value))}>
            {DAYS.map((one) => <option value={one}>{one === 1 ? "day" : `${one} days`}</option>)}
          </select>
        </label>
        <label>
          By
          <select value={by} onChange={(event) => setBy(event.currentTarget.value)}>
            {GROUPS.map((one) => <option>{one}</option>)}
          </select>
        </label>
        <span class="grow" />
        <b>{cost(total, daily.value?.[0]?.currency)}</b>
        <span class="muted">{count(jobs)} jobs</span>
      </div>
      {problem && <ProblemBox problem={problem} retry={grouped.reload} />}
      {daily.value && daily.value.length > 0 && <Days lines={daily.value} start={start} days={days} />}
      {grouped.loading && <Loading what="usage" />}
      {grouped.value && grouped.value.length === 0 && <Empty title="Nothing ran in this period" />}
      {grouped.value && grouped.value.length > 0 && <Table lines={grouped.value} by={by} />}
    </div>
  );
}

/** Draws the cost of each day. */
function Days({ lines, start, days }: { lines: Line[]; start: string; days: number }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const costs = new Map(lines.map((line) => [line.group, line.cost]));
    const rows = Array.from({ length: days }, (_, index) => {
      const day = new Date(new Date(start).getTime() + index * 86_400_000).toISOString().slice(0, 10);
      return { day: day.slice(5), cost: costs.get(day) ?? 0 };
    });
    host.current.replaceChildren(
      drawPlot({
        width: host.current.clientWidth,
        height: 190,
        marginLeft: 84,
        x: { label: null, ticks: rows.filter((_, index) => index % Math.ceil((days * 56) / host.current!.clientWidth) === 0).map(({ day }) => day) },
        y: { label: lines[0]?.currency ?? "", grid: true },
        marks: [barY(rows, { x: "day", y: "cost", fill: "var(--accent)", tip: true })],
      }),
    );
  }, [lines, start, days]);
  return <div class="card chart-host" ref={host} />;
}

function Table({ lines, by }: { lines: Line[]; by: string }) {
  const sorted = [...lines].sort((one, other) => (by === "day" ? other.group.localeCompare(one.group) : other.cost - one.cost));
  const most = Math.max(...lines.map((line) => line.cost), 1e-12);
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th>{by[0]!.toUpperCase() + by.slice(1)}</th><th class="number">Jobs</th><th class="number">Cost</th>
            <th class="number">Processor</th><th class="number">Time</th><th class="number">GB-seconds</th><th class="number">Read</th>
            <th class="number">Written</th><th class="number">Calls</th><th class="number">Cold starts</th>
          </tr>
        </thead>
        <tbody>
          {sorted.map((line) => (
            <tr key={line.group}>
              <td>{by === "job" ? <a href={link(["functions", "job", line.group])}>{line.group.slice(-12)}</a> : line.group}</td>
              <td class="number">{count(line.jobs)}</td>
              <td class="number plan-time">
                <span class="bar" style={{ width: `${(line.cost / most) * 100}%` }} />
                <span>{cost(line.cost, line.currency)}</span>
              </td>
              <td class="number">{duration(line.usage.cpu_us / 1000)}</td>
              <td class="number">{duration(line.usage.wall_ms)}</td>
              <td class="number">{(line.gib_seconds ?? 0).toFixed(3)}</td>
              <td class="number">{bytes(line.usage.bytes_read)}</td>
              <td class="number">{bytes(line.usage.bytes_written)}</td>
              <td class="number">{count(line.usage.calls)}</td>
              <td class="number">{count(line.usage.cold_starts)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
