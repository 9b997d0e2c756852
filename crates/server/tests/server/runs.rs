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
        trial(
            "runs::a_rerun_that_is_stopped_while_it_is_queued_leaves_no_branch",
            stopped_in_queue,
        ),
        trial("runs::a_queued_rerun_whose_branch_was_deleted_creates_it_again", without_branch),
        trial("runs::a_kill_interrupts_a_run", killed),
        trial("runs::the_branch_of_a_failed_run_cannot_be_merged", failed),
        trial("runs::a_run_is_repeated_after_a_conflict", repeated),
        trial("runs::a_stopped_backfill_stops_its_runs", stopped_backfill),
        trial("runs::a_run_fails_at_a_conflict_if_it_may_not_be_repeated", not_repeated),
    ]
}

/// Returns a project with one model that succeeds and one model that never ends.
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

/// Returns true if the first model has ended and the second model is running.
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
    // The table that the failed run wrote can be read on the run's branch.
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

/// Starts a server that executes one run at a time. Returns the server, the id of a run that has
/// ended, and the id of a run that uses the only slot until it is stopped.
async fn server_with_queue() -> (TestServer, String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.service.runs_concurrency = 1;
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    let project = json!({"files": {
        "headwater.toml": "[project]\nname = \"one\"\n",
        "models/one.sql": "-- headwater: materialization = replace\nSELECT 1 AS n\n",
    }});
    let first = id(&server.post("/v1/runs", project).await);
    let job = ended(&server, &first).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let endless = id(&server.post("/v1/runs", endless_project()).await);
    server.until(&format!("/v1/jobs/{endless}"), |job| job["status"] == "running").await;
    (server, first, endless)
}

/// A crash while the server stops a queued rerun can leave this state.
async fn without_branch() {
    let (server, first, endless) = server_with_queue().await;
    let rerun = format!("/v1/jobs/{first}/rerun?exact=true&branch=again");
    let rerun = id(&server.post(&rerun, json!({})).await);
    let (status, _) = server.ask(Method::DELETE, "/v1/branches/again", None).await;
    assert!((200..300).contains(&status), "{status}");
    server.post(&format!("/v1/jobs/{endless}/stop"), json!({})).await;
    let job = ended(&server, &rerun).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let query = json!({"sql": "SELECT n FROM one", "ref": "again"});
    assert_eq!(server.post("/v1/query", query).await, json!([{"n": 1}]));
}

