//! Tests of deployments, which are atomic and independent of the working folder.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::life_cycle::Killable;
use crate::support::{self, TestServer};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("deployments::a_rejected_deployment_lists_every_error_and_changes_nothing", refused),
        trial("deployments::an_invalid_file_breaks_only_its_own_functions", broken),
        trial("deployments::a_version_survives_a_restart_and_the_removal_of_files", outlives),
        trial("deployments::a_kill_at_any_time_leaves_one_complete_version", kills),
    ]
}

const PROJECT: &str = "[project]\nname = \"p\"\n";

fn function(name: &str) -> String {
    format!("import headwater\n@headwater.function()\ndef {name}():\n    return \"{name}\"\n")
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

async fn names(server: &TestServer) -> Vec<String> {
    let listed = server.get("/v1/functions").await;
    let listed = listed.as_array().expect("functions").iter();
    listed.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

async fn refused() {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    write(folder, "headwater.toml", PROJECT);
    write(folder, "a.py", &function("one"));
    assert_eq!(names(&server).await, Vec::<String>::new());
    let first = server.deploy().await;
    assert_eq!(first["deployment"]["functions"], json!(["one"]));
    assert_eq!(names(&server).await, ["one"]);

    write(folder, "a.py", &function("two"));
    write(folder, "b.py", "def broken(:\n");
    write(folder, "c.sql", "SELECT FROM WHERE");
    write(folder, "d.py", &function("two"));
    let problem = server.deploy().await;
    assert_eq!(problem["code"], "invalid_project", "{problem}");
    let causes = problem["causes"].to_string();
    for file in ["b.py:1", "c.sql:1", "a.py:3", "d.py:3"] {
        assert!(causes.contains(file), "no {file} in {problem}");
    }
    assert_eq!(problem["causes"].as_array().map(Vec::len), Some(3), "{problem}");
    let listed = server.get("/v1/deployments").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(names(&server).await, ["one"]);
    server.running.shutdown().await;
}

async fn broken() {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    write(folder, "headwater.toml", PROJECT);
    write(folder, "a.py", &function("one"));
    write(folder, "b.py", &function("two").replace("():", "(:"));
    write(folder, "n.sql", "-- headwater: materialization = replace\nSELECT 1 AS n\n");
    let files = support::deployment(folder)["files"].clone();
    let call = async |name: &str, files: &Value| {
        let path = format!("/v1/functions/{name}/invoke");
        server.post(&path, json!({"arguments": {}, "files": files})).await
    };
    assert_eq!(call("one", &files).await, json!("one"));
    let problem = call("two", &files).await;
    assert!(problem["message"].to_string().contains("b.py:3"), "{problem}");
    let problem = call("three", &files).await;
    assert_eq!(problem["code"], "function_not_found", "{problem}");

    // A run only needs models and expectations, so it uses only files that can define them.
    let run = async |files: &Value| {
        let job = server.post("/v1/runs", json!({ "files": files })).await;
        let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
        server.until(&path, |job| job["ended"].is_string()).await
    };
    assert_eq!(run(&files).await["status"], "succeeded");
    let mut models = files.clone();
    models["b.py"] = json!("import headwater\n@headwater.model()\ndef three(:\n");
    let job = run(&models).await;
    assert_eq!(job["error"]["code"], "invalid_project", "{job}");

    // A function in the working folder cannot be called before it is deployed.
    let problem = server.post("/v1/functions/one/invoke", json!({})).await;
    assert_eq!(problem["code"], "function_not_found", "{problem}");
    assert!(problem["hint"].to_string().contains("headwater deploy"), "{problem}");
    let problem = server.post("/v1/functions/three/invoke", json!({})).await;
    assert_eq!(problem["code"], "function_not_found", "{problem}");
    assert_eq!(problem["message"], "function `three` does not exist", "{problem}");
    server.running.shutdown().await;
}

async fn outlives() {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    write(folder, "headwater.toml", PROJECT);
    write(folder, "a.py", &function("one"));
    let first = server.deploy().await["deployment"]["version"].clone();
    write(folder, "a.py", &function("two"));
    let second = server.deploy().await;
    assert_eq!(second["previous"], first);
    let changes = json!([
        {"kind": "function", "name": "one", "change": "removed"},
        {"kind": "function", "name": "two", "change": "added"},
        {"kind": "file", "name": "a.py", "change": "changed"},
    ]);
    assert_eq!(second["changes"], changes);
    std::fs::remove_file(folder.join("a.py")).expect("a file");
    server.running.shutdown().await;
    let TestServer { folder, .. } = server;
    let running = support::start(support::config(folder.path())).await;
    let server = TestServer { running, folder };
    assert_eq!(names(&server).await, ["two"]);
    let path = format!("/v1/deployments/{}/activate", &first.as_str().expect("a version")[..12]);
    let back = server.post(&path, json!({})).await;
    assert_eq!(
        (&back["deployment"]["version"], &back["deployment"]["active"]),
        (&first, &json!(true))
    );
    assert_eq!(server.post("/v1/functions/one/invoke", json!({})).await, json!("one"));
    server.running.shutdown().await;
}

async fn kills() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "headwater.toml", PROJECT);
    let version = |name: &str| {
        let mut files = support::deployment(folder.path());
        files["files"]["a.py"] = json!(function(name));
        files
    };
    let mut acknowledged = None;
    for round in 0..8_u64 {
        let child = std::sync::Arc::new(Killable::start(folder.path()).await);
        let found = child.ask(Method::GET, "/v1/functions", None).await;
        let listed = child.ask(Method::GET, "/v1/deployments", None).await;
        let listed = listed.as_array().expect("versions").clone();
        let active: Vec<&Value> = listed.iter().filter(|one| one["active"] == true).collect();
        if let Some(acknowledged) = acknowledged {
            assert_eq!(active.len(), 1, "{listed:?}");
            let number: u64 = found[0]["name"].as_str().expect("a name")[1..].parse().expect("one");
            assert!(number >= acknowledged, "`f{acknowledged}` was in force: {found}");
        }
        // The active version is complete.
        let in_force = active.first().map_or(json!([]), |one| one["functions"].clone());
        let names = found.as_array().expect("functions").iter().map(|one| one["name"].clone());
        assert_eq!(json!(names.collect::<Vec<_>>()), in_force);

        let deploying = child.clone();
        let bodies: Vec<Value> =
            (0..40).map(|n| version(&format!("f{}", round * 40 + n))).collect();
        let (sender, mut last) = tokio::sync::watch::channel(acknowledged);
        let task = tokio::spawn(async move {
            for (number, body) in bodies.iter().enumerate() {
                let answer = deploying.ask(Method::POST, "/v1/deployments", Some(body)).await;
                assert!(answer["deployment"]["version"].is_string(), "{answer}");
                sender.send_replace(Some(round * 40 + number as u64));
            }
        });
        last.changed().await.expect("a deployment");
        // Each round kills the server at a different time.
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        child.signal();
        let _ended = task.await;
        drop(child);
        acknowledged = *last.borrow();
        let _ = std::fs::remove_file(folder.path().join(".headwater/server.json"));
    }
}
