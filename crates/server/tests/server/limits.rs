//! Limits of users: several users at the same time, after a restart, and by several protocols.

use hyper::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::access_matrix::READ;
use crate::life_cycle::ENDLESS;
use crate::support::{self, TestServer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("limits::concurrent_jobs_are_limited_for_each_user_separately", jobs),
        trial("limits::a_daily_limit_stops_a_running_query", stopped_query),
        trial("limits::a_daily_limit_stops_a_write_before_its_commit", stopped_write),
        trial("limits::the_bytes_of_a_day_count_after_a_restart", days),
        trial("limits::own_limits_precede_those_of_roles_and_are_shown", roles),
        trial("limits::memory_limits_statements_and_functions", memory),
        trial("limits::an_asynchronous_call_is_a_job_of_its_user", asynchronous),
    ]
}

/// A query that reads a data file.
const READS: &str = "SELECT id FROM shop.items";

const PROJECT: &str = "[project]\nname = \"limited\"\n";

const FUNCTIONS: &str = "\
import headwater

@headwater.function(memory=\"512MiB\")
def large():
    return 1

@headwater.function(memory=\"64MiB\")
def small():
    return 1
";

/// Sets limits as the owner.
pub async fn limit(server: &TestServer, name: &str, limits: Value) {
    let path = format!("/v1/limits/{name}");
    let response = server.send(request(Method::PUT, &path, Some(&limits))).await;
    assert_eq!(response.status(), StatusCode::OK, "{name} {limits}");
}

/// Checks that a user's statement is rejected. Returns the error.
async fn refused(users: &Users, token: &str) -> Value {
    let (status, problem) = users.sql_at(token, "main", "SELECT 1").await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("quota_exceeded")), "{problem}");
    problem
}

async fn jobs() {
    let users = Users::start().await;
    let (ana, ben) = (users.user("ana", &READ).await, users.user("ben", &READ).await);
    limit(&users.server, "ana", json!({"jobs": 1})).await;
    let endless = users.sql_at(&ana, "main", ENDLESS);
    let others = async {
        let running = "/v1/jobs?status=running";
        let found = users.server.until(running, |jobs| jobs[0]["author"] == "ana").await;
        let problem = refused(&users, &ana).await;
        let hint = problem["hint"].as_str().expect("a hint");
        assert!(hint.contains("headwater limit set ana"), "{hint}");
        let diff = users.get(&ana, "/v1/refs/main/diff/main").await;
        assert_eq!(diff.0, 429, "every kind of job counts: {}", diff.1);
        users.check(&ben, READS, 200).await;
        assert!(users.server.rows("SELECT 1").await.is_array(), "the owner has no limit");
        let (_, shown) = users.get(&ana, "/v1/whoami").await;
        assert_eq!(
            (&shown["limits"]["jobs"], &shown["limits"]["limits"]),
            (&json!(1), &json!({"jobs": 1}))
        );
        let id = found[0]["id"].as_str().expect("an id");
        users.server.post(&format!("/v1/jobs/{id}/stop"), json!({})).await;
    };
    let ((stopped, _), ()) = tokio::join!(endless, others);
    assert_eq!(stopped, StatusCode::CONFLICT);
    users.check(&ana, READS, 200).await;
}

async fn stopped_query() {
    let users = Users::start().await;
    let (ana, ben) = (users.user("ana", &READ).await, users.user("ben", &READ).await);
    limit(&users.server, "ana", json!({"money_per_day": 0.000_001})).await;
    // The query has no end, so only its limit can stop it.
    let (status, problem) = users.sql_at(&ana, "main", ENDLESS).await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("quota_exceeded")), "{problem}");
    let message = problem["message"].as_str().expect("a message");
    assert!(message.starts_with("the job was stopped: user `ana` has reached"), "{message}");
    let hint = problem["hint"].as_str().expect("a hint");
    assert!(hint.contains("headwater limit set ana"), "{hint}");
    let (_, jobs) = users.get(&ana, "/v1/jobs?limit=1").await;
    assert_eq!((&jobs[0]["status"], &jobs[0]["error"]), (&json!("failed"), &problem), "{jobs}");
    assert!(jobs[0]["usage"]["cpu_us"].as_u64() > Some(0), "its usage is charged: {jobs}");
    refused(&users, &ana).await;
    users.check(&ben, READS, 200).await;
}

async fn stopped_write() {
    let users = Users::start().await;
    let writes = ["insert on table:shop.*", "write on branch:*"];
    let ana = users.user("ana", &[&READ[..], &writes].concat()).await;
    limit(&users.server, "ana", json!({"money_per_day": 0.000_001})).await;
    let before = users.server.get("/v1/refs/main").await;
    let (status, problem) =
        users.sql_at(&ana, "main", &format!("INSERT INTO shop.items {ENDLESS}")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("quota_exceeded")), "{problem}");
    assert_eq!(users.server.get("/v1/refs/main").await, before);
    assert_eq!(users.server.rows("SELECT * FROM shop.items").await, json!([{"id": 1}]));
}

