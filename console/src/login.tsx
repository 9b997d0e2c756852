// The login: by a token, by the code in the address that `headwater console` opens, or at the
// OpenID provider of the server.

import { useEffect, useState } from "preact/hooks";
import { ApiError, type Problem, call, storeKey, toProblem } from "./api";
import { clearAddress } from "./route";
import type { Session } from "./types";
import { ProblemBox } from "./ui/parts";

/** The credential that a browser sends to log in. */
export interface Credential {
  token?: string;
  code?: string;
  login?: { code: string; redirect: string; nonce: string; verifier: string };
}

/** The response to the start of a login at the provider. */
interface LoginStart {
  address: string;
  state: string;
  nonce: string;
  verifier: string;
}

/** The key of a started login in the storage of this tab. */
const STARTED = "headwater.login";

/** Logs in. */
export async function logIn(shown: Credential): Promise<Session> {
  const session = await call<Session>("/v1/session", { body: shown });
  storeKey(session.key ?? null);
  return session;
}

/**
 * Returns the credential in the address, which it removes from there and from the browser's
 * history. Throws the problem of a login that the provider rejected.
 */
export function takeCredential(): Credential | null {
  const match = /^#code=([0-9a-f]+)$/.exec(location.hash);
  if (match) {
    clearAddress();
    return { code: match[1]! };
  }
  const query = new URLSearchParams(location.search);
  const state = query.get("state");
  const stored = sessionStorage.getItem(STARTED);
  if (!state || !(query.has("code") || query.has("error"))) return null;
  clearAddress();
  sessionStorage.removeItem(STARTED);
  const started = stored ? (JSON.parse(stored) as LoginStart) : null;
  // Another page could have sent the browser here, to log it in as someone else.
  if (started?.state !== state) throw refused("this login was not started in this tab");
  const code = query.get("code");
  if (!code) throw refused(query.get("error_description") ?? query.get("error")!);
  const { nonce, verifier } = started;
  return { login: { code, redirect: redirect(), nonce, verifier } };
}

function refused(reason: string): ApiError {
  const message = `the login at the provider failed: ${reason}`;
  return new ApiError({ code: "unauthenticated", message, hint: "Log in again." });
}

/** Returns the address to which the provider sends the browser back. */
function redirect(): string {
  return location.origin + location.pathname;
}

async function startAtProvider() {
  const body = { redirect: redirect() };
  const started = await call<LoginStart>("/v1/login", { body });
  sessionStorage.setItem(STARTED, JSON.stringify(started));
  location.assign(started.address);
}

/** Returns the host name of the server's OpenID provider; null if the server has no provider. */
function useProvider(): string | null {
  const [host, setHost] = useState<string | null>(null);
  useEffect(() => {
    call<{ oidc?: { issuer: string } }>("/v1/login")
      .then(({ oidc }) => setHost(oidc ? new URL(oidc.issuer).host : null))
      .catch(() => {});
  }, []);
  return host;
}

export function Login(props: { problem: Problem | null; done: (session: Session) => void }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(props.problem);
  const [busy, setBusy] = useState(false);
  const provider = useProvider();
  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    try {
      await work();
    } catch (error) {
      setProblem(toProblem(error));
      setBusy(false);
    }
  };
  const submit = (event: Event) => {
    event.preventDefault();
    attempt(async () => props.done(await logIn({ token })));
  };
  return (
    <main class="login">
      <form onSubmit={submit}>
        <img src="/console/icon.svg" alt="" width="48" height="48" />
        <h1>Headwater</h1>
        {provider && (
          <>
            <button
              type="button"
              class="primary"
              disabled={busy}
              onClick={() => attempt(startAtProvider)}
            >
              Log in at {provider}
            </button>
            <p class="muted">or with a token</p>
          </>
        )}
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="current-password"
          autofocus
          required
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <button class={provider ? "" : "primary"} disabled={busy || !token}>
          Log in
        </button>
        {problem && <ProblemBox problem={problem} />}
        <p class="muted">
          The token is in the lake’s folder: <code>cat .headwater/server.token</code>
        </p>
        <p class="muted">
          Without a token: <code>headwater console</code> opens this page logged in.
        </p>
      </form>
    </main>
  );
}
