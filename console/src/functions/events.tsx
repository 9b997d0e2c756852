// Events of triggers and asynchronous calls: waiting events and dead letters, with their errors.

import { useState } from "preact/hooks";
import { type Problem, call, segment } from "../api";
import { ago, moment } from "../format";
import { useLoad } from "../lake";
import { link } from "../route";
import { REFRESH_MS } from "../runs/screen";
import { Empty, Loading, ProblemBox, Status, attempt, toast } from "../ui/parts";

interface TriggerEvent {
  id: string;
  type: string;
  subject?: string | null;
  trigger: string;
  status: "pending" | "running" | "done" | "failed";
  created: string;
  due: string;
  attempts: number;
  job?: string | null;
  error?: Problem | null;
}

/** The choices of the filter, with the statuses that each includes. */
const FILTERS: Record<string, string> = {
  "waiting and failed": "pending,running,failed",
  waiting: "pending,running",
  "failed (dead letters)": "failed",
  done: "done",
  all: "",
};

export function Events({ trigger }: { trigger?: string | undefined }) {
  const [shown, setShown] = useState("waiting and failed");
  const status = FILTERS[shown];
  const query = { limit: "200", ...(status && { status }), ...(trigger && { trigger }) };
  const path = `/v1/trigger-events?${new URLSearchParams(query)}`;
  const found = useLoad(path, (signal) => call<TriggerEvent[]>(path, { signal }), REFRESH_MS);
  const act = (event: TriggerEvent, change: "replay" | "remove") =>
    attempt(async () => {
      const place = `/v1/trigger-events/${segment(event.id)}`;
      if (change === "replay") await call(`${place}/replay`, { method: "POST" });
      else if (confirm("Remove the event? It will not be delivered.")) await call(place, { method: "DELETE" });
      else return;
      toast(change === "replay" ? "The event is delivered again" : "The event is removed");
      found.reload();
    });
  return (
    <>
      <div class="toolbar flush">
        <label>
          Events
          <select value={shown} onChange={(event) => setShown(event.currentTarget.value)}>
            {Object.keys(FILTERS).map((one) => <option>{one}</option>)}
          </select>
        </label>
        {trigger && <span>of the trigger <b>{trigger}</b> <a href={link(["functions", "events"])}>show all</a></span>}
      </div>
      {found.problem && <ProblemBox problem={found.problem} retry={found.reload} />}
      {found.loading && <Loading what="events" />}
      {found.value?.length === 0 && <Empty title="No event matches" />}
      {found.value && found.value.length > 0 && <EventList events={found.value} act={act} />}
    </>
  );
}

function EventList({ events, act }: { events: TriggerEvent[]; act: (event: TriggerEvent, change: "replay" | "remove") => void }) {
  return (
    <div class="scroll">
      <table class="list stacked">
        <thead>
          <tr>
            <th>Status</th><th>Trigger</th><th>Event</th><th>Recorded</th><th>Next attempt</th>
            <th class="number">Attempts</th><th>Job</th><th aria-label="Actions" />
          </tr>
        </thead>
        <tbody>
          {events.map((event) => (
            <tr key={`${event.trigger} ${event.id}`}>
              <td><Status status={event.status} /></td>
              <td>{event.trigger.replace(/^\/+/, "")}</td>
              <td class="wide" title={event.id}>
                {event.subject || event.type}
                {event.error && <small class="bad"> {[event.error.message, ...(event.error.causes ?? [])].join(": ")}</small>}
              </td>
              <td data-label="recorded" title={moment(event.created)}>{ago(event.created)}</td>
              <td data-label="next attempt">{event.status === "pending" ? moment(event.due) : null}</td>
              <td class="number" data-label="attempts">{event.attempts}</td>
              <td data-label="job">{event.job && <a href={link(["functions", "job", event.job])}>{event.job.slice(-12)}</a>}</td>
              <td class="actions">
                {(event.status === "failed" || event.status === "pending") && (
                  <>
                    <button type="button" class="quiet" onClick={() => act(event, "replay")}>Replay</button>
                    <button type="button" class="quiet" onClick={() => act(event, "remove")}>Remove</button>
                  </>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
