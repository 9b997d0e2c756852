// Access tokens. A new one's secret is shown once.

import { useState } from "preact/hooks";
import { call, segment } from "../api";
import { ago, moment } from "../format";
import { useLoad } from "../lake";
import { Field, FormDialog } from "../ui/form";
import { Dialog, Empty, Loading, ProblemBox, attempt, toast } from "../ui/parts";

interface Token {
  id: string;
  user: string;
  label: string;
  created: string;
  expires?: string | null;
  last_used?: string | null;
  revoked?: string | null;
}

const DAYS = [7, 30, 90, 365];

export function Tokens() {
  const found = useLoad("tokens", (signal) => call<Token[]>("/v1/tokens", { signal }));
  const [creating, setCreating] = useState(false);
  const [secret, setSecret] = useState<string | null>(null);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="tokens" />;
  return (
    <>
      <div class="toolbar flush">
        <span class="muted">Programs log in with an access token of a user.</span>
        <span class="grow" />
        <button type="button" class="primary" onClick={() => setCreating(true)}>New token</button>
      </div>
      {found.value.length === 0 ? (
        <Empty title="There are no tokens yet"><p>Create a user first, then a token for it.</p></Empty>
      ) : (
        <TokenList tokens={found.value} changed={found.reload} />
      )}
      {creating && (
        <CreateToken
          close={() => setCreating(false)}
          created={(text) => {
            setSecret(text);
            found.reload();
          }}
        />
      )}
      {secret && <Secret secret={secret} close={() => setSecret(null)} />}
    </>
  );
}

function stateOf({ revoked, expires }: Token): string {
  if (revoked) return `revoked ${ago(revoked)}`;
  if (!expires) return "valid";
  return new Date(expires) < new Date() ? "expired" : `until ${moment(expires)}`;
}

function TokenList({ tokens, changed }: { tokens: Token[]; changed: () => void }) {
  const revoke = async ({ id, user, label }: Token) => {
    if (!confirm(`Revoke the token ${label || id} of ${user}?`)) return;
    await attempt(async () => {
      await call(`/v1/tokens/${segment(id)}`, { method: "DELETE" });
      changed();
    });
  };
  return (
    <div class="scroll">
      <table class="list">
        <thead><tr><th>User</th><th>Label</th><th>Id</th><th>Created</th><th>Last used</th><th>State</th><th /></tr></thead>
        <tbody>
          {tokens.map((token) => (
            <tr key={token.id}>
              <td><b>{token.user}</b></td>
              <td>{token.label}</td>
              <td><code>{token.id.slice(0, 12)}</code></td>
              <td>{ago(token.created)}</td>
              <td>{token.last_used ? ago(token.last_used) : "never"}</td>
              <td class={token.revoked ? "bad" : ""}>{stateOf(token)}</td>
              <td class="actions">
                {!token.revoked && (
                  <button type="button" class="quiet danger" onClick={() => revoke(token)}>Revoke</button>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function CreateToken({ close, created }: { close: () => void; created: (secret: string) => void }) {
  const [user, setUser] = useState("");
  const [label, setLabel] = useState("");
  const [days, setDays] = useState(90);
  const submit = async () => {
    const expires = new Date(Date.now() + days * 86_400_000).toISOString();
    const found = await call<{ secret: string }>("/v1/tokens", { body: { user, label, expires } });
    created(found.secret);
  };
  return (
    <FormDialog title="New token" action="Create" close={close} submit={submit}>
      <Field label="User" value={user} change={setUser} required />
      <Field label="Label" value={label} change={setLabel} placeholder="the program that uses it" />
      <label>
        Valid for
        <select value={days} onChange={(event) => setDays(Number(event.currentTarget.value))}>
          {DAYS.map((one) => <option value={one}>{one} days</option>)}
        </select>
      </label>
    </FormDialog>
  );
}

function Secret({ secret, close }: { secret: string; close: () => void }) {
  const copy = () => void navigator.clipboard?.writeText(secret).then(() => toast("Copied."));
  return (
    <Dialog title="The new token" close={close}>
      <div class="form">
        <pre class="code">{secret}</pre>
        <p class="muted">Copy it now: it is not shown again.</p>
        <button type="button" class="primary" onClick={copy}>Copy</button>
      </div>
    </Dialog>
  );
}
