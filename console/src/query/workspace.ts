// Tabs, history and saved queries, kept in the browser: texts only, never results.

import { store } from "../store";

export interface Tab {
  id: string;
  title: string;
  text: string;
}

export interface Entry {
  sql: string;
  ref: string;
  time: string;
  ms: number;
  /** Number of rows, or the message of the error. */
  rows?: number;
  error?: string;
}

export interface Saved {
  name: string;
  sql: string;
}

interface Tabs {
  all: Tab[];
  active: string;
}

/** Maximum number of statements in the history. */
const HISTORY_MAX = 300;

const newId = () => crypto.randomUUID();

function firstTabs(): Tabs {
  const id = newId();
  return { all: [{ id, title: "Query 1", text: "" }], active: id };
}

export const tabs = store<Tabs>(firstTabs(), "headwater.tabs");
export const history = store<Entry[]>([], "headwater.history");
export const saved = store<Saved[]>([], "headwater.saved");

export function addTab(text = "", title?: string): string {
  const id = newId();
  const { all } = tabs.get();
  const numbers = all.map(({ title }) => Number(/^Query (\d+)$/.exec(title)?.[1] ?? 0));
  const name = title ?? `Query ${Math.max(0, ...numbers) + 1}`;
  tabs.set({ all: [...all, { id, title: name, text }], active: id });
  return id;
}

export function closeTab(id: string) {
  const { all, active } = tabs.get();
  const at = all.findIndex((tab) => tab.id === id);
  const rest = all.filter((tab) => tab.id !== id);
  if (rest.length === 0) return tabs.set(firstTabs());
  const next = active === id ? rest[Math.min(at, rest.length - 1)]!.id : active;
  tabs.set({ all: rest, active: next });
}

export function changeTab(id: string, change: Partial<Tab>) {
  tabs.update(({ all, active }) => ({
    all: all.map((tab) => (tab.id === id ? { ...tab, ...change } : tab)),
    active,
  }));
}

/** Opens text in the active tab if that is empty, else in a new one. */
export function openText(text: string, title?: string) {
  const { all, active } = tabs.get();
  const current = all.find((tab) => tab.id === active);
  if (!current || current.text.trim()) {
    addTab(text, title);
    return;
  }
  // The tab gets a new id, because the editor shows a new text only for a new id.
  const opened = { id: newId(), title: title ?? current.title, text };
  tabs.set({ all: all.map((tab) => (tab.id === active ? opened : tab)), active: opened.id });
}

export function remember(entry: Entry) {
  history.update((all) => [entry, ...all.slice(0, HISTORY_MAX - 1)]);
}

export function save(name: string, sql: string) {
  saved.update((all) => [{ name, sql }, ...all.filter((one) => one.name !== name)]);
}
