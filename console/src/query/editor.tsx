// The SQL editor, in a shadow root. The content security policy forbids `style` elements. In a
// shadow root, CodeMirror adds its styles as constructed style sheets, which the policy allows.

import {
  acceptCompletion,
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  closeCompletion,
  completionKeymap,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { PostgreSQL, keywordCompletionSource, schemaCompletionSource, sql } from "@codemirror/lang-sql";
import { HighlightStyle, bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { type Diagnostic, lintGutter, setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState, Prec } from "@codemirror/state";
import {
  EditorView,
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  keymap,
  lineNumbers,
  placeholder,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "preact/hooks";
import type { Problem } from "../api";
import type { Relations } from "../lake";
import { columnSource, schemaOf } from "./completion";

/** A problem with the position of the statement in the editor's text. */
export interface PlacedProblem {
  problem: Problem;
  /** Offset of the statement that was run. */
  offset: number;
}

interface Props {
  /** Identifies the text: if the id changes, the editor shows the new `text`. */
  id: string;
  text: string;
  relations: Relations | null;
  problem: PlacedProblem | null;
  changed(text: string): void;
  run(): void;
  /** Called with CodeMirror's view once the editor exists. */
  attach(view: EditorView): void;
}

const highlight = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--code-keyword)", fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
  { tag: [tags.typeName, tags.standard(tags.name)], color: "var(--code-type)" },
]);

const theme = EditorView.theme({
  "&": { height: "100%", fontSize: "14px", color: "var(--text)", backgroundColor: "var(--surface)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--muted)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--line-active)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "var(--selection)",
  },
  ".cm-matchingBracket": { backgroundColor: "var(--selection)" },
  ".cm-placeholder": { color: "var(--muted)" },
  ".cm-tooltip": {
    backgroundColor: "var(--raised)",
    color: "var(--text)",
    border: "1px solid var(--border)",
    borderRadius: "6px",
    overflow: "hidden",
    boxShadow: "var(--shadow)",
  },
  ".cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "13px" },
  ".cm-tooltip-autocomplete > ul > li": { padding: "3px 8px !important" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": {
    background: "var(--accent) !important",
    color: "var(--on-accent) !important",
  },
  ".cm-completionDetail": { opacity: "0.7", fontStyle: "normal", marginLeft: "1em" },
  ".cm-diagnostic": { fontFamily: "var(--sans)", fontSize: "13px", padding: "6px 10px" },
});

function completions(relations: Relations | null) {
  const found = relations ?? { tables: [], views: [] };
  return autocompletion({
    override: [
      schemaCompletionSource({ dialect: PostgreSQL, schema: schemaOf(found), defaultSchema: "public" }),
      columnSource(found),
      keywordCompletionSource(PostgreSQL, true),
    ],
    icons: false,
    maxRenderedOptions: 60,
  });
}

function stateOf(text: string, props: { current: Props }, completion: Compartment) {
  const run = (view: EditorView) => {
    closeCompletion(view);
    props.current.run();
    return true;
  };
  return EditorState.create({
    doc: text,
    extensions: [
      Prec.highest(keymap.of([{ key: "Mod-Enter", run }, { key: "Ctrl-Enter", run }])),
      lineNumbers(),
      lintGutter(),
      history(),
      drawSelection(),
      bracketMatching(),
      closeBrackets(),
      highlightActiveLine(),
      highlightActiveLineGutter(),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": "SQL" }),
      sql({ dialect: PostgreSQL, upperCaseKeywords: true }),
      completion.of(completions(props.current.relations)),
      syntaxHighlighting(highlight),
      theme,
      placeholder("SELECT … (Ctrl+Enter runs, Ctrl+Space completes)"),
      keymap.of([
        { key: "Tab", run: acceptCompletion },
        ...closeBracketsKeymap,
        ...completionKeymap,
        ...defaultKeymap,
        ...historyKeymap,
        indentWithTab,
      ]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) props.current.changed(update.state.doc.toString());
      }),
    ],
  });
}

export function Editor(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef(props);
  const completion = useRef(new Compartment());
  latest.current = props;
  useEffect(() => {
    const root = host.current!.shadowRoot ?? host.current!.attachShadow({ mode: "open" });
    view.current = new EditorView({ root, parent: root });
    latest.current.attach(view.current);
    return () => view.current?.destroy();
  }, []);
  useEffect(() => {
    view.current?.setState(stateOf(latest.current.text, latest, completion.current));
    view.current?.focus();
  }, [props.id]);
  useEffect(() => {
    const effects = completion.current.reconfigure(completions(props.relations));
    view.current?.dispatch({ effects });
  }, [props.relations, props.id]);
  useEffect(() => {
    if (view.current) showProblem(view.current, props.problem);
  }, [props.problem, props.id]);
  return <div class="editor" ref={host} data-testid="editor" />;
}

function showProblem(view: EditorView, placed: PlacedProblem | null) {
  const diagnostics: Diagnostic[] = [];
  const range = placed && rangeOf(view.state, placed);
  if (range) {
    const { message, hint } = placed.problem;
    diagnostics.push({ ...range, severity: "error", message: hint ? `${message}\n${hint}` : message });
  }
  view.dispatch(setDiagnostics(view.state, diagnostics));
}

/** Returns the word at the line and column of a problem, which count from 1. */
function rangeOf(state: EditorState, { problem, offset }: PlacedProblem) {
  const { line, column } = problem.context ?? {};
  if (typeof line !== "number" || typeof column !== "number") return null;
  const first = state.doc.lineAt(Math.min(offset, state.doc.length));
  const number = first.number + line - 1;
  if (number > state.doc.lines) return null;
  const place = state.doc.line(number);
  const before = line === 1 ? offset - first.from : 0;
  // Columns count characters, positions count UTF-16 units.
  const shown = [...place.text.slice(before)].slice(0, column - 1).join("").length;
  const from = Math.min(place.from + before + shown, place.to);
  const word = state.wordAt(from);
  const to = word && word.from >= from - 1 ? word.to : Math.min(from + 1, place.to);
  return { from: Math.min(from, Math.max(to - 1, place.from)), to: Math.max(to, from) };
}
