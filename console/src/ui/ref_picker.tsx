// The chosen ref, and the list to choose another one from.

import { useEffect, useRef, useState } from "preact/hooks";
import { loadRefs, ref as chosen, useLoad } from "../lake";
import { useStore } from "../store";

interface Choice {
  name: string;
  kind: string;
}

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
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const all: Choice[] = [
    ...(refs.value?.branches ?? []).map(({ name }) => ({ name, kind: "branch" })),
    ...(refs.value?.tags ?? []).map(({ name }) => ({ name, kind: "tag" })),
  ];
  const found = all.filter(({ name }) => name.toLowerCase().includes(text.toLowerCase()));
  const typed = text.trim();
  if (typed && !found.some(({ name }) => name === typed)) found.push({ name: typed, kind: "ref" });
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") choose(null);
    else if (event.key === "ArrowDown") setAt(Math.min(at + 1, found.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
    else if (event.key === "Enter") choose(found[at]?.name ?? null);
    else return;
    event.preventDefault();
  };
  return (
    <div class="popover">
      <input
        ref={input}
        value={text}
        placeholder="Branch, tag or commit"
        aria-label="Find a ref"
        onInput={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul role="listbox">
        {found.map((choice, index) => (
          <li
            role="option"
            aria-selected={index === at}
            key={`${choice.kind} ${choice.name}`}
            onMouseMove={() => setAt(index)}
            onClick={() => choose(choice.name)}
          >
            <span>{choice.name}</span>
            <small>{choice.kind}</small>
          </li>
        ))}
      </ul>
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
