// The login: by a token, or by the code in the address that `headwater console` opens.

import { useState } from "preact/hooks";
import { type Problem, call, storeKey, toProblem } from "./api";
import type { Session } from "./types";
import { ProblemBox } from "./ui/parts";

/** Logs in by token or code. */
export async function logIn(shown: { token?: string; code?: string }): Promise<Session> {
  const session = await call<Session>("/v1/session", { body: shown });
  storeKey(session.key ?? null);
  return session;
}

/** Returns the code in the address, which it removes from there and from the browser's history. */
export function takeCode(): string | null {
  const match = /^#code=([0-9a-f]+)$/.exec(location.hash);
  if (!match) return null;
  history.replaceState(null, "", location.pathname);
  return match[1]!;
}

export function Login(props: { problem: Problem | null; done: (session: Session) => void }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(props.problem);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      props.done(await logIn({ token }));
    } catch (error) {
      setProblem(toProblem(error));
      setBusy(false);
    }
  };
  return (
    <main class="login">
      <form onSubmit={submit}>
        <img src="/console/icon.svg" alt="" width="48" height="48" />
        <h1>Headwater</h1>
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
        <button class="primary" disabled={busy || !token}>
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
