// Lanes of a commit graph: each commit gets a column, and lines lead to its parents.

import type { Commit } from "../types";

export interface Node {
  commit: Commit;
  lane: number;
}

export interface Line {
  from: { row: number; lane: number };
  to: { row: number; lane: number };
}

export interface Graph {
  nodes: Node[];
  lines: Line[];
  lanes: number;
}

/** Orders commits so that children precede their parents, newest first. */
export function ordered(commits: Commit[]): Commit[] {
  const known = new Map(commits.map((commit) => [commit.id, commit]));
  const children = new Map<string, number>();
  for (const { parents } of known.values()) {
    for (const parent of parents) children.set(parent, (children.get(parent) ?? 0) + 1);
  }
  const ready = [...known.values()].filter(({ id }) => !children.get(id));
  const found: Commit[] = [];
  while (ready.length) {
    ready.sort((one, other) => (one.time < other.time ? 1 : -1));
    const next = ready.shift()!;
    found.push(next);
    for (const parent of next.parents) {
      const rest = (children.get(parent) ?? 0) - 1;
      children.set(parent, rest);
      if (rest === 0 && known.has(parent)) ready.push(known.get(parent)!);
    }
  }
  return found;
}

/** Assigns lanes to ordered commits. A first parent continues the lane of its child. */
export function layOut(commits: Commit[]): Graph {
  /** The commit that each lane leads to. */
  const lanes: (string | null)[] = [];
  const nodes: Node[] = [];
  const free = () => {
    const at = lanes.indexOf(null);
    return at < 0 ? lanes.push(null) - 1 : at;
  };
  for (const commit of commits) {
    let lane = lanes.indexOf(commit.id);
    if (lane < 0) lane = free();
    for (let other = 0; other < lanes.length; other += 1) {
      if (lanes[other] === commit.id) lanes[other] = null;
    }
    nodes.push({ commit, lane });
    commit.parents.forEach((parent, index) => {
      // The first parent keeps the lane, so that no other commit is drawn on the line to it.
      if (index === 0) lanes[lane] = parent;
      else if (!lanes.includes(parent)) lanes[free()] = parent;
    });
  }
  const rows = new Map(nodes.map(({ commit, lane }, row) => [commit.id, { row, lane }]));
  const lines = nodes.flatMap(({ commit }) =>
    commit.parents.map((parent) => ({
      from: rows.get(commit.id)!,
      // The line to a parent that is not listed ends below the last row.
      to: rows.get(parent) ?? { row: nodes.length, lane: rows.get(commit.id)!.lane },
    })),
  );
  return { nodes, lines, lanes: lanes.length };
}
