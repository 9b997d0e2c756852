// The models and expectations of a run as a graph, laid out once, with states that change.

import dagre from "@dagrejs/dagre";
import { useMemo } from "preact/hooks";
import { count, duration } from "../format";
import type { StepReport } from "../types";
import { MARKS } from "../ui/parts";

export interface Step {
  name: string;
  kind: string;
  parents: string[];
  state: string;
  report?: StepReport;
}

const WIDTH = 210;
const HEIGHT = 50;

/** Maximum number of letters of a name in a node. */
const LETTERS_MAX = 22;

/** Places the steps; depends on names and parents only, so that nothing moves during a run. */
function layOut(steps: { name: string; parents: string[] }[]) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 16, ranksep: 46, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  const names = new Set(steps.map(({ name }) => name));
  for (const { name } of steps) graph.setNode(name, { width: WIDTH, height: HEIGHT });
  for (const { name, parents } of steps) {
    for (const parent of parents) {
      const known = names.has(parent) ? parent : parent.replace(/^public\./, "");
      if (names.has(known)) graph.setEdge(known, name);
    }
  }
  dagre.layout(graph);
  const { width = 0, height = 0 } = graph.graph();
  return {
    width,
    height,
    places: new Map(graph.nodes().map((name) => [name, graph.node(name)])),
    edges: graph.edges().map(({ v, w }) => ({ key: `${v} ${w}`, path: curve(graph.node(v), graph.node(w)) })),
  };
}

/** Returns a curve from the right side of a node to the left side of another one. */
function curve(from: { x: number; y: number }, to: { x: number; y: number }): string {
  const [x1, x2] = [from.x + WIDTH / 2, to.x - WIDTH / 2];
  const bend = Math.max(20, Math.min(60, (x2 - x1) / 2));
  return `M${x1} ${from.y}C${x1 + bend} ${from.y} ${x2 - bend} ${to.y} ${x2} ${to.y}`;
}

interface Props {
  label: string;
  steps: Step[];
  chosen: string | null;
  choose(step: string): void;
}

export function Dag({ label, steps, chosen, choose }: Props) {
  const shape = steps.map(({ name, parents }) => `${name}<${parents.join()}`).join(";");
  const { width, height, places, edges } = useMemo(() => layOut(steps), [shape]);
  return (
    <div class="dag">
      <svg width={width} height={height} role="group" aria-label={label}>
        {edges.map(({ key, path }) => <path key={key} class="dag-edge" d={path} />)}
        {steps.map((step) => {
          const place = places.get(step.name);
          if (!place) return null;
          return (
            <g
              key={step.name}
              class={`dag-step step-${step.state}${chosen === step.name ? " chosen" : ""}`}
              transform={`translate(${place.x - WIDTH / 2} ${place.y - HEIGHT / 2})`}
              role="button"
              tabIndex={0}
              aria-label={`${step.name}: ${step.state}`}
              onClick={() => choose(step.name)}
              onKeyDown={(event) => event.key === "Enter" && choose(step.name)}
            >
              <rect width={WIDTH} height={HEIGHT} rx="8" />
              <text x="12" y="21" class="dag-name">
                {MARKS[step.state] ?? (step.state ? "○" : "▤")} {step.name.length > LETTERS_MAX ? `${step.name.slice(0, LETTERS_MAX - 1)}…` : step.name}
                <title>{step.name}</title>
              </text>
              <text x="12" y="39" class="dag-note">{note(step)}</text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

function note({ kind, report, state }: Step): string {
  if (state === "reused" && report?.reuses) return `${kind} · reused from ${report.reuses}`;
  if (!report || !["succeeded", "failed", "warned"].includes(state)) return [kind, state].filter(Boolean).join(" · ");
  const rows = report.rows === null || report.rows === undefined ? "" : ` · ${count(report.rows)} rows`;
  return `${kind} · ${duration(report.usage.wall_ms)}${rows}`;
}
