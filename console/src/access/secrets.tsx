// Secrets of functions: their names and versions. No response has their values.

import { useState } from "preact/hooks";
import { call, segment } from "../api";
import { ago } from "../format";
import { useLoad } from "../lake";
import { Field, FormDialog } from "../ui/form";
import { Empty, Loading, ProblemBox, attempt } from "../ui/parts";

interface Secret {
  name: string;
  version: number;
  updated: string;
  author: string;
}

export function Secrets() {
  const found = useLoad("secrets", (signal) => call<Secret[]>("/v1/secrets", { signal }));
  const [setting, setSetting] = useState<string | null>(null);
  if (found.problem) return <ProblemBox problem={found.problem} retry={found.reload} />;
  if (!found.value) return <Loading what="secrets" />;
  const remove = async (name: string) => {
    if (!confirm(`Delete the secret ${name}?`)) return;
    await attempt(async () => {
      await call(`/v1/secrets/${segment(name)}`, { method: "DELETE" });
      found.reload();
    });
  };
  return (
    <>
      <div class="toolbar flush">
        <span class="muted">Functions read a secret from the environment variable with the same name.</span>
        <span class="grow" />
        <button type="button" class="primary" onClick={() => setSetting("")}>New secret</button>
      </div>
      {found.value.length === 0 ? (
        <Empty title="There are no secrets yet">
          <p>A function lists the secrets that it needs:</p>
          <pre>{'@headwater.function(secrets=["API_KEY"])'}</pre>
        </Empty>
      ) : (
        <div class="scroll">
          <table class="list">
            <thead><tr><th>Name</th><th class="number">Version</th><th>Set</th><th>By</th><th /></tr></thead>
            <tbody>
              {found.value.map(({ name, version, updated, author }) => (
                <tr key={name}>
                  <td><code>{name}</code></td>
                  <td class="number">{version}</td>
                  <td>{ago(updated)}</td>
                  <td>{author}</td>
                  <td class="actions">
                    <button type="button" class="quiet" onClick={() => setSetting(name)}>Set again</button>
                    <button type="button" class="quiet danger" onClick={() => remove(name)}>Delete</button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {setting !== null && <SetSecret name={setting} close={() => setSetting(null)} done={found.reload} />}
    </>
  );
}

function SetSecret(props: { name: string; close: () => void; done: () => void }) {
  const [name, setName] = useState(props.name);
  const [value, setValue] = useState("");
  const submit = async () => {
    await call(`/v1/secrets/${segment(name)}`, { method: "PUT", body: { value } });
    props.done();
  };
  return (
    <FormDialog title={props.name ? `Set ${props.name}` : "New secret"} action="Set" close={props.close} submit={submit}>
      {!props.name && <Field label="Name" value={name} change={setName} required placeholder="API_KEY" />}
      <Field label="Value" type="password" value={value} change={setValue} required />
    </FormDialog>
  );
}
