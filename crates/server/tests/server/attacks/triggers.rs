//! Attacks by triggers. A user may deploy a project and call its function. The project's triggers
//! watch folders, tables, buckets and queues that the user may not read.

use std::path::Path;

use headwater_model::Principal;
use hyper::Method;
use serde_json::{Value, json};

use crate::access::{Users, permission};

const FUNCTION: &str = "import headwater\n\n\n@headwater.function(reuse=True)\n\
                        def keep(event):\n    return event\n";

const GRANTS: [&str; 4] = [
    "deploy on project:shop",
    "invoke on function:keep",
    "read on trigger:watch",
    "read on branch:main",
];

/// Starts a server with the deployed function `keep`, and the user `ana`. Returns the token of
/// `ana`.
async fn started() -> (Users, String) {
    let users = Users::start().await;
    deploy_by_owner(&users).await;
    let ana = users.user("ana", &GRANTS).await;
    (users, ana)
}

/// Returns the files of a project with the function `keep`, and more lines of its manifest.
fn project(lines: &str) -> Value {
    let manifest = format!("[project]\nname = \"shop\"\n{lines}");
    json!({"files": {"headwater.toml": manifest, "keep.py": FUNCTION}})
}

async fn deploy_by_owner(users: &Users) {
    let deployed = users.server.post("/v1/deployments", project("")).await;
    assert!(deployed.get("code").is_none(), "{deployed}");
}