async fn days() {
    let users = Users::start().await;
    let (ana, ben) = (users.user("ana", &READ).await, users.user("ben", &READ).await);
    let created = "CREATE TABLE shop.many AS SELECT value AS id FROM generate_series(1, 200000)";
    assert!(users.server.rows(created).await.get("code").is_none());
    limit(&users.server, "ana", json!({"bytes_per_day": 1})).await;
    let (status, problem) = users.sql_at(&ana, "main", "SELECT max(id % 7) FROM shop.many").await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("quota_exceeded")), "{problem}");
    let problem = refused(&users, &ana).await;
    let hint = problem["hint"].as_str().expect("a hint");
    assert!(hint.contains("T00:00:00Z"), "it names the end of the day: {hint}");
    users.check(&ben, READS, 200).await;
    let (_, before) = users.get(&ana, "/v1/whoami").await;
    assert!(before["limits"]["bytes_today"].as_u64() > Some(0), "{before}");
    let Users { server, .. } = users;
    server.running.shutdown().await;
    let TestServer { folder, .. } = server;
    let running = support::start(support::config(folder.path())).await;
    let access = running.access().expect("the owner's");
    let users = Users { server: TestServer { running, folder }, access };
    let (_, after) = users.get(&ana, "/v1/whoami").await;
    assert_eq!(after["limits"], before["limits"]);
    refused(&users, &ana).await;
    limit(&users.server, "ana", json!({"bytes_per_day": 1 << 30})).await;
    users.check(&ana, READS, 200).await;
    limit(&users.server, "ana", json!({"money_per_day": 0})).await;
    refused(&users, &ana).await;
    users.check(&ben, READS, 200).await;
}

async fn roles() {
    let users = Users::start().await;
    let (ana, ben) = (users.user("ana", &READ).await, users.user("ben", &READ).await);
    users.server.post("/v1/roles", json!({"name": "analyst"})).await;
    let member = request(Method::PUT, "/v1/roles/analyst/members/ana", None);
    assert_eq!(users.server.send(member).await.status(), StatusCode::NO_CONTENT);
    limit(&users.server, "analyst", json!({"money_per_day": 0, "jobs": 5})).await;
    refused(&users, &ana).await;
    users.check(&ben, READS, 200).await;
    limit(&users.server, "ana", json!({"money_per_day": 100})).await;
    users.check(&ana, READS, 200).await;
    let (_, shown) = users.get(&ana, "/v1/whoami").await;
    assert_eq!(shown["limits"]["limits"], json!({"jobs": 5, "money_per_day": 100.0}));
    let (_, listed) = users.get(&ana, "/v1/limits").await;
    let names: Vec<_> = listed.as_array().expect("limits").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["ana", "analyst"]);
    assert_eq!(users.get(&ben, "/v1/limits").await, (StatusCode::OK, json!([])));
    assert_eq!(users.get(&ana, "/v1/limits/ana").await.0, 200);
    assert_eq!(users.get(&ben, "/v1/limits/ana").await.0, 403);
}

async fn memory() {
    let users = Users::start().await;
    std::fs::write(users.server.folder.path().join("headwater.toml"), PROJECT).expect("a file");
    std::fs::write(users.server.folder.path().join("f.py"), FUNCTIONS).expect("a file");
    users.server.deploy().await;
    let ana = users.user("ana", &["invoke on function:*", "read on branch:*"]).await;
    limit(&users.server, "ana", json!({"memory_bytes": 64 << 20})).await;
    let body = Some(json!({}));
    for path in ["/v1/functions/large/invoke", "/v1/functions/large/invoke-async"] {
        let (status, problem) = users.send(&ana, Method::POST, path, body.clone()).await;
        assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("quota_exceeded")), "{path}");
    }
    let called = users.send(&ana, Method::POST, "/v1/functions/small/invoke", body).await;
    assert_eq!(called, (StatusCode::OK, json!(1)));
    limit(&users.server, "ana", json!({"memory_bytes": 1 << 20})).await;
    let sql = "SELECT array_agg(value) FROM generate_series(1, 300000)";
    let (status, problem) = users.sql_at(&ana, "main", sql).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("memory_limit")), "{problem}");
    assert!(users.server.rows(sql).await.is_array(), "the owner has no limit");
}

async fn asynchronous() {
    let users = Users::start().await;
    std::fs::write(users.server.folder.path().join("headwater.toml"), PROJECT).expect("a file");
    std::fs::write(users.server.folder.path().join("f.py"), FUNCTIONS).expect("a file");
    users.server.deploy().await;
    let ana = users.user("ana", &["invoke on function:*", "read on branch:*"]).await;
    limit(&users.server, "ana", json!({"money_per_day": 1e-12})).await;
    let call = "/v1/functions/small/invoke-async";
    let (status, event) = users.send(&ana, Method::POST, call, Some(json!({}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{event}");
    users.server.until("/v1/jobs?kind=function", |jobs| jobs[0]["status"] == "succeeded").await;
    let (status, problem) = users.send(&ana, Method::POST, call, Some(json!({}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("quota_exceeded")), "{problem}");
    refused(&users, &ana).await;
}
