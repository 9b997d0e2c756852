// Commits in the history of a ref, and one commit with its changes.

import { call, segment } from "../api";
import { moment } from "../format";
import { changes, loadRefs, useLoad } from "../lake";
import { useStore } from "../store";
import type { Commit } from "../types";
import { Loading, ProblemBox } from "../ui/parts";
import { CommitGraph } from "./commit_graph";
import { DiffView } from "./diff";
import { CommitLink } from "./table";

export function Commits({ at }: { at: string }) {
  const round = useStore(changes);
  const found = useLoad(`commits ${at} ${round}`, async (signal) => {
    const [commits, refs] = await Promise.all([
      call<Commit[]>(`/v1/refs/${segment(at)}/commits?limit=200`, { signal }),
      loadRefs(signal),
    ]);
    return { commits, branches: refs.branches };
  });
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="commits" />;
  return <CommitGraph {...found.value} />;
}

export function CommitPage({ id }: { id: string }) {
  const found = useLoad(`commit ${id}`, async (signal) => {
    const [commit] = await call<Commit[]>(`/v1/refs/${segment(`@${id}`)}/commits?limit=1`, { signal });
    return commit!;
  });
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="the commit" />;
  const commit = found.value;
  return (
    <article>
      <header class="title">
        <h2>{commit.message}</h2>
      </header>
      <p class="muted">
        {commit.author}, {moment(commit.time)}, <code>{commit.id}</code>
      </p>
      <p class="muted">
        parents: {commit.parents.map((parent) => <><CommitLink commit={{ id: parent }} /> </>)}
      </p>
      {commit.parents[0] && <DiffView from={`@${commit.parents[0]}`} to={`@${commit.id}`} />}
    </article>
  );
}
