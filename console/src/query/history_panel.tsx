// Statements that ran before, and saved queries. Both are kept in the browser.

import { useState } from "preact/hooks";
import { ago, duration, plural } from "../format";
import { ref as chosen } from "../lake";
import { useStore } from "../store";
import { history, openText, saved } from "./workspace";

export function HistoryPanel() {
  const entries = useStore(history);
  const queries = useStore(saved);
  const [text, setText] = useState("");
  const wanted = text.toLowerCase();
  const matches = (sql: string) => sql.toLowerCase().includes(wanted);
  return (
    <>
      <input
        type="search"
        placeholder="Find statements"
        aria-label="Find statements"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      {queries.length > 0 && <h3>Saved</h3>}
      <ul class="history">
        {queries
          .filter(({ name, sql }) => matches(name) || matches(sql))
          .map(({ name, sql }) => (
            <li>
              <button type="button" class="quiet" title={sql} onClick={() => openText(sql, name)}>
                ★ {name}
              </button>
              <button
                type="button"
                class="quiet"
                aria-label={`Delete ${name}`}
                onClick={() => saved.update((all) => all.filter((one) => one.name !== name))}
              >
                ✕
              </button>
            </li>
          ))}
      </ul>
      <h3>Recent</h3>
      {entries.length === 0 && <p class="muted">Statements appear here after they ran.</p>}
      <ul class="history">
        {entries.filter(({ sql }) => matches(sql)).slice(0, 100).map((entry) => (
          <li>
            <button
              type="button"
              class="quiet entry"
              title={entry.sql}
              onClick={() => {
                chosen.set(entry.ref);
                openText(entry.sql);
              }}
            >
              <code>{entry.sql.trim().replace(/\s+/g, " ").slice(0, 120)}</code>
              <small class={entry.error ? "bad" : ""}>
                {ago(entry.time)} · {entry.ref} · {duration(entry.ms)} ·{" "}
                {entry.error ? "failed" : plural(entry.rows ?? 0, "row")}
              </small>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}
