// The visible part of a long list of rows of one height.
//
// Browsers limit the height of an element (17 million pixels in Firefox), which a million rows
// exceed. A longer list therefore has a scroll area of the maximum height, in which positions are
// scaled. The wheel and the keys still scroll by rows.

/** Maximum height of the scroll area, in pixels. */
const HEIGHT_MAX = 8_000_000;

/** Rows that are rendered beyond the visible ones. */
const OVERSCAN = 8;

export interface View {
  rows: number;
  rowHeight: number;
  height: number;
  top: number;
}

export interface Visible {
  /** Height of the scroll area. */
  total: number;
  first: number;
  /** Index after the last rendered row. */
  end: number;
  /** Position of the first rendered row in the scroll area. */
  offset: number;
}

/** Returns the rows to render at a scroll position. */
export function visible({ rows, rowHeight, height, top }: View): Visible {
  const whole = rows * rowHeight;
  const total = Math.min(whole, HEIGHT_MAX);
  const scrollable = Math.max(total - height, 1);
  // The scroll position in an area of the whole, unlimited height, in pixels.
  const virtual = whole > total ? (Math.min(top, scrollable) / scrollable) * (whole - height) : top;
  const first = Math.max(0, Math.floor(virtual / rowHeight) - OVERSCAN);
  const end = Math.min(rows, Math.ceil((virtual + height) / rowHeight) + OVERSCAN);
  return { total, first, end, offset: top - virtual + first * rowHeight };
}

/** Returns the scroll position that shows a row at the top. */
export function positionOf(row: number, { rows, rowHeight, height }: View): number {
  const whole = rows * rowHeight;
  const total = Math.min(whole, HEIGHT_MAX);
  if (whole <= total) return row * rowHeight;
  return ((row * rowHeight) / (whole - height)) * (total - height);
}
