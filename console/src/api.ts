// Client of the HTTP API. A session is a cookie, which scripts cannot read, and a key, which is
// kept in the storage of this origin and sent with each request.

export interface Problem {
  code: string;
  message: string;
  hint?: string | null;
  causes?: string[];
  context?: Record<string, unknown>;
}

/** An error response, or a request without a response. */
export class ApiError extends Error {
  constructor(readonly problem: Problem, readonly job: string | null = null) {
    super(problem.message);
  }
}

const KEY = "headwater.session";

let onLogout = () => {};

/** Sets the function that is called when the server no longer knows the session. */
export function whenLoggedOut(then: () => void) {
  onLogout = then;
}

export function storeKey(key: string | null) {
  if (key) localStorage.setItem(KEY, key);
  else localStorage.removeItem(KEY);
}

export interface Options {
  method?: string;
  body?: unknown;
  bytes?: Blob;
  accept?: string;
  signal?: AbortSignal;
}

/** Sends a request. Throws an `ApiError` for an error response. */
export async function send(path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: options.accept ?? "application/json" };
  const key = localStorage.getItem(KEY);
  if (key) headers["x-headwater-session"] = key;
  if (options.body !== undefined) headers["content-type"] = "application/json";
  if (options.bytes) headers["content-type"] = "application/octet-stream";
  const method = options.method ?? (options.body === undefined ? "GET" : "POST");
  const body = options.bytes ?? (options.body === undefined ? null : JSON.stringify(options.body));
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body, signal: options.signal ?? null });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError({
      code: "unavailable",
      message: "the server does not respond",
      hint: "Check that it is running: `headwater status`.",
    });
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && path !== "/v1/session") onLogout();
  throw new ApiError(problem, response.headers.get("x-headwater-job"));
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    return (await response.json()) as Problem;
  } catch {
    return { code: "internal", message: `the server answered with status ${response.status}` };
  }
}

/** Sends a request and returns its JSON response. */
export async function call<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** Returns the objects of an NDJSON response as they arrive. */
export async function* lines<T>(response: Response): AsyncGenerator<T> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop()!;
    for (const part of parts) if (part) yield JSON.parse(part) as T;
  }
  if (rest) yield JSON.parse(rest) as T;
}

/** Encodes a name as one segment of a path. */
export const segment = encodeURIComponent;

/** Returns the problem of any thrown value. */
export function toProblem(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return { code: "internal", message: error instanceof Error ? error.message : String(error) };
}
