// Environments of functions, and the warm instances that wait for the next call.

import { call, segment } from "../api";
import { ago, bytes, moment } from "../format";
import { useLoad } from "../lake";
import { REFRESH_MS } from "../runs/screen";
import { Empty, Loading, ProblemBox } from "../ui/parts";

interface Environment {
  id: string;
  python: string;
  requirements: string[];
  bytes: number;
  busy: boolean;
  used: string;
}

interface Instance {
  label: string;
  memory_bytes: number;
  since: string;
  until: string;
  reason: string;
}

/** Maximum number of environments whose instances are read. */
const EXPLAINED_MAX = 20;

async function load(signal: AbortSignal) {
  const environments = await call<Environment[]>("/v1/environments", { signal });
  const explain = ({ id }: Environment) =>
    call<{ instances?: Instance[] }>(`/v1/environments/${segment(id)}`, { signal }).catch(() => ({ instances: [] }));
  const details = await Promise.all(environments.slice(0, EXPLAINED_MAX).map(explain));
  return { environments, instances: details.flatMap(({ instances }) => instances ?? []) };
}

export function Environments() {
  const found = useLoad("environments", load, REFRESH_MS);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="environments" />;
  const { environments, instances } = found.value;
  if (environments.length === 0) return <Empty title="There are no environments yet"><p>The first call of a function builds its environment.</p></Empty>;
  return (
    <>
      <div class="scroll">
        <table class="list">
          <thead><tr><th>Id</th><th>Python</th><th>Requirements</th><th class="number">Size</th><th>Used</th></tr></thead>
          <tbody>
            {environments.map(({ id, python, requirements, bytes: size, used, busy }) => (
              <tr key={id}>
                <td><code>{id.slice(0, 12)}</code></td>
                <td>{python}</td>
                <td class="wide">{requirements.join(", ") || "none"}</td>
                <td class="number">{bytes(size)}</td>
                <td>{busy ? "now" : ago(used)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <h3>Warm instances</h3>
      {instances.length === 0 && <p class="muted">No instance waits for a call.</p>}
      {instances.length > 0 && <Instances instances={instances} />}
    </>
  );
}

function Instances({ instances }: { instances: Instance[] }) {
  return (
    <div class="scroll">
      <table class="list">
        <thead><tr><th>Function</th><th class="number">Memory</th><th>Idle since</th><th>Kept until</th><th>Reason</th></tr></thead>
        <tbody>
          {instances.map(({ label, memory_bytes, since, until, reason }, index) => (
            <tr key={index}>
              <td>{label}</td>
              <td class="number">{bytes(memory_bytes)}</td>
              <td title={moment(since)}>{ago(since)}</td>
              <td>{moment(until)}</td>
              <td class="wide">{reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
