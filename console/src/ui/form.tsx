// A dialog with a form: its fields, the error of the last attempt, and one button.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Problem, toProblem } from "../api";
import { Dialog, ProblemBox } from "./parts";

interface Props {
  title: string;
  /** Text of the button. */
  action: string;
  close(): void;
  /** Sends the request; the dialog closes unless this throws or returns false. */
  submit(): Promise<boolean | void>;
  children: ComponentChildren;
}

export function FormDialog({ title, action, close, submit, children }: Props) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const send = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      if ((await submit()) !== false) close();
    } catch (error) {
      setProblem(toProblem(error));
    }
    setBusy(false);
  };
  return (
    <Dialog title={title} close={close}>
      <form class="form" onSubmit={send}>
        {children}
        {problem && <ProblemBox problem={problem} />}
        <button class="primary" disabled={busy}>
          {action}
        </button>
      </form>
    </Dialog>
  );
}

interface FieldProps {
  label: string;
  value: string;
  change(value: string): void;
  type?: "text" | "password";
  required?: boolean;
  placeholder?: string;
}

export function Field({ label, value, change, type = "text", required = false, placeholder = "" }: FieldProps) {
  return (
    <label>
      {label}
      <input
        type={type as "text"}
        value={value}
        required={required}
        placeholder={placeholder}
        autocomplete={type === "password" ? "new-password" : "off"}
        onInput={(event) => change(event.currentTarget.value)}
      />
    </label>
  );
}
