//! Tests of runs that fail, are stopped or are interrupted: the target branch is unchanged.

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::life_cycle::{ENDLESS, Killable};
use crate::support::{self, PATIENCE, TestServer};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("runs::a_stopped_run_leaves_its_target_unchanged", stopped),
        trial("runs::a_kill_interrupts_a_run", killed),
        trial("runs::the_branch_of_a_failed_run_cannot_be_merged", failed),
    ]
}

/// Returns a project with a model that succeeds, and one that never ends.
fn endless_project() -> Value {
    json!({"files": {
        "headwater.toml": "[project]\nname = \"endless\"\n",
        "models/first.sql": "-- headwater: materialization = replace\nSELECT 1 AS n\n",
        "models/endless.sql": format!("-- headwater: materialization = replace\n{ENDLESS}\n"),
    }})
}

fn id(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

/// Returns true if the second model is running and the first has ended.
fn is_endless(events: &str) -> bool {
    events.contains(r#""step":"endless""#) && events.contains(r#""type":"step_ended""#)
}

async fn check_aftermath(server: &TestServer, id: &str) {
    assert_eq!(server.get("/v1/refs/main/tables").await, json!([]));
    let branches = server.get("/v1/branches?prefix=run/").await;
    assert_eq!(branches[0]["quarantine"], id, "{branches}");
    let source = json!({"source": branches[0]["name"]});
    let refused = server.post("/v1/branches/main/merge", source).await;
    assert_eq!(refused["code"], "branch_protected", "{refused}");
    // The output of the failed run can be read.
    let query = json!({"sql": "SELECT n FROM first", "ref": branches[0]["name"]});
    assert_eq!(server.post("/v1/query", query).await, json!([{"n": 1}]));
}

async fn stopped() {
    let server = TestServer::start().await;
    let id = id(&server.post("/v1/runs", endless_project()).await);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_endless(&server.text(&format!("/v1/jobs/{id}/events")).await) {
        assert!(std::time::Instant::now() < deadline, "the models do not begin");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    server.post(&format!("/v1/jobs/{id}/stop"), json!({})).await;
    let job = server.until(&format!("/v1/jobs/{id}"), |job| job["status"] != "running").await;
    assert_eq!(job["status"], "cancelled", "{job}");
    check_aftermath(&server, &id).await;
}

async fn killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = Killable::start(folder.path()).await;
    let id = id(&child.ask(Method::POST, "/v1/runs", Some(&endless_project())).await);
    let events = format!("/v1/jobs/{id}/events");
    child.until(&events, is_endless).await;
    child.kill();
    let mut config = support::config(folder.path());
    config.lock_wait = PATIENCE;
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    let job = server.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job["status"], "interrupted", "{job}");
    assert_eq!(job["error"]["code"], "interrupted", "{job}");
    check_aftermath(&server, &id).await;
}

async fn failed() {
    let server = TestServer::start().await;
    let project = json!({"files": {
        "headwater.toml": "[project]\nname = \"broken\"\n",
        "models/first.sql": "-- headwater: materialization = replace\nSELECT 1 AS n\n",
        "models/second.sql": "-- headwater: materialization = replace\n\
            SELECT 1 / (n - 1) AS n FROM first\n",
    }});
    let id = id(&server.post("/v1/runs", project).await);
    let job = server
        .until(&format!("/v1/jobs/{id}"), |job| {
            job["status"] != "running" && job["status"] != "queued"
        })
        .await;
    assert_eq!(job["status"], "failed", "{job}");
    check_aftermath(&server, &id).await;
    let source = json!({"source": format!("run/{id}"), "unchecked": true});
    let merged = server.post("/v1/branches/main/merge", source).await;
    assert_eq!(merged["outcome"], "fast_forward", "{merged}");
}
