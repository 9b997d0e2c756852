// Results of statements: an Arrow stream, read up to a limit and shown value by value.

import { type DataType, type Table, Type, tableFromIPC } from "@uwdata/flechette";
import { ApiError, call, send } from "../api";
import type { Job } from "../types";

/** Maximum number of rows of a result on the page. */
export const ROWS_MAX = 1_000_000;

/** Maximum number of bytes of a result on the page. */
const BYTES_MAX = 512 << 20;

const MEDIA_TYPE = "application/vnd.apache.arrow.stream";

export interface ResultColumn {
  name: string;
  type: string;
  numeric: boolean;
  temporal: boolean;
}

export interface Result {
  columns: ResultColumn[];
  rows: number;
  bytes: number;
  /** True if the statement has more rows than were read. */
  truncated: boolean;
  /** The statement's job, for its usage. */
  job: string | null;
  value(row: number, column: number): unknown;
  text(row: number, column: number): string | null;
}

/** Runs SQL and reads the rows of its last statement. */
export async function run(
  sql: string,
  ref: string,
  signal: AbortSignal,
  progress: (bytes: number) => void = () => {},
): Promise<Result> {
  const body = { sql, ref, limit: ROWS_MAX + 1 };
  const response = await send("/v1/query", { body, accept: MEDIA_TYPE, signal });
  const job = response.headers.get("x-headwater-job");
  const { parts, bytes, whole } = await read(response, job, signal, progress);
  return toResult(parts, bytes, whole, job);
}

async function read(
  response: Response,
  job: string | null,
  signal: AbortSignal,
  progress: (bytes: number) => void,
) {
  const reader = response.body!.getReader();
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { parts, bytes, whole: true };
      parts.push(value);
      bytes += value.length;
      progress(bytes);
      if (bytes > BYTES_MAX) {
        await reader.cancel();
        return { parts, bytes, whole: false };
      }
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw await interrupted(job);
  }
}

/** Returns the cause of an interrupted response, which its job contains. */
async function interrupted(job: string | null): Promise<ApiError> {
  const found = job ? await call<Job>(`/v1/jobs/${job}`).catch(() => null) : null;
  const lost = { code: "unavailable", message: "the connection was lost while rows arrived" };
  return new ApiError(found?.error ?? lost, job);
}

function toResult(parts: Uint8Array[], bytes: number, whole: boolean, job: string | null): Result {
  const table: Table = tableFromIPC(joined(parts), { useBigInt: true, useDecimalInt: true });
  const columns = table.schema.fields.map(({ name, type }) => ({
    name,
    type: typeName(type),
    numeric: NUMERIC.has(type.typeId),
    temporal: type.typeId === Type.Date || type.typeId === Type.Timestamp,
  }));
  const types = table.schema.fields.map((field) => field.type);
  const children = columns.map((_, index) => table.getChildAt(index));
  const value = (row: number, column: number): unknown => children[column]!.at(row);
  return {
    columns,
    rows: Math.min(table.numRows, ROWS_MAX),
    bytes,
    truncated: !whole || table.numRows > ROWS_MAX,
    job,
    value,
    text: (row, column) => textOf(value(row, column), types[column]!),
  };
}

function joined(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const NUMERIC = new Set<number>([Type.Int, Type.Float, Type.Decimal]);

const INTEGERS: Record<number, string> = { 8: "TINYINT", 16: "SMALLINT", 32: "INT", 64: "BIGINT" };

/** Returns the SQL name of an Arrow type. */
function typeName(type: DataType): string {
  switch (type.typeId) {
    case Type.Int:
      return `${type.signed ? "" : "U"}${INTEGERS[type.bitWidth] ?? "INT"}`;
    case Type.Float:
      return type.precision === 2 ? "DOUBLE" : "REAL";
    case Type.Decimal:
      return `DECIMAL(${type.precision}, ${type.scale})`;
    case Type.Utf8:
    case Type.LargeUtf8:
      return "VARCHAR";
    case Type.Binary:
    case Type.LargeBinary:
    case Type.FixedSizeBinary:
      return "BINARY";
    case Type.Bool:
      return "BOOLEAN";
    case Type.Date:
      return "DATE";
    case Type.Time:
      return "TIME";
    case Type.Timestamp:
      return type.timezone ? "TIMESTAMPTZ" : "TIMESTAMP";
    case Type.List:
    case Type.LargeList:
    case Type.FixedSizeList:
      return `${typeName(type.children[0]!.type)}[]`;
    case Type.Struct:
      return `STRUCT(${type.children.map(({ name, type }) => `${name} ${typeName(type)}`).join(", ")})`;
    case Type.Map:
      return "MAP";
    case Type.Null:
      return "NULL";
    case Type.Dictionary:
      return typeName(type.dictionary);
    default:
      return Type[type.typeId as never] ?? "?";
  }
}

/** Returns a value as text; null for SQL's null. */
function textOf(value: unknown, type: DataType): string | null {
  if (value === null || value === undefined) return null;
  switch (type.typeId) {
    case Type.Decimal:
      return decimal(value as bigint, type.scale);
    case Type.Date:
      return timeText(Number(value)).slice(0, 10);
    case Type.Timestamp: {
      const text = timeText(Number(value));
      return type.timezone ? `${text}Z` : text;
    }
    case Type.Time:
      return clockText(BigInt(value as bigint), type.unit);
    case Type.Binary:
    case Type.LargeBinary:
    case Type.FixedSizeBinary:
      return hex(value as Uint8Array);
    case Type.Dictionary:
      return textOf(value, type.dictionary);
    default:
      return typeof value === "object" ? JSON.stringify(value, plain) : String(value);
  }
}

function plain(_: string, value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Uint8Array) return hex(value);
  if (ArrayBuffer.isView(value)) return [...(value as unknown as Iterable<unknown>)];
  return value;
}

const hex = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function decimal(value: bigint, scale: number): string {
  if (scale <= 0) return String(value * 10n ** BigInt(-scale));
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, "0");
  return `${value < 0n ? "-" : ""}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

/** Returns milliseconds since 1970, whose fraction has microseconds, as text. */
function timeText(ms: number): string {
  const date = new Date(Math.floor(ms));
  if (Number.isNaN(date.getTime())) return `${ms} ms`;
  const micros = Math.round((ms - Math.floor(ms)) * 1000);
  const text = date.toISOString().replace("T", " ").slice(0, -1);
  if (micros) return text + String(micros).padStart(3, "0");
  return text.replace(/\.000$/, "");
}

function clockText(value: bigint, unit: number): string {
  const perSecond = 1000n ** BigInt(unit);
  const seconds = Number(value / perSecond);
  const clock = new Date(seconds * 1000).toISOString().slice(11, 19);
  const fraction = value % perSecond;
  return fraction ? `${clock}.${String(fraction).padStart(unit * 3, "0")}` : clock;
}
