//! Every operation of the API with every kind of credential. An operation that is missing in the
//! table fails the test.

use std::collections::BTreeSet;

use arrow::array::{Int64Array, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use headwater_model::{CredentialSettings, Principal};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::access::{Users, permission};
use crate::support;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("access_matrix::every_operation_is_decided", matrix)]
}

/// The expected response for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Any status except 401 and 403. Lists omit objects that the user may not see, and the names
    /// in the rows do not exist. So 200 and 404 are both expected.
    Works,
    /// The status 403.
    Forbidden,
}

use Expected::{Forbidden as No, Works as Ok};

/// An operation: its id, method, path and body, and the expected responses to three users, with no
/// grant, with [`READ`] and with [`ALL`]. For a token without scopes, the first response is
/// expected.
pub type Row<'a> = (&'a str, &'a str, &'a str, &'a str, [Expected; 3]);

/// All operations: first on the lake, then on access. Their requests contain names that do not
/// exist, so that they change nothing.
pub const OPERATIONS: [Row<'static>; 123] = [
    ("activate_deployment", "POST", "/v1/deployments/x/activate", "", [No, No, Ok]),
    ("backfill_project", "POST", "/v1/backfills", BACKFILL, [No, No, Ok]),
    ("cherry_pick", "POST", "/v1/branches/none/cherry-pick", r#"{"commit":"main"}"#, [No, No, Ok]),
    ("cancel_async_query", "POST", "/v1/queries/x/cancel", "", [Ok, Ok, Ok]),
    ("create_async_query", "POST", "/v1/queries", r#"{"sql":"SELECT 1"}"#, [Ok, Ok, Ok]),
    ("create_branch", "POST", "/v1/branches", r#"{"name":"new","from":"none"}"#, [No, No, Ok]),
    ("create_function_alias", "POST", ALIAS, r#"{"version":1}"#, [No, No, Ok]),
    ("update_function_alias", "PUT", ALIAS, r#"{"version":1}"#, [No, No, Ok]),
    ("delete_function_alias", "DELETE", ALIAS, "", [No, No, Ok]),
    ("get_function_url", "GET", "/v1/functions/f/url", "", [No, No, Ok]),
    ("set_function_url", "PUT", "/v1/functions/f/url", r#"{"auth":"iam"}"#, [No, No, Ok]),
    ("delete_function_url", "DELETE", "/v1/functions/f/url", "", [No, No, Ok]),
    ("delete_layer", "DELETE", "/v1/layers/none/versions/1", "", [No, No, Ok]),
    ("list_layers", "GET", "/v1/layers", "", [Ok, Ok, Ok]),
    ("publish_layer", "POST", "/v1/layers/none/versions", r#"{"files":{}}"#, [No, No, Ok]),
    ("create_namespace", "POST", "/v1/branches/none/namespaces", r#"{"name":"n"}"#, [No, No, Ok]),
    ("create_tag", "POST", "/v1/tags", r#"{"name":"new","from":"none"}"#, [No, No, Ok]),
    ("create_trigger", "POST", "/v1/triggers", r#"{"name":"t"}"#, [No, No, Ok]),
    ("delete_async_query", "DELETE", "/v1/queries/x", "", [Ok, Ok, Ok]),
    ("delete_branch", "DELETE", "/v1/branches/none", "", [No, No, Ok]),
    ("delete_function", "DELETE", "/v1/functions/f", "", [No, No, Ok]),
    ("delete_namespace", "DELETE", "/v1/branches/none/namespaces/n", "", [No, No, Ok]),
    ("delete_secret", "DELETE", "/v1/secrets/NONE", "", [No, No, Ok]),
    ("delete_tag", "DELETE", "/v1/tags/none", "", [No, No, Ok]),
    ("delete_trigger", "DELETE", "/v1/triggers/none", "", [No, No, Ok]),
    ("delete_trigger_event", "DELETE", "/v1/trigger-events/x", "", [No, No, Ok]),
    ("deploy_function", "PUT", "/v1/functions/f", r#"{"files":{}}"#, [No, No, Ok]),
    ("deploy_project", "POST", "/v1/deployments", r#"{"files":{}}"#, [No, No, Ok]),
    ("diff_refs", "GET", "/v1/refs/main/diff/main", "", [No, Ok, Ok]),
    ("diff_table", "GET", "/v1/refs/main/diff/main/tables/sales.orders", "", [No, Ok, Ok]),
    ("drop_table", "DELETE", "/v1/branches/main/tables/none", "", [No, No, Ok]),
    ("drop_view", "DELETE", "/v1/branches/main/views/none", "", [No, No, Ok]),
    ("explain_environment", "GET", "/v1/environments/x", "", [No, No, Ok]),
    ("get_async_query", "GET", "/v1/queries/x", "", [Ok, Ok, Ok]),
    ("get_branch", "GET", "/v1/branches/main", "", [No, Ok, Ok]),
    ("get_deployment", "GET", "/v1/deployments/x", "", [No, No, Ok]),
    ("get_function", "GET", "/v1/functions/f", "", [No, No, Ok]),
    ("get_health", "GET", "/health", "", [Ok, Ok, Ok]),
    ("get_job", "GET", "/v1/jobs/x", "", [Ok, Ok, Ok]),
    ("get_metrics", "GET", "/metrics", "", [No, No, Ok]),
    ("get_ref", "GET", "/v1/refs/main", "", [No, Ok, Ok]),
    ("get_table", "GET", "/v1/refs/main/tables/sales.orders", "", [No, Ok, Ok]),
    ("get_tag", "GET", "/v1/tags/none", "", [No, Ok, Ok]),
    ("get_trigger_event", "GET", "/v1/trigger-events/x", "", [Ok, Ok, Ok]),
    ("get_usage", "GET", "/v1/usage", "", [Ok, Ok, Ok]),
    ("get_view", "GET", "/v1/refs/main/views/shop.best", "", [No, Ok, Ok]),
    ("import_files", "POST", "/v1/imports", r#"{"table":"t","sources":["x.csv"]}"#, [No, No, Ok]),
    ("invoke_function", "POST", "/v1/functions/f/invoke", "{}", [No, No, Ok]),
    ("invoke_function_async", "POST", "/v1/functions/f/invoke-async", "{}", [No, No, Ok]),
    ("list_async_queries", "GET", "/v1/queries", "", [Ok, Ok, Ok]),
    ("list_async_query_rows", "GET", "/v1/queries/x/rows", "", [Ok, Ok, Ok]),
    ("list_branches", "GET", "/v1/branches", "", [Ok, Ok, Ok]),
    ("list_commits", "GET", "/v1/refs/main/commits", "", [No, Ok, Ok]),
    ("list_deployments", "GET", "/v1/deployments", "", [Ok, Ok, Ok]),
    ("list_environments", "GET", "/v1/environments", "", [Ok, Ok, Ok]),
    ("list_function_versions", "GET", "/v1/functions/f/versions", "", [No, No, Ok]),
    ("list_functions", "GET", "/v1/functions", "", [Ok, Ok, Ok]),
    ("list_job_events", "GET", "/v1/jobs/x/events", "", [Ok, Ok, Ok]),
    ("list_jobs", "GET", "/v1/jobs", "", [Ok, Ok, Ok]),
    ("list_namespaces", "GET", "/v1/refs/main/namespaces", "", [No, Ok, Ok]),
    ("list_secrets", "GET", "/v1/secrets", "", [Ok, Ok, Ok]),
    ("list_tables", "GET", "/v1/refs/main/tables", "", [No, Ok, Ok]),
    ("list_tags", "GET", "/v1/tags", "", [Ok, Ok, Ok]),
    ("list_trigger_events", "GET", "/v1/trigger-events", "", [Ok, Ok, Ok]),
    ("list_triggers", "GET", "/v1/triggers", "", [Ok, Ok, Ok]),
    ("list_views", "GET", "/v1/refs/main/views", "", [No, Ok, Ok]),
    ("maintain_table", "POST", "/v1/branches/none/tables/t/maintain", "{}", [No, No, Ok]),
    ("maintain_tables", "POST", "/v1/branches/none/maintain", "{}", [No, No, Ok]),
    ("merge_branch", "POST", "/v1/branches/none/merge", r#"{"source":"main"}"#, [No, No, Ok]),
    ("prune_environments", "POST", "/v1/environments/prune", r#"{"dry_run":true}"#, [No, No, Ok]),
    ("query", "POST", "/v1/query", r#"{"sql":"SELECT * FROM sales.orders"}"#, [No, Ok, Ok]),
    ("rebuild_environment", "POST", "/v1/environments/x/rebuild", "", [No, No, Ok]),
    ("replace_trigger", "PUT", "/v1/triggers/t", r#"{"name":"t"}"#, [No, No, Ok]),
    ("replay_trigger_event", "POST", "/v1/trigger-events/x/replay", "", [No, No, Ok]),
    ("rerun_job", "POST", "/v1/jobs/x/rerun", "", [Ok, Ok, Ok]),
    ("revert", "POST", "/v1/branches/none/revert", r#"{"commit":"main"}"#, [No, No, Ok]),
    ("run_project", "POST", "/v1/runs", RUN, [No, No, Ok]),
    ("send_events", "POST", "/v1/functions/f/events", EVENTS, [No, No, Ok]),
    ("set_secret", "PUT", "/v1/secrets/NONE", r#"{"value":"x"}"#, [No, No, Ok]),
    ("shut_down", "POST", "/v1/shutdown", "", [No, No, No]),
    ("start_login", "POST", "/v1/login", r#"{"redirect":"https://lake.example/"}"#, [Ok, Ok, Ok]),
    ("stop_job", "POST", "/v1/jobs/x/stop", "", [Ok, Ok, Ok]),
    ("update_branch", "PATCH", "/v1/branches/none", r#"{"name":"x"}"#, [No, No, Ok]),
    ("update_tag", "PATCH", "/v1/tags/none", r#"{"name":"x"}"#, [No, No, Ok]),
    ("write_rows", "POST", "/v1/branches/none/tables/t/rows", ARROW, [No, No, Ok]),
    ("create_access_key", "POST", "/v1/access-keys", r#"{"user":"none"}"#, [No, No, No]),
    ("create_restriction", "POST", "/v1/restrictions", RESTRICTION, [No, No, No]),
    ("create_role", "POST", "/v1/roles", r#"{"name":"r"}"#, [No, No, No]),
    ("create_session", "POST", "/v1/session", "{}", [Ok, Ok, Ok]),
    ("create_session_code", "POST", "/v1/session/codes", "", [Ok, Ok, Ok]),
    ("create_token", "POST", "/v1/tokens", r#"{"user":"none","label":""}"#, [No, No, No]),
    ("create_upload", "POST", "/v1/uploads?name=x.csv", "", [No, No, Ok]),
    ("create_user", "POST", "/v1/users", r#"{"name":"u","kind":"person"}"#, [No, No, No]),
    ("delete_limit", "DELETE", "/v1/limits/none", "", [No, No, No]),
    ("delete_restriction", "DELETE", "/v1/restrictions/none", "", [No, No, No]),
    ("delete_role", "DELETE", "/v1/roles/none", "", [No, No, No]),
    ("delete_session", "DELETE", "/v1/session", "", [Ok, Ok, Ok]),
    ("delete_upload", "DELETE", "/v1/uploads?path=/none/a.csv", "", [Ok, Ok, Ok]),
    ("delete_user", "DELETE", "/v1/users/none", "", [No, No, No]),
    ("explain_access", "GET", EXPLAIN, "", [No, No, No]),
    ("export_audit", "GET", "/v1/audit", "", [No, No, No]),
    ("get_audit_retention", "GET", "/v1/audit/retention", "", [No, No, No]),
    ("get_limit", "GET", "/v1/limits/none", "", [No, No, No]),
    ("get_login_methods", "GET", "/v1/login", "", [Ok, Ok, Ok]),
    ("get_session", "GET", "/v1/session", "", [Ok, Ok, Ok]),
    ("get_user", "GET", "/v1/users/none", "", [No, No, No]),
    ("grant", "POST", "/v1/grants", GRANT, [No, No, No]),
    ("grant_role", "PUT", "/v1/roles/none/members/none", "", [No, No, No]),
    ("list_access_keys", "GET", "/v1/access-keys", "", [Ok, Ok, Ok]),
    ("list_grants", "GET", "/v1/grants", "", [No, No, No]),
    ("list_limits", "GET", "/v1/limits", "", [Ok, Ok, Ok]),
    ("list_restrictions", "GET", "/v1/restrictions", "", [No, No, No]),
    ("list_roles", "GET", "/v1/roles", "", [No, No, No]),
    ("list_tokens", "GET", "/v1/tokens", "", [Ok, Ok, Ok]),
    ("list_users", "GET", "/v1/users", "", [No, No, No]),
    ("revoke", "DELETE", REVOKE, "", [No, No, No]),
    ("revoke_access_key", "DELETE", "/v1/access-keys/none", "", [Ok, Ok, Ok]),
    ("revoke_role", "DELETE", "/v1/roles/none/members/none", "", [No, No, No]),
    ("revoke_token", "DELETE", "/v1/tokens/none", "", [Ok, Ok, Ok]),
    ("set_audit_retention", "PUT", "/v1/audit/retention", RETENTION, [No, No, No]),
    ("set_limit", "PUT", "/v1/limits/none", r#"{"jobs":1}"#, [No, No, No]),
    ("update_user", "PATCH", "/v1/users/none", r#"{"disabled":true}"#, [No, No, No]),
    ("whoami", "GET", "/v1/whoami", "", [Ok, Ok, Ok]),
];

/// The operations that need no credential. Other tests cover logins with a token in the body.
const PUBLIC: [&str; 6] = [
    "get_health",
    "create_session",
    "delete_session",
    "get_login_methods",
    "get_session",
    "start_login",
];

const EXPLAIN: &str = "/v1/access/explain?user=none&action=select&object=table:a.b";
const BACKFILL: &str =
    r#"{"run":{"files":{"a.sql":"SELECT 1"},"ref":"none"},"parameter":"n","values":["1"]}"#;
const RUN: &str = r#"{"files":{"a.sql":"SELECT 1"},"ref":"none"}"#;
const ALIAS: &str = "/v1/functions/f/aliases/a";
const EVENTS: &str = r#"[{"specversion":"1.0","id":"a","source":"/s","type":"t"}]"#;
const RESTRICTION: &str = r#"{"name":"r","table":"none","using":"true"}"#;
const RETENTION: &str = r#"{"keep_seconds":86400}"#;
const GRANT: &str = r#"{"grantee":"none","actions":["select"],"object":"table:a.b"}"#;
const REVOKE: &str = "/v1/grants?grantee=none&actions=select&object=table:a.b";

/// Placeholder for a body with rows.
const ARROW: &str = "arrow";

/// All grants of the user `full`: every action except administration.
pub const ALL: [&str; 14] = [
    "select,insert,update,delete,create,alter,drop on table:*",
    "select,create,alter,drop on view:*",
    "select,insert,update,delete,create,alter,drop on namespace:*",
    "read,write,merge,create,alter,drop on branch:*",
    "invoke,deploy on function:*",
    "run,deploy on project:*",
    "read,run on trigger:*",
    "read,drop on environment:*",
    "set,use on secret:*",
    "read on location:*",
    "read,write,list,delete,create,drop on bucket:*",
    "read,write,delete,create,alter,drop on queue:*",
    "read on usage:*",
    "maintain on lake",
];

/// The grants of the user with rights to read.
pub const READ: [&str; 2] = ["select on namespace:*", "read on branch:*"];

async fn matrix() {
    let listed: BTreeSet<&str> = OPERATIONS.iter().map(|row| row.0).collect();
    let described = operations();
    let described: BTreeSet<&str> = described.iter().map(String::as_str).collect();
    assert_eq!(described, listed, "each operation of the API has a row");
    let users = Users::start().await;
    let limited = users.user("limited", &[]).await;
    let reader = users.user("reader", &READ).await;
    let full = users.user("full", &ALL).await;
    let [unscoped, misscoped] = tokens_without_scope(&users).await;
    let revoked = revoked(&users).await;
    let expired = expired(&users).await;
    for row in &OPERATIONS {
        if !PUBLIC.contains(&row.0) {
            for invalid in ["", &revoked, &expired, "hwp_00"] {
                // After many failed logins the address is locked out, so the status 429 is
                // accepted, too.
                let status = status(&users, row, invalid).await;
                assert!(matches!(status, 401 | 429), "{} without a credential: {status}", row.0);
            }
        }
        if row.0 == "create_session" {
            continue;
        }
        let [without, reading, all] = row.4;
        for (token, expected) in [
            (&limited, without),
            (&unscoped, without),
            (&misscoped, without),
            (&reader, reading),
            (&full, all),
        ] {
            let status = status(&users, row, token).await;
            let is_forbidden = status == 403;
            assert_ne!(status, 401, "{}", row.0);
            assert_eq!(is_forbidden, expected == No, "{} {expected:?}: {status}", row.0);
        }
    }
}

/// Returns the ids of the operations in the API description.
fn operations() -> Vec<String> {
    let description = serde_json::to_value(headwater_server::openapi()).expect("JSON");
    let paths = description["paths"].as_object().expect("paths").values();
    let methods = paths.flat_map(|methods| methods.as_object().expect("methods").values());
    let id = |operation: &Value| operation["operationId"].as_str().expect("an id").to_owned();
    methods.map(id).collect()
}

/// Returns tokens of the user `full`: a token without scopes, and a token with the scope of another
/// table.
pub async fn tokens_without_scope(users: &Users) -> [String; 2] {
    let none = CredentialSettings { scopes: Some(Vec::new()), ..CredentialSettings::default() };
    let scopes = Some(vec![permission("select on table:other.t")]);
    let other = CredentialSettings { scopes, ..CredentialSettings::default() };
    [users.token("full", none).await, users.token("full", other).await]
}

/// Returns a token with another last character.
pub fn forged(token: &str) -> String {
    let last = if token.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &token[..token.len() - 1])
}

/// Returns a revoked token of the user `full`.
pub async fn revoked(users: &Users) -> String {
    let owner = Principal::owner();
    let new = users.access.create_token(&owner, "full", CredentialSettings::default()).await;
    let new = new.expect("a token");
    users.access.revoke_token(&owner, &new.token.id, None).await.expect("revoked");
    new.secret
}

/// Returns a token of the user `full` that has expired.
pub async fn expired(users: &Users) -> String {
    let expires = Some(chrono::Utc::now() + chrono::TimeDelta::milliseconds(500));
    let token =
        users.token("full", CredentialSettings { expires, ..CredentialSettings::default() }).await;
    let branches = ("list_branches", "GET", "/v1/branches", "", [Ok, Ok, Ok]);
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while status(users, &branches, &token).await != 401 {
        assert!(std::time::Instant::now() < deadline, "the token does not expire");
    }
    token
}

/// Sends the request of an operation with a token. Returns the status.
pub async fn status(users: &Users, row: &Row<'_>, token: &str) -> u16 {
    let (_, method, path, body, _) = row;
    let (body, kind) = match *body {
        ARROW => (rows(), "application/vnd.apache.arrow.stream"),
        text => (text.as_bytes().to_vec(), "application/json"),
    };
    let method: Method = method.parse().expect("a method");
    let builder = Request::builder().method(method).uri(*path).header("host", "localhost");
    let header = HeaderValue::try_from(format!("Bearer {token}")).expect("a header");
    let builder = builder.header("content-type", kind).header(AUTHORIZATION, header);
    let request = builder.body(http_body_util::Full::new(body.into())).expect("a request");
    let response = users.server.send(request).await;
    let status = response.status().as_u16();
    support::body(response).await.expect("a whole body");
    status
}

/// Returns a table as an Arrow stream.
fn rows() -> Vec<u8> {
    let ids = std::sync::Arc::new(Int64Array::from(vec![1])) as _;
    let batch = RecordBatch::try_from_iter([("id", ids)]).expect("a batch");
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a stream");
    writer.write(&batch).expect("rows");
    writer.finish().expect("an end");
    drop(writer);
    bytes
}
