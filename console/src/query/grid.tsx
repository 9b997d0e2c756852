// Rows of a result. Only the visible ones are in the document.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count } from "../format";
import { positionOf, visible } from "../ui/window";
import type { Result } from "./result";

const ROW_HEIGHT = 28;

/** Rows that column widths are measured by. */
const SAMPLE = 60;

interface Cell {
  row: number;
  column: number;
}

interface Props {
  result: Result;
  columnChosen(column: number): void;
}

export function Grid({ result, columnChosen }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 400 });
  const [cell, setCell] = useState<Cell | null>(null);
  const [open, setOpen] = useState(false);
  const widths = useMemo(() => widthsOf(result), [result]);
  useLayoutEffect(() => {
    const element = scroller.current!;
    element.scrollTop = 0;
    setCell(null);
    setOpen(false);
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, [result]);
  const shape = { rows: result.rows, rowHeight: ROW_HEIGHT, ...view };
  const shown = visible(shape);
  const numberWidth = 34 + 7 * count(result.rows).length;
  const width = widths.reduce((sum, one) => sum + one, numberWidth);
  useEffect(() => {
    if (cell) reveal(scroller.current!, cell, shape, widths);
  }, [cell]);
  const move = (event: KeyboardEvent) => {
    const next = moved(event.key, cell ?? { row: 0, column: -1 }, result, event.ctrlKey);
    if (event.key === "Enter" && cell) setOpen(true);
    else if (event.key === "Escape") setOpen(false);
    else if (event.key === "c" && (event.ctrlKey || event.metaKey) && cell) copy(result, cell);
    else if (next) setCell(next);
    else return;
    event.preventDefault();
  };
  const rows = [];
  for (let row = shown.first; row < shown.end; row += 1) {
    rows.push(
      <Row key={row} result={result} row={row} widths={widths} cell={cell?.row === row ? cell : null}
        choose={setCell} open={() => setOpen(true)} />,
    );
  }
  return (
    <div class="grid-box" style={{ "--number-width": `${numberWidth}px` }}>
      <div
        class="grid"
        role="grid"
        tabIndex={0}
        aria-rowcount={result.rows + 1}
        aria-colcount={result.columns.length}
        ref={scroller}
        onScroll={(event) => setView({ ...view, top: event.currentTarget.scrollTop })}
        onKeyDown={move}
      >
        <div class="grid-head" role="row" style={{ width: `${width}px` }}>
          <div class="grid-number" role="columnheader" aria-label="row" />
          {result.columns.map(({ name, type, numeric }, column) => (
            <div
              role="columnheader"
              class={numeric ? "number" : ""}
              style={{ width: `${widths[column]}px` }}
            >
              <button
                type="button"
                title={`${name}: ${type}. Click for statistics.`}
                onClick={() => columnChosen(column)}
              >
                <b>{name}</b> <small>{type}</small>
              </button>
            </div>
          ))}
        </div>
        <div class="grid-body" style={{ height: `${shown.total}px`, width: `${width}px` }}>
          <div style={{ transform: `translateY(${shown.offset}px)` }}>{rows}</div>
        </div>
      </div>
      {open && cell && <CellPanel result={result} cell={cell} close={() => setOpen(false)} />}
    </div>
  );
}

interface RowProps {
  result: Result;
  row: number;
  widths: number[];
  cell: Cell | null;
  choose(cell: Cell): void;
  open(): void;
}

function Row({ result, row, widths, cell, choose, open }: RowProps) {
  return (
    <div class={row % 2 ? "grid-row odd" : "grid-row"} role="row" aria-rowindex={row + 2}>
      <div class="grid-number" role="rowheader">{count(row + 1)}</div>
      {result.columns.map(({ numeric }, column) => {
        const text = result.text(row, column);
        const chosen = cell?.column === column ? " chosen" : "";
        return (
          <div
            role="gridcell"
            aria-selected={chosen !== ""}
            class={(text === null ? "null" : numeric ? "number" : "") + chosen}
            style={{ width: `${widths[column]}px` }}
            onClick={() => choose({ row, column })}
            onDblClick={open}
          >
            {text === null ? "NULL" : text.length > 300 ? `${text.slice(0, 300)}…` : text}
          </div>
        );
      })}
    </div>
  );
}

/** Shows the whole value of a cell. */
function CellPanel({ result, cell, close }: { result: Result; cell: Cell; close: () => void }) {
  const text = result.text(cell.row, cell.column);
  const { name, type } = result.columns[cell.column]!;
  return (
    <aside class="side-panel" aria-label="Cell">
      <header>
        <b>{name}</b> <small>{type}, row {count(cell.row + 1)}</small>
        <span class="grow" />
        <button type="button" class="quiet" onClick={() => copy(result, cell)}>Copy</button>
        <button type="button" class="quiet" onClick={close} aria-label="Close">✕</button>
      </header>
      <pre>{text === null ? "NULL" : indented(text)}</pre>
    </aside>
  );
}

function indented(text: string): string {
  if (!/^[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function copy(result: Result, { row, column }: Cell) {
  void navigator.clipboard?.writeText(result.text(row, column) ?? "");
}

/** Returns the cell to which a key moves the selection; null for keys that do not move it. */
function moved(key: string, { row, column }: Cell, result: Result, far: boolean): Cell | null {
  const rows: Record<string, number> = {
    ArrowDown: row + 1,
    ArrowUp: row - 1,
    PageDown: row + 20,
    PageUp: row - 20,
    Home: far ? 0 : row,
    End: far ? result.rows - 1 : row,
  };
  const columns: Record<string, number> = {
    ArrowRight: column + 1,
    ArrowLeft: column - 1,
    Home: far ? column : 0,
    End: far ? column : result.columns.length - 1,
  };
  if (!(key in rows) && !(key in columns)) return null;
  const within = (value: number, end: number) => Math.max(0, Math.min(value, end - 1));
  return {
    row: within(rows[key] ?? row, result.rows),
    column: within(columns[key] ?? column, result.columns.length),
  };
}

/** Scrolls a cell into view. */
function reveal(
  element: HTMLElement,
  { row, column }: Cell,
  view: { rows: number; rowHeight: number; height: number; top: number },
  widths: number[],
) {
  const shown = visible(view);
  const inside = Math.floor(view.height / ROW_HEIGHT) - 2;
  const top = shown.first === 0 ? 0 : shown.first + 8;
  if (row < top) element.scrollTop = positionOf(row, view);
  else if (row >= top + inside) element.scrollTop = positionOf(row - inside + 1, view);
  const left = widths.slice(0, column).reduce((sum, one) => sum + one, 0);
  if (left < element.scrollLeft) element.scrollLeft = left;
  const right = left + widths[column]! + 64 - element.clientWidth;
  if (right > element.scrollLeft) element.scrollLeft = right;
}

/** Returns column widths that fit the first rows, in pixels. */
function widthsOf(result: Result): number[] {
  return result.columns.map(({ name, type }, column) => {
    let letters = name.length + type.length + 1;
    for (let row = 0; row < Math.min(result.rows, SAMPLE); row += 1) {
      letters = Math.max(letters, result.text(row, column)?.length ?? 4);
    }
    return Math.round(Math.min(380, Math.max(70, letters * 7.6 + 24)));
  });
}
