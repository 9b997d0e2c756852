// The check of a statement while it is typed: its errors, and the bytes that it reads at most.
//
// `EXPLAIN` plans the statement without running it. The plan names the files of each scan, after
// the ones that the conditions exclude.

import { useEffect, useState } from "preact/hooks";
import { type Problem, toProblem } from "../api";
import { tableName } from "../format";
import type { Relations } from "../lake";
import type { Table } from "../types";
import { run } from "./result";

/** Pause after the last key before a statement is checked, in milliseconds. */
const PAUSE_MS = 600;

/** The first word of statements that are checked: those that only read. */
const READS = /^(\s|--[^\n]*\n|\/\*[\s\S]*?\*\/)*(select|with|from|values)\b/i;

/** A scan in a plan. */
export interface Scan {
  /** The table's folder: `public/flights-4d6a37cd`. */
  folder: string;
  /** Paths of the files; empty if the plan does not list all of them. */
  files: string[];
  columns: number;
}

export interface Estimate {
  /** Bytes of the files that the statement reads; it may read fewer columns of them. */
  bytes: number;
  files: number;
  tables: string[];
}

export interface Check {
  estimate: Estimate | null;
  problem: Problem | null;
}

/** Returns whether a text is one statement that only reads. A semicolon may only end it. */
export function isChecked(sql: string): boolean {
  return READS.test(sql) && !/;\s*\S/.test(sql);
}

/** Returns the scans of tables in the text of a physical plan. */
export function scansOf(plan: string): Scan[] {
  const scans: Scan[] = [];
  for (const [, groups, projection] of plan.matchAll(/file_groups=\{\d+ groups?: (.*?)\}(?:, projection=\[(.*?)\])?/g)) {
    const files = groups!.replace(/[[\]]/g, "").split(", ");
    const folder = /^(.*?)\/data\//.exec(files[0]!)?.[1];
    if (!folder) continue;
    const isWhole = !groups!.includes("...");
    const columns = projection ? projection.split(", ").length : 0;
    // One file can be read in several ranges.
    const paths = files.map((file) => file.replace(/:\d+\.\.\d+$/, ""));
    scans.push({ folder, files: isWhole ? [...new Set(paths)] : [], columns });
  }
  return scans;
}

/** Sizes of files by the end of their path, per snapshot of a table. */
const sizes = new Map<string, Promise<Map<string, number>>>();

function sizesOf(table: Table, at: string, signal: AbortSignal): Promise<Map<string, number>> {
  const key = `${table.id} ${table.snapshot}`;
  const known = sizes.get(key);
  if (known) return known;
  const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;
  const sql = `SELECT location, bytes FROM system.files WHERE namespace = ${quoted(table.namespace)} AND "table" = ${quoted(table.name)}`;
  const found = run(sql, at, signal).then((result) => {
    const bytes = new Map<string, number>();
    for (let row = 0; row < result.rows; row += 1) bytes.set(result.text(row, 0) ?? "", Number(result.value(row, 1)));
    return bytes;
  });
  sizes.set(key, found);
  found.catch(() => sizes.delete(key));
  return found;
}

async function estimateOf(plan: string, tables: Table[], at: string, signal: AbortSignal): Promise<Estimate> {
  const estimate: Estimate = { bytes: 0, files: 0, tables: [] };
  const seen = new Set<string>();
  for (const { folder, files } of scansOf(plan)) {
    const table = tables.find(({ metadata_location }) => metadata_location?.includes(`/${folder}/`));
    const key = `${folder} ${files.join()}`;
    if (!table || seen.has(key)) continue;
    seen.add(key);
    const isPart = files.length > 0 && files.length < table.files;
    const known = isPart ? await sizesOf(table, at, signal).catch(() => null) : null;
    const parts = known && files.map((file) => [...known].find(([location]) => location.endsWith(`/${file}`))?.[1]);
    const isComplete = parts?.every((part) => part !== undefined);
    estimate.bytes += isComplete ? parts!.reduce<number>((sum, part) => sum + part!, 0) : table.bytes;
    estimate.files += isPart ? files.length : table.files;
    estimate.tables.push(tableName(table.namespace, table.name));
  }
  return estimate;
}

async function check(sql: string, at: string, relations: Relations, signal: AbortSignal): Promise<Check> {
  try {
    // A line of its own, so that the columns of an error are those of the text.
    const result = await run(`EXPLAIN\n${sql}`, at, signal);
    const plan = result.text(result.rows - 1, result.columns.length - 1) ?? "";
    return { estimate: await estimateOf(plan, relations.tables, at, signal), problem: null };
  } catch (error) {
    if (signal.aborted) throw error;
    return { estimate: null, problem: withoutFirstLine(toProblem(error)) };
  }
}

function withoutFirstLine(problem: Problem): Problem {
  const line = problem.context?.line;
  if (typeof line !== "number") return problem;
  const message = problem.message.replace(`(line ${line},`, `(line ${line - 1},`);
  return { ...problem, message, context: { ...problem.context, line: line - 1 } };
}

/** Checks a text after a pause; null while it changes, and for texts that are not checked. */
export function useCheck(sql: string, at: string, relations: Relations | null): Check | null {
  const [found, setFound] = useState<{ sql: string; check: Check } | null>(null);
  useEffect(() => {
    if (!relations || !isChecked(sql)) return;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      check(sql, at, relations, abort.signal)
        .then((check) => setFound({ sql, check }))
        .catch(() => {});
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [sql, at, relations]);
  return found?.sql === sql && isChecked(sql) ? found.check : null;
}
