// Values that several screens read: the chosen ref, branches and tags, and the tables at a ref.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Problem, call, segment, toProblem } from "./api";
import { store } from "./store";
import type { Branch, Table, Tag, View } from "./types";

/** The ref that every screen shows. */
export const ref = store<string>("main", "headwater.ref");

/** Counts changes made through the page, after which lists are read again. */
export const changes = store<number>(0);

export interface Loaded<T> {
  value: T | null;
  problem: Problem | null;
  loading: boolean;
  reload(): void;
}

/** Reads a resource, and again when `key` changes; keeps the old value meanwhile. */
export function useLoad<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  refreshMs = 0,
): Loaded<T> {
  const [state, setState] = useState<{ key: string | null; value: T | null; problem: Problem | null }>(
    { key: null, value: null, problem: null },
  );
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    if (key === null) return;
    const abort = new AbortController();
    let timer = 0;
    const read = async () => {
      try {
        const value = await latest.current(abort.signal);
        if (!abort.signal.aborted) setState({ key, value, problem: null });
      } catch (error) {
        if (abort.signal.aborted) return;
        setState((old) => ({
          key,
          value: old.key === key ? old.value : null,
          problem: toProblem(error),
        }));
      }
      if (refreshMs && !abort.signal.aborted) timer = setTimeout(read, refreshMs) as never;
    };
    void read();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, round, refreshMs]);
  const reload = useCallback(() => setRound((old) => old + 1), []);
  const isCurrent = state.key === key;
  return {
    value: isCurrent ? state.value : null,
    problem: isCurrent ? state.problem : null,
    loading: !isCurrent && key !== null,
    reload,
  };
}

export interface Refs {
  branches: Branch[];
  tags: Tag[];
}

export async function loadRefs(signal?: AbortSignal): Promise<Refs> {
  const options = signal ? { signal } : {};
  const [branches, tags] = await Promise.all([
    call<Branch[]>("/v1/branches", options),
    call<Tag[]>("/v1/tags", options),
  ]);
  return { branches, tags };
}

export interface Relations {
  tables: Table[];
  views: View[];
}

export async function loadRelations(at: string, signal?: AbortSignal): Promise<Relations> {
  const options = signal ? { signal } : {};
  const [tables, views] = await Promise.all([
    call<Table[]>(`/v1/refs/${segment(at)}/tables`, options),
    call<View[]>(`/v1/refs/${segment(at)}/views`, options),
  ]);
  return { tables, views };
}
