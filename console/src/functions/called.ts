// The function that a job called.

/** Returns the name without version or alias; a destination such as `table://log` stays as it is. */
export function calledFunction(summary: string): string {
  return summary.split(/[\s(]/)[0]!.replace(/:(?!\/\/).+$/, "");
}
