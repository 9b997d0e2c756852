// The branches: a list, and a graph of their commits.

import { useState } from "preact/hooks";
import { type Problem, call, segment, toProblem } from "../api";
import { ago, plural } from "../format";
import { changes, ref as chosen, loadRefs, useLoad } from "../lake";
import { link } from "../route";
import { useStore } from "../store";
import type { Branch, Commit } from "../types";
import { Dialog, Loading, ProblemBox, attempt, toast } from "../ui/parts";
import { CommitGraph } from "./commit_graph";
import { CommitLink } from "./table";

/** Maximum number of branches whose commits are in the graph. */
const GRAPH_BRANCHES_MAX = 12;

const GRAPH_COMMITS = 60;

async function load(signal: AbortSignal) {
  const { branches, tags } = await loadRefs(signal);
  const newest = [...branches].sort((one, other) => (one.created < other.created ? 1 : -1));
  const main = branches.filter(({ name }) => name === "main");
  const shown = [...main, ...newest.filter(({ name }) => name !== "main")].slice(0, GRAPH_BRANCHES_MAX);
  const histories = await Promise.all(
    shown.map(({ name }) =>
      call<Commit[]>(`/v1/refs/${segment(name)}/commits?limit=${GRAPH_COMMITS}`, { signal }),
    ),
  );
  const known = new Map(shown.map(({ name }, index) => [name, histories[index]!]));
  const rest = branches.filter(({ name }) => name !== "main");
  return { branches: [...main, ...rest], tags, commits: histories.flat(), known };
}

/** Returns how many commits a branch has that main lacks, and the reverse; empty if not known. */
function distance(branch: Commit[] | undefined, main: Commit[] | undefined): string {
  if (!branch || !main) return "";
  const [own, other] = [new Set(branch.map(({ id }) => id)), new Set(main.map(({ id }) => id))];
  // Both histories must reach back to a common commit.
  if (!branch.some(({ id }) => other.has(id))) return "";
  const ahead = branch.filter(({ id }) => !other.has(id)).length;
  const behind = main.filter(({ id }) => !own.has(id)).length;
  const parts = [ahead && `${ahead} ahead`, behind && `${behind} behind`].filter(Boolean);
  return parts.join(", ") || "same";
}

export function Branches() {
  const round = useStore(changes);
  const at = useStore(chosen);
  const found = useLoad(`branches ${round}`, load);
  const [creating, setCreating] = useState(false);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="branches" />;
  const { branches, tags, commits, known } = found.value;
  return (
    <>
      <div class="toolbar flush">
        <span class="muted">{plural(branches.length, "branch")}, {plural(tags.length, "tag")}</span>
        <span class="grow" />
        <button type="button" class="primary" onClick={() => setCreating(true)}>New branch</button>
      </div>
      <div class="scroll">
        <table class="list">
          <thead>
            <tr>
              <th>Branch</th>
              <th>Head</th>
              <th>Against main</th>
              <th>Created</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {branches.map((branch) => <BranchRow branch={branch} key={branch.name} active={branch.name === at} distance={branch.name === "main" ? "" : distance(known.get(branch.name), known.get("main"))} />)}
          </tbody>
        </table>
      </div>
      <h3>History</h3>
      <CommitGraph commits={commits} branches={branches} />
      {creating && <CreateBranch from={at} close={() => setCreating(false)} />}
    </>
  );
}

function BranchRow({ branch, active, distance }: { branch: Branch; active: boolean; distance: string }) {
  const { name, commit, created } = branch;
  const remove = async () => {
    if (!confirm(`Delete the branch ${name}? Data that only this branch references is removed after three days.`)) return;
    await attempt(async () => {
      await call(`/v1/branches/${segment(name)}`, { method: "DELETE" });
      if (chosen.get() === name) chosen.set("main");
      changes.update((round) => round + 1);
      toast(`Deleted ${name}.`);
    });
  };
  return (
    <tr>
      <td>
        <button type="button" class="quiet" aria-pressed={active} onClick={() => chosen.set(name)}>
          {active ? "● " : ""}{name}
        </button>
        {branch.protected && <small class="chip">protected</small>}
        {branch.quarantine && <small class="chip">failed run</small>}
      </td>
      <td><CommitLink commit={{ id: commit }} /></td>
      <td>{distance}</td>
      <td>{ago(created)}</td>
      <td class="actions">
        {name !== "main" && <a class="button" href={link(["catalog", "compare", name, "main"])}>Compare and merge</a>}
        {name !== "main" && (
          <button type="button" class="quiet danger" aria-label={`Delete ${name}`} onClick={remove}>Delete</button>
        )}
      </td>
    </tr>
  );
}

function CreateBranch({ from, close }: { from: string; close: () => void }) {
  const [name, setName] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await call("/v1/branches", { body: { name, from } });
      chosen.set(name);
      changes.update((round) => round + 1);
      close();
    } catch (error) {
      setProblem(toProblem(error));
    }
  };
  return (
    <Dialog title="New branch" close={close}>
      <form class="form" onSubmit={submit}>
        <label>
          Name
          <input value={name} required autofocus onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <p class="muted">It starts at <b>{from}</b>, and copies no data.</p>
        {problem && <ProblemBox problem={problem} />}
        <button class="primary">Create</button>
      </form>
    </Dialog>
  );
}
