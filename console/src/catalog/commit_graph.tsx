// A commit graph with one row per commit: branches, message, author and time.

import { ago, moment } from "../format";
import { link } from "../route";
import type { Branch, Commit } from "../types";
import { layOut, ordered } from "./graph";
import { CommitLink } from "./table";

const ROW = 34;
const LANE = 18;
const COLORS = ["var(--accent)", "var(--code-number)", "var(--good)", "var(--warn)", "var(--code-keyword)"];

const color = (lane: number) => COLORS[lane % COLORS.length]!;
const x = (lane: number) => 12 + lane * LANE;
const y = (row: number) => ROW / 2 + row * ROW;

interface Props {
  commits: Commit[];
  branches: Branch[];
}

export function CommitGraph({ commits, branches }: Props) {
  const { nodes, lines, lanes } = layOut(ordered(commits));
  const width = x(lanes - 1) + 14;
  const heads = new Map<string, string[]>();
  for (const { name, commit } of branches) heads.set(commit, [...(heads.get(commit) ?? []), name]);
  return (
    <div class="commit-graph">
      <svg width={width} height={nodes.length * ROW} aria-hidden="true">
        {lines.map(({ from, to }) => (
          <path
            d={curve(from, to)}
            fill="none"
            stroke={color(Math.max(from.lane, to.lane))}
            stroke-width="2"
          />
        ))}
        {nodes.map(({ lane, commit }, row) => (
          <circle
            cx={x(lane)}
            cy={y(row)}
            r="5"
            fill={commit.parents.length > 1 ? "var(--surface)" : color(lane)}
            stroke={color(lane)}
            stroke-width="2"
          />
        ))}
      </svg>
      <ol>
        {nodes.map(({ commit }) => (
          <li>
            <CommitLink commit={commit} />
            {(heads.get(commit.id) ?? []).map((name) => (
              <a class="chip" href={link(["catalog", "compare", name, "main"])}>{name}</a>
            ))}
            <span class="commit-message" title={commit.message}>{commit.message}</span>
            <small>{commit.author}</small>
            <small title={moment(commit.time)}>{ago(commit.time)}</small>
          </li>
        ))}
      </ol>
    </div>
  );
}

function curve(from: { row: number; lane: number }, to: { row: number; lane: number }): string {
  const [x1, y1, x2, y2] = [x(from.lane), y(from.row), x(to.lane), y(to.row)];
  if (x1 === x2) return `M${x1} ${y1}V${y2}`;
  // The line moves to the outer lane at its start, and returns from it at its end.
  const bend = from.lane < to.lane ? y1 + ROW : y2 - ROW;
  if (from.lane < to.lane) return `M${x1} ${y1}C${x1} ${bend} ${x2} ${y1} ${x2} ${bend}V${y2}`;
  return `M${x1} ${y1}V${bend}C${x1} ${y2} ${x2} ${bend} ${x2} ${y2}`;
}
