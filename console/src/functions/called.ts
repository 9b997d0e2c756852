// The function that a job called.

/** Returns the name without version or alias. A destination such as `table://log` is kept. */
export function calledFunction(summary: string): string {
  return summary.split(/[\s(]/)[0]!.replace(/:(?!\/\/).+$/, "");
}
