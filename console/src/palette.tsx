// The command palette (`Ctrl`+`K`): screens, tables, branches and saved queries by name; and the
// keys of the page (`?`).

import { tableName } from "./format";
import { loadRefs, loadRelations, ref as chosen, useLoad } from "./lake";
import { openText, saved } from "./query/workspace";
import { go } from "./route";
import { useStore } from "./store";
import { type Choice, ChoiceList } from "./ui/choice_list";
import { Dialog } from "./ui/parts";

/** Maximum number of entries in the list. */
const SHOWN_MAX = 12;

interface Entry extends Choice {
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
  const choose = (entry: Entry) => {
    close();
    entry.start();
  };
  return (
    <Dialog title="Go to" close={close}>
      <ChoiceList
        label="Go to"
        placeholder="Screen, table, branch or saved query"
        find={(text) => matching(entries, text).slice(0, SHOWN_MAX)}
        choose={choose}
      />
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
  ["arrows, Page, Home, End", "move between the rows"],
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