/// Returns a JSON value in the syntax of TOML.
fn toml(value: &Value) -> String {
    let Value::Object(map) = value else { return value.to_string() };
    let pairs: Vec<String> =
        map.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// Returns the files of a project whose manifest declares the trigger `watch` with these keys.
fn by_toml(keys: &Value) -> Value {
    let keys = keys.as_object().expect("keys").iter();
    let lines: Vec<String> =
        keys.map(|(key, value)| format!("{key} = {}\n", toml(value))).collect();
    let lines = lines.concat();
    project(&format!("\n[[trigger]]\nname = \"watch\"\nfunction = \"keep\"\n{lines}"))
}

/// Returns the files of a project whose function declares the trigger `watch` with these keys.
fn by_python(keys: &Value) -> Value {
    let mut item = keys.clone();
    item["name"] = json!("watch");
    let mut files = project("");
    let function = FUNCTION.replace("reuse=True", &format!("reuse=True, on=[{item}]"));
    files["files"]["keep.py"] = json!(function);
    files
}

/// Returns the request that creates the trigger `watch` with these keys.
fn by_request(keys: &Value) -> Value {
    let mut trigger = keys.clone();
    trigger["name"] = json!("watch");
    trigger["function"] = json!("keep");
    trigger
}

/// Checks that `ana` can deploy or create a trigger with these keys only with a grant.
async fn assert_needed(users: &Users, ana: &str, keys: Value, grant: &str) {
    let requests = [
        ("/v1/deployments", by_toml(&keys)),
        ("/v1/deployments", by_python(&keys)),
        ("/v1/triggers", by_request(&keys)),
    ];
    for (path, body) in &requests {
        let (status, answer) = users.post(ana, path, body.clone()).await;
        assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{keys}: {answer}");
        let message = answer["message"].as_str().expect("a message");
        assert!(message.starts_with("trigger `watch`: user `ana` may not "), "{answer}");
        let hint = answer["hint"].as_str().expect("a hint");
        assert!(hint.contains(&format!("`{grant}`")), "{keys}: {answer}");
    }
    assert_eq!(users.server.get("/v1/triggers").await, json!([]), "{keys}");
    users.grant("ana", &[grant]).await;
    for (path, body) in requests {
        if path == "/v1/triggers" {
            deploy_by_owner(users).await;
        }
        let (status, answer) = users.post(ana, path, body).await;
        assert!(status < 300, "{keys}: {answer}");
    }
    let (status, answer) = users.send(ana, Method::DELETE, "/v1/triggers/watch", None).await;
    assert!(status.is_success(), "{keys}: {answer}");
    let revoked = users.access.revoke(&Principal::owner(), "ana", permission(grant)).await;
    revoked.expect("revoked");
}

pub async fn folders() {
    let (users, ana) = started().await;
    let outside = tempfile::tempdir().expect("a folder");
    let outside = outside.path().display().to_string();
    let files = |folder: &str| json!({"files": {"folder": folder}});
    assert_needed(&users, &ana, files(&outside), &format!("read on location:{outside}")).await;
    for folder in ["../in", "landing/../../in", "/etc/../in"] {
        assert_needed(&users, &ana, files(folder), "read on location:*").await;
    }
    // A folder of the project needs no right.
    let (status, answer) = users.post(&ana, "/v1/deployments", by_toml(&files("landing"))).await;
    assert_eq!(status, 201, "{answer}");
    users.server.running.shutdown().await;
}

pub async fn tables() {
    let (users, ana) = started().await;
    let created = users.server.post("/v1/branches", json!({"name": "hidden"})).await;
    assert!(created.get("code").is_none(), "{created}");
    let tables = json!({"tables": {"names": ["sales.orders"]}});
    assert_needed(&users, &ana, tables, "select on table:sales.orders").await;
    let on_branch = json!({"tables": {"names": ["*.*"]}, "branch": "hidden"});
    assert_needed(&users, &ana, on_branch, "read on branch:hidden").await;
    // Other triggers do not show whether a branch exists.
    for branch in ["hidden", "none"] {
        let keys = json!({"schedule": "0 6 * * *", "branch": branch});
        let (status, report) = users.post(&ana, "/v1/deployments", by_toml(&keys)).await;
        assert_eq!(status, 201, "{report}");
        assert!(report["warnings"].as_array().is_none_or(Vec::is_empty), "{report}");
        let (_, triggers) = users.get(&ana, "/v1/triggers").await;
        assert_eq!((&triggers[0]["name"], &triggers[0]["error"]), (&json!("watch"), &Value::Null));
    }
    users.server.running.shutdown().await;
}

pub async fn lake() {
    let (users, ana) = started().await;
    let bucket = json!({"bucket": {"name": "landing", "prefix": "in/"}});
    assert_needed(&users, &ana, bucket, "list on bucket:landing/in/*").await;
    let queue = json!({"queue": {"name": "orders"}});
    assert_needed(&users, &ana, queue, "read on queue:orders").await;
    users.server.running.shutdown().await;
}

pub async fn imports() {
    let (users, ana) = started().await;
    let keys = "files = { folder = \"landing\" }\nimport = { table = \"raw.items\" }\n";
    let declared = project(&format!("\n[[trigger]]\nname = \"watch\"\n{keys}"));
    let created = json!({"name": "watch", "files": {"folder": "landing"},
        "import": {"table": "raw.items"}});
    let requests = [("/v1/deployments", declared), ("/v1/triggers", created)];
    for grant in ["write on branch:main", "insert on table:raw.items"] {
        for (path, body) in &requests {
            let (status, answer) = users.post(&ana, path, body.clone()).await;
            assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{answer}");
            let message = answer["message"].as_str().expect("a message");
            assert!(message.starts_with("trigger `watch`: user `ana` may not "), "{answer}");
            let hint = answer["hint"].as_str().expect("a hint");
            assert!(hint.contains(&format!("`{grant}`")), "{answer}");
        }
        users.grant("ana", &[grant]).await;
    }
    for (path, body) in requests {
        let (status, answer) = users.post(&ana, path, body).await;
        assert!(status < 300, "{answer}");
        deploy_by_owner(&users).await;
    }
    users.server.running.shutdown().await;
}

pub async fn patterns() {
    let (users, ana) = started().await;
    users.grant("ana", &["select on table:shop.items"]).await;
    let keys = json!({"tables": {"names": ["s*.*"], "debounce": "1s"}});
    let (status, answer) = users.post(&ana, "/v1/deployments", by_toml(&keys)).await;
    assert_eq!(status, 201, "{answer}");
    users.owner_sql("INSERT INTO sales.orders VALUES (9, 'secret')").await;
    users.owner_sql("INSERT INTO shop.items VALUES (2)").await;
    let events = users.server.until(&events("done"), |events| events[0]["id"].is_string()).await;
    assert_eq!(events[0]["data"]["tables"], json!(["shop.items"]), "{events}");
    assert!(!events.to_string().contains("sales"), "{events}");
    users.server.running.shutdown().await;
}

/// A cause of events.
#[derive(Debug, Clone, Copy)]
enum Cause<'a> {
    /// A new file in this folder.
    File(&'a Path),
    /// A new row of `sales.orders`.
    Row,
}

impl Cause<'_> {
    async fn happen(self, users: &Users, name: &str) {
        match self {
            Cause::File(folder) => {
                std::fs::write(folder.join(name), "content").expect("a file");
            }
            Cause::Row => {
                users.owner_sql(&format!("INSERT INTO sales.orders VALUES (9, '{name}')")).await;
            }
        }
    }
}

