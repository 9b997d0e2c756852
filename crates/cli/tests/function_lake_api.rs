//! The lake for functions: requests over HTTP in other languages, and data frames in Python.

mod support;

use serde_json::{Value, json};
use support::Workspace;

const PROJECT: &str = "\
[project]
name = \"test\"

[functions.shell]
runtime = \"provided\"
folder = \"sh\"
system = [\"curl\"]

[functions.node]
runtime = \"nodejs20\"
handler = \"app.handler\"
folder = \"node\"
";

/// A runtime that appends each event to a table and counts the rows. It also sends a query whose
/// token is the id of its first call, and returns the status of this query.
const SHELL: &str = r#"#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    event=$(curl -sS -D /tmp/headers "$api/next")
    id=$(grep -i 'request-id' /tmp/headers | tr -d '[:space:]' | cut -d: -f2)
    first=${first:-$id}
    lake() {
        curl -sS -H "Authorization: Bearer $id" "$@"
    }
    lake --data "[$event]" "$HEADWATER_LAKE_API/append/orders" > /dev/null
    rows=$(lake --data 'SELECT count(*) AS n FROM orders' "$HEADWATER_LAKE_API/query")
    status=$(curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $first" \
        --data 'SELECT 1' "$HEADWATER_LAKE_API/query")
    case "$event" in
    *fail*)
        error='{"errorType": "Failed", "errorMessage": "not today"}'
        curl -sS -o /dev/null --data "$error" "$api/$id/error" ;;
    *)
        answer="{\"rows\": $rows, \"status\": $status}"
        curl -sS -o /dev/null --data "$answer" "$api/$id/response" ;;
    esac
done
"#;

const NODE: &str = "\
const api = process.env.HEADWATER_LAKE_API;
exports.handler = async (event, context) => {
  const headers = { authorization: `Bearer ${context.awsRequestId}` };
  const send = (path, body) => fetch(`${api}/${path}`, { method: 'POST', headers, body });
  const appended = await send('append/orders', JSON.stringify([event]));
  const rows = await send('query', 'UPDATE orders SET note = upper(note) WHERE id = 9');
  const missing = await send('query', 'SELECT * FROM missing');
  const problem = await missing.json();
  return { appended: await appended.json(), status: [rows.status, missing.status, problem.code] };
};
";

fn invoke(workspace: &Workspace, name: &str, event: &Value) -> Value {
    workspace.json(&["function", "invoke", name, "--arg", &format!("event={event}")])
}

#[test]
fn functions_in_other_languages_read_and_change_tables() {
    let workspace = Workspace::new();
    workspace.write("headwater.toml", PROJECT);
    workspace.write("sh/bootstrap", SHELL);
    workspace.write("node/app.js", NODE);
    workspace.ok(&["deploy"]);
    let found = invoke(&workspace, "shell", &json!({"id": 1, "note": "tea"}));
    assert_eq!(found, json!({"rows": [{"n": 1}], "status": 200}));
    // The id of an earlier call is not a valid token.
    let found = invoke(&workspace, "shell", &json!({"id": 2, "note": "milk"}));
    assert_eq!(found, json!({"rows": [{"n": 2}], "status": 401}));
    // A call that fails changes nothing.
    let failed = ["function", "invoke", "shell", "--arg", "event={\"id\": 3, \"note\": \"fail\"}"];
    let failed = workspace.run(&failed);
    assert!(failed.code != 0 && failed.stderr.contains("not today"), "{}", failed.stderr);
    let found = invoke(&workspace, "node", &json!({"id": 9, "note": "cake"}));
    assert_eq!(found, json!({"appended": 1, "status": [200, 404, "table_not_found"]}));
    let rows = workspace.rows("SELECT id, note FROM orders ORDER BY id");
    let expected = json!([
        {"id": 1, "note": "tea"},
        {"id": 2, "note": "milk"},
        {"id": 9, "note": "CAKE"},
    ]);
    assert_eq!(rows, expected);
}

const FRAMES: &str = "\
import headwater
from headwater import lake


@headwater.function()
@headwater.python(\"3.11\", pip={\"pandas\": \"2.3\", \"polars\": \"1.38.1\"})
def frames():
    import pandas
    import polars
    import pyarrow

    lake.append(\"framed\", pandas.DataFrame({\"id\": [1], \"name\": [\"pandas\"]}))
    lake.append(\"framed\", polars.DataFrame({\"id\": [2], \"name\": [\"polars\"]}))
    lake.append(\"framed\", pyarrow.table({\"id\": [3], \"name\": [\"pyarrow\"]}))
    table = lake.table(\"framed\", filter=\"id > 1\")
    names = sorted(table.to_pandas()[\"name\"].tolist())
    return {\"names\": names, \"ids\": sorted(table.to_polars()[\"id\"].to_list())}
";

#[test]
fn data_frames_are_appended_and_read() {
    let workspace = Workspace::new();
    workspace.write("functions/frames.py", FRAMES);
    workspace.ok(&["deploy"]);
    let found = workspace.json(&["function", "invoke", "frames"]);
    assert_eq!(found, json!({"names": ["polars", "pyarrow"], "ids": [2, 3]}));
    let rows = workspace.rows("SELECT id, name FROM framed ORDER BY id");
    let expected = json!([
        {"id": 1, "name": "pandas"},
        {"id": 2, "name": "polars"},
        {"id": 3, "name": "pyarrow"},
    ]);
    assert_eq!(rows, expected);
}
