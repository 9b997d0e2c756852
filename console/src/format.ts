// Numbers, sizes, times and costs as text.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value: number): string {
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : /(s|ch)$/.test(noun) ? "es" : "s"}`;
}

export function cost(value: number, currency = "USD"): string {
  if (value === 0) return `0 ${currency}`;
  const digits = value >= 1 ? 2 : Math.min(10, 2 - Math.floor(Math.log10(value)));
  return `${value.toFixed(digits).replace(/0+$/, "").replace(/\.$/, "")} ${currency}`;
}

const time = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

export function moment(text: string | null | undefined): string {
  return text ? time.format(new Date(text)) : "";
}

/** Returns a time as its distance from now: `5 min ago`. */
export function ago(text: string | null | undefined): string {
  if (!text) return "";
  const seconds = (Date.now() - new Date(text).getTime()) / 1000;
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export const short = (id: string) => id.slice(0, 8);

/** Returns a name as SQL: quoted unless it is a plain identifier. */
export function identifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Returns a table's name as SQL. */
export function tableName(namespace: string, name: string): string {
  const parts = namespace === "public" ? [] : namespace.split(".");
  return [...parts, name].map(identifier).join(".");
}
