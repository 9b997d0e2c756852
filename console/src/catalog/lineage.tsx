// The lineage of a table: the relations that it is computed from, and those computed from it.
//
// Models are those of the newest run that has the table; views are those at the ref.

import { call, lines, segment, send } from "../api";
import { loadRelations, useLoad } from "../lake";
import { go } from "../route";
import { Dag, type Step } from "../runs/dag";
import type { Job, View } from "../types";
import { Empty, Loading, ProblemBox } from "../ui/parts";

/** Maximum number of runs that are searched for the table. */
const RUNS_MAX = 10;

interface Planned {
  name: string;
  kind: string;
  parents: string[];
}

const plain = (name: string) => name.replace(/^public\./, "");

async function plannedBy(job: string, signal: AbortSignal): Promise<Planned[]> {
  const response = await send(`/v1/jobs/${job}/events`, { accept: "application/x-ndjson", signal });
  for await (const event of lines<{ type: string; steps?: Planned[] }>(response)) {
    if (event.steps) return event.steps;
  }
  return [];
}

/** Returns the steps of the newest run that has a table. */
async function stepsOf(table: string, signal: AbortSignal): Promise<Planned[]> {
  const runs = await call<Job[]>(`/v1/jobs?kind=run&limit=${RUNS_MAX}`, { signal });
  for (const { id } of runs) {
    const steps = await plannedBy(id, signal);
    if (steps.some(({ name, parents }) => [name, ...parents].map(plain).includes(table))) return steps;
  }
  return [];
}

/** Returns a view as a step, whose parents are the relations that its text names. */
function viewStep({ namespace, name, queries }: View, names: string[]): Planned {
  const words = new Set(queries.flatMap(({ sql }) => sql.toLowerCase().match(/[\w.]+/g) ?? []));
  const own = plain(`${namespace}.${name}`);
  return { name: own, kind: "view", parents: names.filter((one) => one !== own && words.has(one.toLowerCase())) };
}

/** Returns the steps that a table depends on, and those that depend on it. */
export function related(table: string, all: Planned[]): Planned[] {
  const known = new Map(all.map((step) => [plain(step.name), { ...step, name: plain(step.name), parents: step.parents.map(plain) }]));
  for (const { parents } of [...known.values()]) {
    for (const parent of parents) if (!known.has(parent)) known.set(parent, { name: parent, kind: "table", parents: [] });
  }
  const found = new Set<string>();
  const up = (name: string) => {
    if (found.has(name)) return;
    found.add(name);
    known.get(name)?.parents.forEach(up);
  };
  const seen = new Set<string>();
  const down = (name: string) => {
    if (seen.has(name)) return;
    seen.add(name);
    for (const step of known.values()) if (step.parents.includes(name)) down(step.name);
  };
  up(table);
  down(table);
  return [...known.values()].filter(({ name }) => found.has(name) || seen.has(name));
}

async function load(at: string, table: string, signal: AbortSignal): Promise<Step[]> {
  const [steps, { tables, views }] = await Promise.all([stepsOf(table, signal), loadRelations(at, signal)]);
  const names = [...tables, ...views].map(({ namespace, name }) => plain(`${namespace}.${name}`));
  const all = [...steps, ...views.map((view) => viewStep(view, names))];
  return related(table, all).map((step) => ({ ...step, state: "" }));
}

export function Lineage({ at, name }: { at: string; name: string }) {
  const table = plain(name);
  const found = useLoad(`lineage ${at} ${table}`, (signal) => load(at, table, signal));
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="the lineage" />;
  if (found.value.length < 2) {
    return <Empty title="No run or view uses this table"><p>The graph shows the models of the last runs, and the views.</p></Empty>;
  }
  const open = (step: string) => {
    const one = found.value?.find((one) => one.name === step);
    if (one?.kind !== "expectation") go(["catalog", "table", step.includes(".") ? step : `public.${step}`]);
  };
  return <Dag label={`Lineage of ${segment(table)}`} steps={found.value} chosen={table} choose={open} />;
}
