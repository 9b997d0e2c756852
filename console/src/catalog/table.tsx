// One table or view: schema, rows, snapshots, files and properties.

import { useState } from "preact/hooks";
import { ApiError, call, segment } from "../api";
import { ago, bytes, count, plural, short, tableName } from "../format";
import { changes, useLoad } from "../lake";
import { link } from "../route";
import { Grid } from "../query/grid";
import { run } from "../query/result";
import { useStore } from "../store";
import type { Column, Commit, Table, View } from "../types";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import { Lineage } from "./lineage";

type Found = { kind: "table"; table: Table } | { kind: "view"; view: View };

async function load(at: string, name: string, signal: AbortSignal): Promise<Found> {
  const path = `/v1/refs/${segment(at)}`;
  try {
    return { kind: "table", table: await call<Table>(`${path}/tables/${segment(name)}`, { signal }) };
  } catch (error) {
    if (!(error instanceof ApiError) || error.problem.code !== "table_not_found") throw error;
    const view = await call<View>(`${path}/views/${segment(name)}`, { signal }).catch(() => {
      throw error;
    });
    return { kind: "view", view };
  }
}

const TABS = ["Columns", "Rows", "Snapshots", "Partitions", "Files", "Lineage", "Properties"] as const;
type Tab = (typeof TABS)[number];

export function TablePage({ at, name }: { at: string; name: string }) {
  const round = useStore(changes);
  const found = useLoad(`table ${at} ${name} ${round}`, (signal) => load(at, name, signal));
  const [tab, setTab] = useState<Tab>("Columns");
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="the table" />;
  const isView = found.value.kind === "view";
  const one = found.value.kind === "view" ? found.value.view : found.value.table;
  const sql = tableName(one.namespace, one.name);
  const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;
  const where = `WHERE namespace = ${literal(one.namespace)} AND "table" = ${literal(one.name)}`;
  const shown = isView ? (["Columns", "Rows", "Lineage"] as const) : TABS;
  return (
    <article>
      <header class="title">
        <h2>{sql}</h2>
        <Facts found={found.value} />
        <span class="grow" />
        <a class="button" href={link(["query"], { ref: at, sql: `SELECT * FROM ${sql} LIMIT 1000` })}>
          Query
        </a>
      </header>
      <div class="tabs" role="tablist" aria-label="Parts of the table">
        {shown.map((name) => (
          <button type="button" role="tab" aria-selected={tab === name} onClick={() => setTab(name)}>
            {name}
          </button>
        ))}
      </div>
      {tab === "Columns" && <Columns columns={one.columns} />}
      {tab === "Columns" && found.value.kind === "view" && (
        <pre class="code">{found.value.view.queries.map(({ sql }) => sql).join("\n\n")}</pre>
      )}
      {tab === "Rows" && <Rows at={at} sql={`SELECT * FROM ${sql} LIMIT 1000`} />}
      {tab === "Snapshots" && (
        <Rows
          at={at}
          sql={`SELECT snapshot, made, operation, is_current, parent, sequence_number, summary FROM system.snapshots ${where} ORDER BY sequence_number DESC`}
        />
      )}
      {tab === "Files" && (
        <Rows
          at={at}
          sql={`SELECT content, rows, bytes, "partition", format, sequence_number, location FROM system.files ${where}`}
        />
      )}
      {tab === "Partitions" && (
        <Rows
          at={at}
          sql={`SELECT "partition", count(*) AS files, sum(rows) AS rows, sum(bytes) AS bytes FROM system.files ${where} AND content = 'data' GROUP BY 1 ORDER BY 1`}
        />
      )}
      {tab === "Lineage" && <Lineage at={at} name={name} />}
      {tab === "Properties" && found.value.kind === "table" && <Properties table={found.value.table} />}
    </article>
  );
}

function Facts({ found }: { found: Found }) {
  if (found.kind === "view") return <small>view, changed {ago(found.view.updated)}</small>;
  const { rows, files, updated } = found.table;
  return (
    <small>
      {plural(rows, "row")} · {bytes(found.table.bytes)} in {plural(files, "file")} · changed {ago(updated)}
    </small>
  );
}

function Columns({ columns }: { columns: Column[] }) {
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th class="number">Id</th>
            <th>Column</th>
            <th>Type</th>
            <th>Nullable</th>
            <th>Comment</th>
          </tr>
        </thead>
        <tbody>
          {columns.map(({ field_id, name, type, nullable, comment }) => (
            <tr>
              <td class="number muted">{field_id}</td>
              <td>
                <b>{name}</b>
              </td>
              <td>
                <code>{type}</code>
              </td>
              <td>{nullable ? "yes" : "no"}</td>
              <td class="wide">{comment}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Rows({ at, sql }: { at: string; sql: string }) {
  const found = useLoad(`rows ${at} ${sql}`, (signal) => run(sql, at, signal));
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="rows" />;
  if (found.value.rows === 0) return <Empty title="There are no rows" />;
  return (
    <div class="rows-box">
      <Grid result={found.value} columnChosen={() => {}} />
    </div>
  );
}

function Properties({ table }: { table: Table }) {
  const sort = (table.sort ?? []).map(({ column, descending }) => column + (descending ? " DESC" : ""));
  const partition = table.partition.map(({ column, transform }) => `${transform}(${column})`);
  const lines: [string, string][] = [
    ["format version", String(table.format_version ?? 2)],
    ["snapshot", table.snapshot ? String(table.snapshot) : "none"],
    ["partitioned by", partition.join(", ") || "nothing"],
    ["sorted by", sort.join(", ") || "nothing"],
    ["id", table.id],
    ...Object.entries(table.properties ?? {}),
  ];
  return (
    <table class="list narrow">
      <tbody>
        {lines.map(([key, value]) => (
          <tr>
            <td class="muted">{key}</td>
            <td class="wide">
              <code>{value}</code>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Names a commit by its first digits. */
export function CommitLink({ commit }: { commit: Pick<Commit, "id"> }) {
  return (
    <a href={link(["catalog", "commit", commit.id])}>
      <code>{short(commit.id)}</code>
    </a>
  );
}

export const changed = (added: number | null | undefined, removed: number | null | undefined) => (
  <>
    {added ? <span class="good">+{count(added)}</span> : null} {removed ? <span class="bad">−{count(removed)}</span> : null}
  </>
);
