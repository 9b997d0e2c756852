// Users and service accounts, and the identity of this session.

import { useState } from "preact/hooks";
import { call, segment } from "../api";
import { ago } from "../format";
import { useLoad } from "../lake";
import { Field, FormDialog } from "../ui/form";
import { Empty, Loading, ProblemBox, attempt } from "../ui/parts";

interface User {
  name: string;
  kind: string;
  created: string;
  disabled: boolean;
  has_password: boolean;
  roles: string[];
}

export function Users() {
  const found = useLoad("users", (signal) => call<User[]>("/v1/users", { signal }));
  const [creating, setCreating] = useState(false);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="users" />;
  return (
    <>
      <div class="toolbar flush">
        <Identity />
        <span class="grow" />
        <button type="button" class="primary" onClick={() => setCreating(true)}>New user</button>
      </div>
      {found.value.length === 0 ? (
        <Empty title="There are no users yet">
          <p>The owner of the lake may do everything.</p>
          <p>From the first user on, each client needs a credential, and everything that is not granted is denied.</p>
        </Empty>
      ) : (
        <UserList users={found.value} changed={found.reload} />
      )}
      {creating && <CreateUser close={() => setCreating(false)} created={found.reload} />}
    </>
  );
}

function Identity() {
  const found = useLoad("whoami", (signal) => call<{ name: string; roles: string[] }>("/v1/whoami", { signal }));
  if (!found.value) return null;
  const { name, roles } = found.value;
  return (
    <span class="muted">
      You are <b>{name}</b>{roles.length > 0 && ` with ${roles.join(", ")}`}.
    </span>
  );
}

function UserList({ users, changed }: { users: User[]; changed: () => void }) {
  const disable = async ({ name, disabled }: User) => {
    await attempt(async () => {
      await call(`/v1/users/${segment(name)}`, { method: "PATCH", body: { disabled: !disabled } });
      changed();
    });
  };
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr><th>User</th><th>Kind</th><th>Roles</th><th>Password</th><th>Created</th><th>State</th><th /></tr>
        </thead>
        <tbody>
          {users.map((user) => (
            <tr key={user.name}>
              <td><b>{user.name}</b></td>
              <td>{user.kind}</td>
              <td>{user.roles.join(", ") || <span class="muted">none</span>}</td>
              <td>{user.has_password ? "yes" : "no"}</td>
              <td>{ago(user.created)}</td>
              <td class={user.disabled ? "bad" : ""}>{user.disabled ? "disabled" : "enabled"}</td>
              <td class="actions">
                <button type="button" class="quiet" onClick={() => disable(user)}>
                  {user.disabled ? "Enable" : "Disable"}
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function CreateUser({ close, created }: { close: () => void; created: () => void }) {
  const [name, setName] = useState("");
  const [kind, setKind] = useState("person");
  const [password, setPassword] = useState("");
  const submit = async () => {
    const body = { name, kind, ...(kind === "person" && password && { password }) };
    await call("/v1/users", { body });
    created();
  };
  return (
    <FormDialog title="New user" action="Create" close={close} submit={submit}>
      <Field label="Name" value={name} change={setName} required />
      <label>
        Kind
        <select value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
          <option value="person">person</option>
          <option value="service">service account</option>
        </select>
      </label>
      {kind === "person" && (
        <Field label="Password (optional)" type="password" value={password} change={setPassword} />
      )}
      <p class="muted">A new user has no rights. Next, grant actions or a role to the user.</p>
    </FormDialog>
  );
}