async fn stopped_in_queue() {
    let (server, first, endless) = server_with_queue().await;
    let rerun = format!("/v1/jobs/{first}/rerun?exact=true&branch=again");
    let rerun = id(&server.post(&rerun, json!({})).await);
    assert_eq!(server.get(&format!("/v1/jobs/{rerun}")).await["status"], "queued");
    assert_eq!(server.get("/v1/branches?prefix=again").await[0]["name"], "again");
    let job = server.post(&format!("/v1/jobs/{rerun}/stop"), json!({})).await;
    assert_eq!(job["status"], "cancelled", "{job}");
    assert_eq!(server.get("/v1/branches?prefix=again").await, json!([]));

    // A branch to which another client has written is kept.
    let rerun = format!("/v1/jobs/{first}/rerun?exact=true&branch=again");
    let rerun = id(&server.post(&rerun, json!({})).await);
    let insert = json!({"sql": "CREATE TABLE other AS SELECT 1 AS n", "ref": "again"});
    server.post("/v1/query", insert).await;
    server.post(&format!("/v1/jobs/{rerun}/stop"), json!({})).await;
    assert_eq!(server.get("/v1/branches?prefix=again").await[0]["name"], "again");
    server.post(&format!("/v1/jobs/{endless}/stop"), json!({})).await;
    assert_eq!(ended(&server, &endless).await["status"], "cancelled");
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

const BY_KEY: &str = "-- headwater: materialization = merge\n-- headwater: keys = id\n\
                      -- headwater: allow_takeover = true\nSELECT 2 AS id, 20 AS v\n";

/// A model that takes some seconds, unless the other project has added a row to its input.
const SLOW: &str = "import time\n\nimport headwater\n\n\n\
                    @headwater.model(materialization='replace')\n\
                    def slow(t=headwater.Model('t')):\n    \
                    time.sleep(5 if len(t) == 1 else 0)\n    return t\n";

async fn ended(server: &TestServer, id: &str) -> Value {
    let has_ended = |job: &Value| job["status"] != "running" && job["status"] != "queued";
    server.until(&format!("/v1/jobs/{id}"), has_ended).await
}

/// Starts a run. While it runs, the run of another project changes a row with the same key and
/// ends. Returns the job of the first run.
async fn run_with_conflict(server: &TestServer, no_repeat: bool) -> Value {
    for sql in ["CREATE TABLE k AS SELECT 1 AS id, 10 AS v", "CREATE TABLE t AS SELECT 1 AS id"] {
        server.post("/v1/query", json!({"sql": sql})).await;
    }
    let slow = json!({"no_repeat": no_repeat, "files": {
        "headwater.toml": "[project]\nname = \"slow\"\n",
        "models/k.sql": BY_KEY,
        "models/once.sql": "-- headwater: materialization = replace\nSELECT 1 AS n\n",
        "models/slow.py": SLOW,
    }});
    let slow = id(&server.post("/v1/runs", slow).await);
    let deadline = std::time::Instant::now() + PATIENCE;
    let started = r#""step":"slow","type":"step_started""#;
    let is_started = |events: &str| {
        events.contains(started) || events.contains(r#""type":"step_started","step":"slow""#)
    };
    while !is_started(&server.text(&format!("/v1/jobs/{slow}/events")).await) {
        assert!(std::time::Instant::now() < deadline, "the slow model does not begin");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let quick = json!({"files": {
        "headwater.toml": "[project]\nname = \"quick\"\n",
        "models/k.sql": BY_KEY,
        "models/t.sql": "-- headwater: materialization = append\n\
            -- headwater: allow_takeover = true\nSELECT 2 AS id\n",
    }});
    let quick = id(&server.post("/v1/runs", quick).await);
    let job = ended(server, &quick).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    ended(server, &slow).await
}

async fn repeated() {
    let server = TestServer::start().await;
    let job = run_with_conflict(&server, false).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let conflicts = job["result"]["conflicts"].as_array().expect("conflicts");
    assert_eq!(conflicts.len(), 1, "{job}");
    assert_eq!(conflicts[0]["code"], "merge_conflict", "{job}");
    let steps = job["result"]["steps"].as_array().expect("steps");
    let status =
        |name: &str| steps.iter().find(|step| step["step"] == name).map(|it| &it["status"]);
    assert_eq!(status("once"), Some(&json!("reused")), "its input has not changed: {job}");
    assert_eq!(status("slow"), Some(&json!("succeeded")), "its input has changed: {job}");
    let log = server.text(&format!("/v1/jobs/{}/events", id(&job))).await;
    let repeats = "repeating the run (1 of 3) in 0.5 s: during the run, other commits on `main`";
    assert!(log.contains(repeats), "{log}");
    let rows = "SELECT (SELECT count(*) FROM k WHERE id = 2) AS k, count(*) AS slow FROM slow";
    assert_eq!(server.rows(rows).await, json!([{"k": 1, "slow": 2}]));
    assert_eq!(server.get("/v1/branches?prefix=run/").await, json!([]));
}

async fn not_repeated() {
    let server = TestServer::start().await;
    let job = run_with_conflict(&server, true).await;
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(job["error"]["code"], "merge_conflict", "{job}");
    let branches = server.get("/v1/branches?prefix=run/").await;
    assert_eq!(branches[0]["name"], format!("run/{}", id(&job)), "{branches}");
}

/// A model that ends only for the value 1.
const ENDS_FOR_ONE: &str = "-- headwater: materialization = append\n\
     WITH d(x) AS (SELECT x FROM \
     (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS v(x) WHERE $n > 1 OR x = 0) \
     SELECT sum(a.x + p.x) AS n \
     FROM d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m, d o, d p\n";

async fn stopped_backfill() {
    let server = TestServer::start().await;
    let backfill = json!({"parameter": "n", "values": ["1", "2", "3"], "run": {"files": {
        "headwater.toml": "[project]\nname = \"sums\"\n[parameters.n]\ntype = \"int\"\n",
        "models/sums.sql": ENDS_FOR_ONE,
    }}});
    let backfill = id(&server.post("/v1/backfills", backfill).await);
    let is_endless = |jobs: &Value| {
        let jobs = jobs.as_array().expect("jobs");
        jobs.iter().any(|job| job["reference"] != "main")
    };
    server.until("/v1/jobs?kind=run&status=running", is_endless).await;
    // The job has the outcome of each value before its end.
    let values = server.get(&format!("/v1/jobs/{backfill}")).await["result"]["values"].clone();
    let outcomes = values.as_array().expect("values").iter().map(|value| &value["status"]);
    assert_eq!(outcomes.collect::<Vec<_>>(), ["merged", "waiting", "waiting"]);
    server.post(&format!("/v1/jobs/{backfill}/stop"), json!({})).await;
    let job = ended(&server, &backfill).await;
    assert_eq!(job["status"], "cancelled", "{job}");
    let message = job["error"]["message"].as_str().expect("a message");
    assert_eq!(message, "the backfill was stopped after 1 of 3 values");
    let values = &job["result"]["values"];
    assert_eq!((&values[0]["status"], &values[2]["value"]), (&json!("merged"), &json!("3")));
    assert_eq!(server.get("/v1/jobs?kind=run&status=running").await, json!([]));
    assert_eq!(server.get("/v1/branches?prefix=backfill/").await, json!([]));
    // The values that were merged before stay merged.
    assert_eq!(server.rows("SELECT count(*) AS n FROM sums").await, json!([{"n": 1}]));
}