/// Deploys a trigger with a right, and causes an event. Then revokes the right, and causes another
/// event, which a trigger of the owner receives. Checks that the user sees only the first event.
async fn assert_stopped(grant: &str, keys: Value, cause: Cause<'_>) {
    let (users, ana) = started().await;
    users.grant("ana", &[grant]).await;
    let (status, answer) = users.post(&ana, "/v1/deployments", by_toml(&keys)).await;
    assert_eq!(status, 201, "{answer}");
    cause.happen(&users, "first").await;
    let has_one = |events: &Value| events.as_array().is_some_and(|events| events.len() == 1);
    users.server.until(&events("done"), has_one).await;
    let revoked = users.access.revoke(&Principal::owner(), "ana", permission(grant)).await;
    revoked.expect("revoked");
    let is_stopped = |triggers: &Value| triggers[0]["error"]["code"] == "forbidden";
    users.server.until("/v1/triggers", is_stopped).await;

    let mut witness = by_request(&keys);
    witness["name"] = json!("witness");
    let created = users.server.post("/v1/triggers", witness).await;
    assert!(created.get("code").is_none(), "{created}");
    cause.happen(&users, "hidden").await;
    let path = "/v1/trigger-events?trigger=witness&status=done";
    let is_seen = |events: &Value| {
        events[0]["data"]["commit"].is_string() || events.to_string().contains("hidden")
    };
    let seen = users.server.until(path, is_seen).await;
    let commit = seen[0]["data"]["commit"].as_str().unwrap_or("hidden");
    for path in ["/v1/trigger-events", "/v1/trigger-events?trigger=watch", "/v1/triggers"] {
        let (status, answer) = users.get(&ana, path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let answer = answer.to_string();
        assert!(!answer.contains("hidden") && !answer.contains(commit), "{path}: {answer}");
    }
    let events = users.server.get("/v1/trigger-events?trigger=watch").await;
    assert!(has_one(&events), "{events}");
    users.server.running.shutdown().await;
}

pub async fn revoked_location() {
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().display().to_string();
    let grant = format!("read on location:{folder}");
    let keys = json!({"files": {"folder": folder, "debounce": "20ms"}});
    assert_stopped(&grant, keys, Cause::File(outside.path())).await;
}

pub async fn revoked_table() {
    let keys = json!({"tables": {"names": ["sales.orders"], "debounce": "20ms"}});
    assert_stopped("select on table:sales.orders", keys, Cause::Row).await;
}

pub async fn revoked_event() {
    let (users, ana) = started().await;
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().display().to_string();
    let grant = format!("read on location:{folder}");
    users.grant("ana", &[grant.as_str()]).await;
    // The first attempt fails, and a retry would pass the name to the function.
    let mut body = by_toml(&json!({"files": {"folder": folder, "debounce": "20ms"}}));
    let failing = FUNCTION.replace("return event", "raise ValueError(\"not now\")");
    body["files"]["keep.py"] = json!(failing);
    let (status, answer) = users.post(&ana, "/v1/deployments", body).await;
    assert_eq!(status, 201, "{answer}");
    std::fs::write(outside.path().join("a.csv"), "content").expect("a file");
    let is_tried = |events: &Value| events[0]["attempts"].as_u64() > Some(0);
    users.server.until("/v1/trigger-events?trigger=watch", is_tried).await;
    let revoked = users.access.revoke(&Principal::owner(), "ana", permission(&grant)).await;
    revoked.expect("revoked");
    let failed = users.server.until(&events("failed"), |events| events[0]["id"].is_string()).await;
    assert_eq!(failed[0]["error"]["code"], "forbidden", "{failed}");
    let message = format!("user `ana` may not read location `{folder}`");
    assert_eq!(failed[0]["error"]["message"], message, "{failed}");
    users.server.running.shutdown().await;
}

pub async fn private_files() {
    let (users, ana) = started().await;
    let project_folder = users.server.folder.path();
    let keys =
        |folder: &str| json!({"files": {"folder": folder, "recursive": true, "debounce": "20ms"}});
    for folder in [".headwater", ".headwater/none"] {
        let (status, answer) = users.post(&ana, "/v1/deployments", by_toml(&keys(folder))).await;
        assert_eq!(status, 201, "{answer}");
        let is_stopped = |triggers: &Value| {
            let (folder_of, error) = (&triggers[0]["files"]["folder"], &triggers[0]["error"]);
            folder_of.as_str() == Some(folder) && error["code"].as_str() == Some("forbidden")
        };
        users.server.until("/v1/triggers", is_stopped).await;
    }
    // A link in a watched folder shows no file of the lake.
    let landing = project_folder.join("landing");
    std::fs::create_dir(&landing).expect("a folder");
    let lake = project_folder.join(".headwater");
    std::fs::write(lake.join("note.csv"), "content").expect("a file");
    std::os::unix::fs::symlink(&lake, landing.join("a_link")).expect("a link");
    std::fs::write(landing.join("b.csv"), "content").expect("a file");
    let (status, answer) = users.post(&ana, "/v1/deployments", by_toml(&keys("landing"))).await;
    assert_eq!(status, 201, "{answer}");
    users.server.until(&events("done"), |events| events[0]["id"].is_string()).await;
    let found = users.server.get("/v1/trigger-events").await;
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["subject"], "b.csv", "{found}");
    users.server.running.shutdown().await;
}

fn events(status: &str) -> String {
    format!("/v1/trigger-events?trigger=watch&status={status}")
}
