// Values that several components share; some are kept in the browser.

import { useEffect, useState } from "preact/hooks";

export interface Store<T> {
  get(): T;
  set(value: T): void;
  update(change: (value: T) => T): void;
  subscribe(listener: () => void): () => void;
}

/** Creates a store; with a key its value is kept in the storage of this origin. */
export function store<T>(initial: T, key?: string): Store<T> {
  let value = (key && read<T>(key)) || initial;
  const listeners = new Set<() => void>();
  const set = (next: T) => {
    value = next;
    if (key) keep(key, next);
    for (const listener of [...listeners]) listener();
  };
  return {
    get: () => value,
    set,
    update: (change) => set(change(value)),
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Returns the value of a store, and renders again when it changes. */
export function useStore<T>(of: Store<T>): T {
  const [value, setValue] = useState<T>(() => of.get());
  useEffect(() => {
    setValue(() => of.get());
    return of.subscribe(() => setValue(() => of.get()));
  }, [of]);
  return value;
}

function read<T>(key: string): T | null {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") as T | null;
  } catch {
    return null;
  }
}

function keep(key: string, value: unknown) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // The storage is full, so the value is kept only until the page is closed.
  }
}
