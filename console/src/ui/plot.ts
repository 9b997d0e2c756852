// Charts, drawn by Observable Plot.

import { type PlotOptions, plot } from "@observablehq/plot";

/**
 * Draws a chart without the inline style sheets of Plot, which the policy of the page rejects:
 * `style.css` has their rules.
 */
export function drawPlot(options: PlotOptions) {
  const drawn = plot({ className: "plot", ...options });
  for (const sheet of drawn.querySelectorAll("style")) sheet.remove();
  return drawn;
}
