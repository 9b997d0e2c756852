// The triggers of the deployed version: their source, target, next time and numbers of events.

import { call } from "../api";
import { moment } from "../format";
import { useLoad } from "../lake";
import { link } from "../route";
import { REFRESH_MS } from "../runs/screen";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import type { Problem } from "../api";

export interface Trigger {
  name: string;
  defined_at?: string;
  files?: { folder: string; pattern?: string | null } | null;
  bucket?: { name: string; prefix?: string; suffix?: string } | null;
  schedule?: { cron: string; timezone?: string | null } | null;
  tables?: { names: string[] } | null;
  merges?: { into?: string[] } | null;
  jobs?: { kinds: string[]; statuses?: string[]; names?: string[] } | null;
  queue?: { name: string } | null;
  postgres?: { channel?: string | null; outbox?: string | null } | null;
  nats?: { stream: string; subject?: string | null } | null;
  kafka?: { topic: string } | null;
  function?: string | null;
  import?: { table: string } | null;
  run?: boolean;
  pending: number;
  done: number;
  failed: number;
  next?: string | null;
  error?: Problem | null;
}

/** Returns the kind of a trigger's source, and its description. */
export function source(trigger: Trigger): [string, string] {
  const { files, bucket, schedule, tables, merges, jobs, queue, postgres, nats, kafka } = trigger;
  if (files) return ["files", [files.folder, files.pattern].filter(Boolean).join("/")];
  if (bucket) return ["bucket", `${bucket.name}/${bucket.prefix ?? ""}*${bucket.suffix ?? ""}`];
  if (schedule) return ["schedule", `${schedule.cron} ${schedule.timezone ?? "UTC"}`];
  if (tables) return ["tables", tables.names.join(", ")];
  if (merges) return ["merges", `into ${merges.into?.join(", ") || "any branch"}`];
  if (jobs) return ["jobs", [...(jobs.names ?? []), ...jobs.kinds, ...(jobs.statuses ?? [])].join(", ")];
  if (queue) return ["queue", queue.name];
  if (postgres) return ["postgres", postgres.outbox ? `table ${postgres.outbox}` : `channel ${postgres.channel ?? ""}`];
  if (nats) return ["nats", [nats.stream, nats.subject].filter(Boolean).join(" ")];
  if (kafka) return ["kafka", `topic ${kafka.topic}`];
  return ["other", ""];
}

function target(trigger: Trigger): string {
  const all = [trigger.import && `import into ${trigger.import.table}`, trigger.run && "run", trigger.function && `call ${trigger.function}`];
  return all.filter(Boolean).join(", ");
}

export function Triggers() {
  const found = useLoad("triggers", (signal) => call<Trigger[]>("/v1/triggers", { signal }), REFRESH_MS);
  if (found.problem && found.problem.code !== "deployment_not_found") return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value && !found.problem) return <Loading what="triggers" />;
  if (!found.value?.length) {
    return (
      <Empty title="No trigger is deployed">
        <p>Triggers start work when files, objects or messages arrive, at scheduled times, or when tables, branches or jobs change.</p>
      </Empty>
    );
  }
  return (
    <div class="scroll">
      <table class="list stacked">
        <thead><tr><th>Trigger</th><th>Source</th><th>Fires on</th><th>Starts</th><th>Next</th><th class="number">Pending</th><th class="number">Done</th><th class="number">Failed</th></tr></thead>
        <tbody>
          {found.value.map((one) => {
            const [kind, text] = source(one);
            return (
              <tr key={one.name}>
                <td title={one.defined_at}><a href={link(["functions", "events", one.name])}><b>{one.name}</b></a></td>
                <td><span class="chip">{kind}</span></td>
                <td class="wide">
                  {text}
                  {one.error && <small class="bad" role="alert"> {one.error.message}</small>}
                </td>
                <td data-label="starts">{target(one)}</td>
                <td data-label="next">{moment(one.next) || null}</td>
                <td class="number" data-label="pending">{one.pending}</td>
                <td class="number" data-label="done">{one.done}</td>
                <td class={one.failed ? "number bad" : "number"} data-label="failed">{one.failed}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
