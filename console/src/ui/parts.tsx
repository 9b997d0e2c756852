// Small parts that every screen uses.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { type Problem, toProblem } from "../api";
import { duration } from "../format";

/** Shows an error: its message, causes and hint. */
export function ProblemBox({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="problem" role="alert">
      <p class="problem-message">{problem.message}</p>
      {(problem.causes ?? []).map((cause) => (
        <p class="problem-cause">{cause}</p>
      ))}
      {problem.hint && <p class="problem-hint">{problem.hint}</p>}
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
      <code class="problem-code">{problem.code}</code>
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      Loading {what}…
    </p>
  );
}

/** The symbol before each status, so that colours are not the only difference. */
export const MARKS: Record<string, string> = {
  succeeded: "✓",
  failed: "✕",
  running: "●",
  queued: "○",
  cancelled: "■",
  interrupted: "■",
  unchanged: "=",
  reused: "=",
  warned: "!",
  skipped: "–",
  done: "✓",
  pending: "○",
};

/** Shows a status by a mark, a word and a colour. */
export function Status({ status }: { status: string }) {
  return (
    <span class={`status status-${status}`}>
      <span aria-hidden="true">{MARKS[status] ?? "?"}</span> {status}
    </span>
  );
}

/** A dialog on top of the page; Escape closes it. */
export function Dialog(props: { title: string; close: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog
      ref={element}
      onClose={props.close}
      onClick={(event) => event.target === element.current && props.close()}
      aria-label={props.title}
    >
      <header>
        <h2>{props.title}</h2>
        <button type="button" class="quiet" onClick={props.close} aria-label="Close">
          ✕
        </button>
      </header>
      {props.children}
    </dialog>
  );
}

/** Shows elapsed time that grows while something runs. */
export function Elapsed({ since }: { since: number }) {
  const element = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    const show = () => {
      if (element.current) element.current.textContent = duration(performance.now() - since);
    };
    const timer = setInterval(show, 100);
    show();
    return () => clearInterval(timer);
  }, [since]);
  return <span ref={element} />;
}

/** Offers bytes as a file. */
export function download(name: string, content: Blob) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(content);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
}

/** Runs an action; its error becomes a short message. */
export async function attempt(action: () => Promise<void>) {
  try {
    await action();
  } catch (error) {
    const { message, hint } = toProblem(error);
    toast(hint ? `${message}. ${hint}` : message);
  }
}

/** Shows a short message at the edge of the page. */
export function toast(text: string) {
  const element = document.createElement("div");
  element.className = "toast";
  element.setAttribute("role", "status");
  element.textContent = text;
  document.body.append(element);
  setTimeout(() => element.remove(), 4000);
}
