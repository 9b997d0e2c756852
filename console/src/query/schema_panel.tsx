// Tables and views at the chosen ref, with their columns, next to the editor.

import { useState } from "preact/hooks";
import type { Problem } from "../api";
import { count, tableName } from "../format";
import type { Relations } from "../lake";
import { Loading, ProblemBox } from "../ui/parts";

interface Props {
  relations: Relations | null;
  problem: Problem | null;
  /** Inserts text into the editor. */
  insert(text: string): void;
  /** Shows the first rows of a table. */
  preview(name: string): void;
}

export function SchemaPanel({ relations, problem, insert, preview }: Props) {
  const [text, setText] = useState("");
  const [open, setOpen] = useState<string | null>(null);
  if (problem) return <ProblemBox problem={problem} />;
  if (!relations) return <Loading what="tables" />;
  const all = [
    ...relations.tables.map((table) => ({ ...table, kind: "table", info: `${count(table.rows)} rows` })),
    ...relations.views.map((view) => ({ ...view, kind: "view", info: "view" })),
  ].map((one) => ({ ...one, sql: tableName(one.namespace, one.name) }));
  const wanted = text.toLowerCase();
  const found = all.filter(
    ({ sql, columns }) =>
      sql.toLowerCase().includes(wanted) ||
      columns.some(({ name }) => name.toLowerCase().includes(wanted)),
  );
  return (
    <>
      <input
        type="search"
        placeholder="Find tables and columns"
        aria-label="Find tables and columns"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      {all.length === 0 && <p class="muted">There are no tables at this ref yet.</p>}
      <ul class="schema">
        {found.map(({ sql, columns, info }) => (
          <li>
            <div class="schema-table">
              <button
                type="button"
                class="quiet"
                aria-expanded={open === sql}
                onClick={() => setOpen(open === sql ? null : sql)}
              >
                <span aria-hidden="true">{open === sql ? "▾" : "▸"}</span> {sql}
              </button>
              <small>{info}</small>
              <button
                type="button"
                class="quiet"
                title={`Show rows of ${sql}`}
                aria-label={`Show rows of ${sql}`}
                onClick={() => preview(sql)}
              >
                ▶
              </button>
            </div>
            {open === sql && (
              <ul>
                {columns.map(({ name, type }) => (
                  <li>
                    <button type="button" class="quiet" onClick={() => insert(name)}>
                      {name}
                    </button>
                    <small>{type}</small>
                  </li>
                ))}
              </ul>
            )}
          </li>
        ))}
      </ul>
    </>
  );
}
