// A text field with the list of matching entries; the arrow keys and Enter choose one.

import { useEffect, useRef, useState } from "preact/hooks";

export interface Choice {
  name: string;
  kind: string;
}

interface Props<T> {
  /** Name of the field for screen readers. */
  label: string;
  placeholder: string;
  /** Returns the entries that match a text. */
  find(text: string): T[];
  choose(choice: T): void;
  /** Called for Escape. */
  cancel?(): void;
}

export function ChoiceList<T extends Choice>({ label, placeholder, find, choose, cancel }: Props<T>) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const found = find(text);
  const onKeyDown = (event: KeyboardEvent) => {
    const chosen = found[at];
    if (event.key === "ArrowDown") setAt(Math.min(at + 1, found.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
    else if (event.key === "Enter" && chosen) choose(chosen);
    else if (event.key === "Escape" && cancel) cancel();
    else return;
    event.preventDefault();
  };
  return (
    <>
      <input
        ref={input}
        value={text}
        placeholder={placeholder}
        aria-label={label}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul role="listbox" class="choices">
        {found.map((choice, index) => (
          <li
            role="option"
            aria-selected={index === at}
            key={`${choice.kind} ${choice.name}`}
            onMouseMove={() => setAt(index)}
            onClick={() => choose(choice)}
          >
            <span>{choice.name}</span>
            <small>{choice.kind}</small>
          </li>
        ))}
      </ul>
      {found.length === 0 && text && <p class="muted">Nothing matches “{text}”.</p>}
    </>
  );
}
