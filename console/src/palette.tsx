// The command palette (`Ctrl`+`K`): screens, tables, branches and saved queries by name; and the
// keys of the page (`?`).

import { useEffect, useRef, useState } from "preact/hooks";
import { tableName } from "./format";
import { loadRefs, loadRelations, ref as chosen, useLoad } from "./lake";
import { openText, saved } from "./query/workspace";
import { go } from "./route";
import { useStore } from "./store";
import { Dialog } from "./ui/parts";

/** Maximum number of entries in the list. */
const SHOWN_MAX = 12;

interface Entry {
  name: string;
  kind: string;
  start(): void;
}

export interface Target {
  title: string;
  path: string[];
}

/** Returns entries whose name has all words of the text, prefixes first. */
export function matching<T extends { name: string }>(entries: T[], text: string): T[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = entries.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  const rank = ({ name }: T) => (name.toLowerCase().startsWith(words[0] ?? "") ? 0 : 1);
  return found.sort((one, other) => rank(one) - rank(other));
}

export function Palette({ targets, close }: { targets: Target[]; close: () => void }) {
  const at = useStore(chosen);
  const queries = useStore(saved);
  const found = useLoad(`palette ${at}`, async (signal) => {
    const [refs, relations] = await Promise.all([loadRefs(signal), loadRelations(at, signal)]);
    return { refs, relations };
  });
  const { refs, relations } = found.value ?? {};
  const entries: Entry[] = [
    ...targets.map(({ title, path }) => ({ name: title, kind: "screen", start: () => go(path) })),
    ...[...(relations?.tables ?? []), ...(relations?.views ?? [])].map(({ namespace, name }) => ({
      name: tableName(namespace, name),
      kind: "table",
      start: () => go(["catalog", "table", `${namespace}.${name}`]),
    })),
    ...(refs?.branches ?? []).map(({ name }) => ({
      name,
      kind: "use branch",
      start: () => chosen.set(name),
    })),
    ...queries.map(({ name, sql }) => ({
      name,
      kind: "saved query",
      start: () => {
        openText(sql, name);
        go(["query"]);
      },
    })),
  ];
  return <PaletteList entries={entries} close={close} />;
}

function PaletteList({ entries, close }: { entries: Entry[]; close: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const shown = matching(entries, text).slice(0, SHOWN_MAX);
  const choose = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    entry.start();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") setAt(Math.min(at + 1, shown.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
    else if (event.key === "Enter") choose(shown[at]);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title="Go to" close={close}>
      <input
        ref={input}
        value={text}
        placeholder="Screen, table, branch or saved query"
        aria-label="Go to"
        onInput={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul role="listbox" class="choices">
        {shown.map((entry, index) => (
          <li
            role="option"
            aria-selected={index === at}
            key={`${entry.kind} ${entry.name}`}
            onMouseMove={() => setAt(index)}
            onClick={() => choose(entry)}
          >
            <span>{entry.name}</span>
            <small>{entry.kind}</small>
          </li>
        ))}
      </ul>
      {shown.length === 0 && <p class="muted">Nothing matches “{text}”.</p>}
    </Dialog>
  );
}

const KEYS: [string, string][] = [
  ["Ctrl K", "go to a screen, table or branch"],
  ["g, then q c r f u a", "go to a screen"],
  ["b", "choose the branch"],
  ["?", "show these keys"],
  ["Ctrl Enter", "run the text, or the selection"],
  ["Ctrl Space", "complete"],
  ["Escape", "cancel the statement, when the editor has the focus"],
  ["arrows, Page, Home, End", "move in the rows"],
  ["Enter, Ctrl C", "show or copy a value of the rows"],
];

export function Keys({ close }: { close: () => void }) {
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{what}</dd>
          </>
        ))}
      </dl>
    </Dialog>
  );
}
