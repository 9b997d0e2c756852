// The chosen ref, and the list to choose another one from.

import { useEffect, useRef, useState } from "preact/hooks";
import { loadRefs, ref as chosen, useLoad } from "../lake";
import { useStore } from "../store";
import { type Choice, ChoiceList } from "./choice_list";

export function RefPicker() {
  const name = useStore(chosen);
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (event: MouseEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("mousedown", close);
    return () => removeEventListener("mousedown", close);
  }, [open]);
  return (
    <div class="ref-picker" ref={root}>
      <button
        type="button"
        class={name === "main" ? "ref" : "ref ref-other"}
        aria-haspopup="listbox"
        aria-expanded={open}
        aria-label={`Ref: ${name}`}
        onClick={() => setOpen(!open)}
      >
        <BranchIcon /> <span class="ref-name">{name}</span> <span aria-hidden="true">▾</span>
      </button>
      {open && (
        <RefList
          choose={(next) => {
            if (next) chosen.set(next);
            setOpen(false);
          }}
        />
      )}
    </div>
  );
}

function RefList({ choose }: { choose: (name: string | null) => void }) {
  const refs = useLoad("refs", loadRefs);
  const all: Choice[] = [
    ...(refs.value?.branches ?? []).map(({ name }) => ({ name, kind: "branch" })),
    ...(refs.value?.tags ?? []).map(({ name }) => ({ name, kind: "tag" })),
  ];
  const find = (text: string) => {
    const found = all.filter(({ name }) => name.toLowerCase().includes(text.toLowerCase()));
    const typed = text.trim();
    if (typed && !found.some(({ name }) => name === typed)) found.push({ name: typed, kind: "ref" });
    return found;
  };
  return (
    <div class="popover">
      <ChoiceList
        label="Find a ref"
        placeholder="Branch, tag or commit"
        find={find}
        choose={({ name }) => choose(name)}
        cancel={() => choose(null)}
      />
      {refs.problem && <p class="problem-hint">{refs.problem.message}</p>}
    </div>
  );
}

export function BranchIcon() {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <circle cx="4" cy="3" r="1.8" />
      <circle cx="4" cy="13" r="1.8" />
      <circle cx="12" cy="5" r="1.8" />
      <path d="M4 5v6M12 7c0 3-4 2-7 4" fill="none" />
    </svg>
  );
}
