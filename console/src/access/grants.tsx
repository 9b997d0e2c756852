// Roles and grants, and the explanation why a user may or may not perform an action.

import { useState } from "preact/hooks";
import { type Problem, call, segment, toProblem } from "../api";
import { ago } from "../format";
import { useLoad } from "../lake";
import { Field, FormDialog } from "../ui/form";
import { Empty, Loading, ProblemBox, attempt, toast } from "../ui/parts";

interface Grant {
  grantee: string;
  actions: string[];
  object: string;
  by: string;
  granted: string;
  /** The owner of the object, if the owner made the grant. */
  owner?: { user: string } | null;
}

interface Role {
  name: string;
  roles: string[];
}

const ACTIONS = [
  "select", "insert", "update", "delete", "create", "alter", "drop", "read", "write", "merge",
  "invoke", "run", "deploy", "maintain", "administer",
];

export function Grants() {
  const found = useLoad("grants", async (signal) => {
    const [grants, roles] = await Promise.all([
      call<Grant[]>("/v1/grants", { signal }),
      call<Role[]>("/v1/roles", { signal }),
    ]);
    return { grants, roles };
  });
  const [dialog, setDialog] = useState<"role" | "grant" | "member" | null>(null);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="grants" />;
  const { grants, roles } = found.value;
  const close = () => setDialog(null);
  return (
    <>
      <div class="toolbar flush">
        <span class="muted">
          {roles.length === 0 ? "no roles" : `roles: ${roles.map(({ name }) => name).join(", ")}`}
        </span>
        <span class="grow" />
        <button type="button" onClick={() => setDialog("role")}>New role</button>
        <button type="button" onClick={() => setDialog("member")} disabled={roles.length === 0}>Add a member</button>
        <button type="button" class="primary" onClick={() => setDialog("grant")}>New grant</button>
      </div>
      {grants.length === 0 ? (
        <Empty title="Nothing is granted yet"><p>A grant allows a user or role actions on objects, such as <code>select</code> on <code>table:sales.*</code>.</p></Empty>
      ) : (
        <GrantList grants={grants} changed={found.reload} />
      )}
      <Explain />
      {dialog === "role" && <CreateRole close={close} created={found.reload} />}
      {dialog === "member" && <AddMember roles={roles} close={close} />}
      {dialog === "grant" && <CreateGrant close={close} created={found.reload} />}
    </>
  );
}

function GrantList({ grants, changed }: { grants: Grant[]; changed: () => void }) {
  const revoke = async ({ grantee, actions, object }: Grant) => {
    if (!confirm(`Revoke ${actions.join(", ")} on ${object} from ${grantee}?`)) return;
    await attempt(async () => {
      const query = new URLSearchParams({ grantee, actions: actions.join(","), object });
      await call(`/v1/grants?${query}`, { method: "DELETE" });
      changed();
    });
  };
  return (
    <div class="scroll">
      <table class="list">
        <thead><tr><th>User or role</th><th>Actions</th><th>Objects</th><th>Granted</th><th>By</th><th /></tr></thead>
        <tbody>
          {grants.map((grant) => (
            <tr key={`${grant.grantee} ${grant.object} ${grant.owner?.user ?? ""}`}>
              <td><b>{grant.grantee}</b></td>
              <td>{grant.actions.join(", ")}</td>
              <td><code>{grant.object}</code></td>
              <td>{ago(grant.granted)}</td>
              <td>{grant.by}</td>
              <td class="actions">
                <button type="button" class="quiet danger" onClick={() => revoke(grant)}>Revoke</button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function CreateRole({ close, created }: { close: () => void; created: () => void }) {
  const [name, setName] = useState("");
  const submit = async () => {
    await call("/v1/roles", { body: { name } });
    created();
  };
  return (
    <FormDialog title="New role" action="Create" close={close} submit={submit}>
      <Field label="Name" value={name} change={setName} required />
    </FormDialog>
  );
}

function AddMember({ roles, close }: { roles: Role[]; close: () => void }) {
  const [role, setRole] = useState(roles[0]?.name ?? "");
  const [member, setMember] = useState("");
  const submit = async () => {
    await call(`/v1/roles/${segment(role)}/members/${segment(member)}`, { method: "PUT" });
    toast(`${member} has the role ${role}.`);
  };
  return (
    <FormDialog title="Add a member" action="Add" close={close} submit={submit}>
      <label>
        Role
        <select value={role} onChange={(event) => setRole(event.currentTarget.value)}>
          {roles.map(({ name }) => <option>{name}</option>)}
        </select>
      </label>
      <Field label="User or role" value={member} change={setMember} required />
    </FormDialog>
  );
}

function ActionPicker({ value, change }: { value: string; change: (value: string) => void }) {
  return (
    <label>
      Action
      <select value={value} onChange={(event) => change(event.currentTarget.value)}>
        {ACTIONS.map((action) => <option>{action}</option>)}
      </select>
    </label>
  );
}

function CreateGrant({ close, created }: { close: () => void; created: () => void }) {
  const [grantee, setGrantee] = useState("");
  const [action, setAction] = useState("select");
  const [object, setObject] = useState("");
  const submit = async () => {
    await call("/v1/grants", { body: { grantee, actions: [action], object } });
    created();
  };
  return (
    <FormDialog title="New grant" action="Grant" close={close} submit={submit}>
      <Field label="User or role" value={grantee} change={setGrantee} required />
      <ActionPicker value={action} change={setAction} />
      <Field label="Objects" value={object} change={setObject} required placeholder="table:sales.* or branch:dev/*" />
    </FormDialog>
  );
}

interface Explanation {
  allowed: boolean;
  reason: string;
}

function Explain() {
  const [user, setUser] = useState("");
  const [action, setAction] = useState("select");
  const [object, setObject] = useState("");
  const [found, setFound] = useState<Explanation | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    setFound(null);
    setProblem(null);
    try {
      setFound(await call<Explanation>(`/v1/access/explain?${new URLSearchParams({ user, action, object })}`));
    } catch (error) {
      setProblem(toProblem(error));
    }
  };
  return (
    <section class="card">
      <h3>May a user do this?</h3>
      <form class="toolbar flush explain" onSubmit={submit}>
        <Field label="User" value={user} change={setUser} required />
        <ActionPicker value={action} change={setAction} />
        <Field label="Object" value={object} change={setObject} required placeholder="table:sales.orders" />
        <button>Explain</button>
      </form>
      {found && (
        <p role="status">
          <b class={found.allowed ? "good" : "bad"}>{found.allowed ? "✓ allowed" : "✕ denied"}</b> {found.reason}
        </p>
      )}
      {problem && <ProblemBox problem={problem} />}
    </section>
  );
}
