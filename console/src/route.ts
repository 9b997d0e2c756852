// The state of the page in the address, after `#`: a browser does not send this part to any server.

import { store, useStore } from "./store";

export interface Route {
  /** Decoded segments of the path: `["catalog", "main", "public.flights"]`. */
  path: string[];
  query: URLSearchParams;
}

function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const decode = (part: string) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

const current = store<Route>(parse(location.hash));
addEventListener("hashchange", () => current.set(parse(location.hash)));

export const useRoute = () => useStore(current);

/** Returns the address of a screen. */
export function link(path: string[], query?: Record<string, string>): string {
  const text = query ? `?${new URLSearchParams(query)}` : "";
  return `#/${path.map(encodeURIComponent).join("/")}${text}`;
}

export function go(path: string[], query?: Record<string, string>) {
  location.hash = link(path, query);
}

/** Changes the address without an entry in the history. */
export function replace(path: string[], query?: Record<string, string>) {
  replaceAddress(link(path, query));
}

/** Removes the query and the hash from the address and from the browser's history. */
export function clearAddress() {
  replaceAddress(location.pathname);
}

function replaceAddress(address: string) {
  history.replaceState(null, "", address);
  // The browser sends no `hashchange` event for this change.
  current.set(parse(location.hash));
}
