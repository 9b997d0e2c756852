// The check of a statement while it is typed: its errors, and the bytes that it reads at most.
//
// `EXPLAIN COST` plans the statement without running it.

import { useEffect, useState } from "preact/hooks";
import { type Problem, toProblem } from "../api";
import type { Relations } from "../lake";
import { type Result, run } from "./result";

/** Pause after the last key before a statement is checked, in milliseconds. */
const PAUSE_MS = 600;

/** The first word of statements that are checked: those that only read. */
const READS = /^(\s|--[^\n]*\n|\/\*[\s\S]*?\*\/)*(select|with|from|values)\b/i;

export interface Estimate {
  /** Bytes that the statement reads at most. */
  bytes: number;
  /** Null if a table has a row filter, because its files also contain hidden rows. */
  files: number | null;
  cost: number;
  currency: string;
  tables: string[];
}

export interface Check {
  estimate: Estimate | null;
  problem: Problem | null;
}

/** Returns true if a text is one statement that only reads, with or without a final semicolon. */
export function isChecked(sql: string): boolean {
  return READS.test(sql) && !/;\s*\S/.test(sql);
}

/** Returns the estimate in the rows of `EXPLAIN COST`: a row for each table, and one with the sums. */
function estimateOf(result: Result): Estimate {
  const tables: string[] = [];
  for (let row = 0; row < result.rows - 1; row += 1) tables.push(result.text(row, 0) ?? "a view");
  const total = (column: number) => result.value(result.rows - 1, column);
  const files = total(1);
  return {
    tables,
    files: files == null ? null : Number(files),
    bytes: Number(total(3)),
    cost: Number(total(4)),
    currency: result.text(result.rows - 1, 5) ?? "USD",
  };
}

async function check(sql: string, at: string, signal: AbortSignal): Promise<Check> {
  try {
    // The prefix is on a separate line, so that the columns in errors are those of the text.
    const result = await run(`EXPLAIN COST\n${sql}`, at, signal);
    return { estimate: estimateOf(result), problem: null };
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
      check(sql, at, abort.signal)
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
