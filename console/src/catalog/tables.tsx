// Tables and views at a ref, and the import of files that are dropped on the page.

import { useState } from "preact/hooks";
import { ago, bytes, count, tableName } from "../format";
import { changes, loadRelations, useLoad } from "../lake";
import { link } from "../route";
import { useStore } from "../store";
import { Empty, Loading, ProblemBox } from "../ui/parts";
import { ImportDialog } from "./import";

export function Tables({ at }: { at: string }) {
  const round = useStore(changes);
  const found = useLoad(`relations ${at} ${round}`, (signal) => loadRelations(at, signal));
  const [text, setText] = useState("");
  const [files, setFiles] = useState<File[] | null>(null);
  const [over, setOver] = useState(false);
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    const dropped = [...(event.dataTransfer?.files ?? [])];
    if (dropped.length) setFiles(dropped);
  };
  return (
    <section
      class={over ? "drop-target over" : "drop-target"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <div class="toolbar flush">
        <input
          type="search"
          class="find"
          placeholder="Find a table, view or column"
          aria-label="Find a table, view or column"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <span class="grow" />
        <label class="button">
          Import files…
          <input
            type="file"
            multiple
            class="hidden"
            aria-label="Import files"
            onChange={(event) => {
              const chosen = [...(event.currentTarget.files ?? [])];
              event.currentTarget.value = "";
              if (chosen.length) setFiles(chosen);
            }}
          />
        </label>
      </div>
      {found.problem && <ProblemBox problem={found.problem} retry={found.reload} />}
      {found.loading && <Loading what="tables" />}
      {found.value && <List relations={found.value} text={text} />}
      {files && <ImportDialog files={files} at={at} close={() => setFiles(null)} />}
    </section>
  );
}

function List(props: { relations: Awaited<ReturnType<typeof loadRelations>>; text: string }) {
  const { tables, views } = props.relations;
  const wanted = props.text.toLowerCase();
  const matches = (one: { namespace: string; name: string; columns: { name: string }[] }) =>
    `${one.namespace}.${one.name}`.toLowerCase().includes(wanted) ||
    one.columns.some(({ name }) => name.toLowerCase().includes(wanted));
  if (tables.length + views.length === 0) {
    return (
      <Empty title="There are no tables at this ref">
        <p>Drop a CSV, NDJSON, Parquet or Arrow file here, or write SQL:</p>
        <pre>CREATE TABLE numbers AS SELECT 1 AS n</pre>
      </Empty>
    );
  }
  const rows = [
    ...tables.filter(matches).map((table) => ({ ...table, isView: false })),
    ...views.filter(matches).map((view) => ({ ...view, isView: true, rows: 0, bytes: 0, files: 0, partition: [] })),
  ].sort((one, other) => `${one.namespace}.${one.name}`.localeCompare(`${other.namespace}.${other.name}`));
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th>Name</th>
            <th class="number">Rows</th>
            <th class="number">Size</th>
            <th class="number">Files</th>
            <th class="number">Columns</th>
            <th>Partitioned by</th>
            <th>Changed</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((one) => (
            <tr>
              <td>
                <a href={link(["catalog", "table", `${one.namespace}.${one.name}`])}>
                  {tableName(one.namespace, one.name)}
                </a>
                {one.isView && <small> view</small>}
              </td>
              <td class="number">{one.isView ? "" : count(one.rows)}</td>
              <td class="number">{one.isView ? "" : bytes(one.bytes)}</td>
              <td class="number">{one.isView ? "" : count(one.files)}</td>
              <td class="number">{one.columns.length}</td>
              <td>{one.partition.map(({ column, transform }) => transform === "identity" ? column : `${transform}(${column})`).join(", ")}</td>
              <td>{ago(one.updated)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length === 0 && <p class="muted">Nothing matches “{props.text}”.</p>}
    </div>
  );
}
