// Completion of tables, columns, keywords and functions at the chosen ref.

import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import type { SQLNamespace } from "@codemirror/lang-sql";
import { identifier } from "../format";
import type { Relations } from "../lake";
import type { Column } from "../types";

/** Functions that are worth completing, beyond the dialect's keywords. */
const FUNCTIONS =
  "abs approx_distinct array_agg array_length avg ceil coalesce concat contains corr count \
date_bin date_format date_part date_trunc extract first_value floor greatest json_get lag \
last_value lead least length lower lpad ltrim max median min now nullif ntile percent_rank rank \
regexp_like regexp_replace replace round row_number rpad rtrim split_part starts_with stddev \
string_agg strpos substr sum to_char to_date to_timestamp trim trunc unnest upper".split(/\s+/);

/** Returns tables and views with their columns, by namespace. */
export function schemaOf({ tables, views }: Relations): SQLNamespace {
  const schema: Record<string, SQLNamespace> = {};
  for (const { namespace, name, columns } of [...tables, ...views]) {
    let level = schema;
    for (const part of namespace.split(".")) {
      level = (level[part] ??= {}) as Record<string, SQLNamespace>;
    }
    level[name] = columns.map(columnCompletion);
  }
  return schema;
}

function columnCompletion({ name, type, comment }: Column): Completion {
  const quoted = identifier(name);
  return {
    label: name,
    type: "property",
    detail: type,
    ...(comment ? { info: comment } : {}),
    ...(quoted === name ? {} : { apply: quoted }),
  };
}

/** Completes the columns of the tables that the text names, and functions. */
export function columnSource({ tables, views }: Relations) {
  const all = [...tables, ...views];
  const functions = FUNCTIONS.map((label) => ({
    label,
    type: "function",
    apply: `${label}(`,
    boost: -1,
  }));
  return (context: CompletionContext): CompletionResult | null => {
    const word = context.matchBefore(/[\w]*/);
    if (!word || (word.from === word.to && !context.explicit)) return null;
    const before = context.state.sliceDoc(Math.max(0, word.from - 1), word.from);
    if (before === "." || before === '"' || before === "'") return null;
    const words = new Set(context.state.doc.toString().toLowerCase().match(/\w+/g) ?? []);
    const columns = all
      .filter(({ name }) => words.has(name.toLowerCase()))
      .flatMap(({ name, columns }) =>
        columns.map((column) => ({
          ...columnCompletion(column),
          detail: `${column.type} · ${name}`,
          boost: 2,
        })),
      );
    return { from: word.from, options: [...columns, ...functions], validFor: /^\w*$/ };
  };
}
