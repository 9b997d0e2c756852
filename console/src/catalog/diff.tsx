// The tables that differ between two refs, with the rows that changed.

import { useState } from "preact/hooks";
import { call, segment } from "../api";
import { useLoad } from "../lake";
import type { TableDiff } from "../types";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import { changed } from "./table";

interface RowDiff {
  kind: string;
  before?: Record<string, unknown> | null;
  after?: Record<string, unknown> | null;
  changed?: string[];
}

interface Comparison extends TableDiff {
  rows?: { how: string; reason?: string | null; rows: RowDiff[]; next_page_token?: string | null } | null;
}

export function DiffView({ from, to }: { from: string; to: string }) {
  const found = useLoad(`diff ${from} ${to}`, (signal) =>
    call<{ tables: TableDiff[] }>(`/v1/refs/${segment(from)}/diff/${segment(to)}`, { signal }),
  );
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="the differences" />;
  if (found.value.tables.length === 0) return <Empty title="No table differs" />;
  return (
    <ul class="cards">
      {found.value.tables.map((table) => (
        <TableCard table={table} from={from} to={to} key={table.table} />
      ))}
    </ul>
  );
}

function TableCard({ table, from, to }: { table: TableDiff; from: string; to: string }) {
  const [open, setOpen] = useState(false);
  return (
    <li class="card">
      <button type="button" class="quiet card-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span aria-hidden="true">{open ? "▾" : "▸"}</span> <b>{table.table}</b> <small>{table.kind}</small>
        <span class="grow" />
        <span class="number">{changed(table.rows_added ?? table.rows_in_files_added, table.rows_removed ?? table.rows_in_files_removed)} rows</span>
      </button>
      {table.columns.map(({ column, before, after }) => (
        <p class="column-diff">
          column <b>{column}</b>: {before ? <del>{before}</del> : "added"} {after ? <ins>{after}</ins> : "removed"}
        </p>
      ))}
      {open && <RowDiffs table={table.table} from={from} to={to} />}
    </li>
  );
}

function RowDiffs({ table, from, to }: { table: string; from: string; to: string }) {
  const path = `/v1/refs/${segment(from)}/diff/${segment(to)}/tables/${segment(table)}?limit=100`;
  const found = useLoad(path, (signal) => call<Comparison>(path, { signal }));
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="rows" />;
  const diff = found.value.rows;
  const rows = diff?.rows ?? [];
  if (rows.length === 0) {
    return <p class="muted">{diff?.reason ?? "The rows are the same."}</p>;
  }
  const columns = [...new Set(rows.flatMap(({ before, after }) => Object.keys(after ?? before ?? {})))];
  return (
    <div class="scroll">
      <table class="list rows-diff">
        <thead>
          <tr>
            <th />
            {columns.map((column) => <th>{column}</th>)}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr class={`row-${row.kind}`}>
              <td>{{ added: "+", removed: "−", changed: "~" }[row.kind]}</td>
              {columns.map((column) => <DiffCell row={row} column={column} />)}
            </tr>
          ))}
        </tbody>
      </table>
      {diff?.next_page_token && <p class="muted">The first {rows.length} rows.</p>}
    </div>
  );
}

function DiffCell({ row, column }: { row: RowDiff; column: string }) {
  const text = (value: unknown) =>
    value === null || value === undefined ? "NULL" : typeof value === "object" ? JSON.stringify(value) : String(value);
  if (row.kind === "changed" && row.changed?.includes(column)) {
    return (
      <td>
        <del>{text(row.before?.[column])}</del> <ins>{text(row.after?.[column])}</ins>
      </td>
    );
  }
  return <td>{text((row.after ?? row.before)?.[column])}</td>;
}
