//! Tests of automatic maintenance.

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{self, TestServer};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("maintenance::small_files_are_compacted_automatically", by_itself),
        trial("maintenance::automatic_maintenance_can_be_disabled", left_alone),
    ]
}

async fn make(server: &TestServer, table: &str, enabled: bool) {
    server.rows(&format!("CREATE TABLE {table} AS SELECT 1 AS id")).await;
    let properties = format!(
        "'headwater.maintenance.small-files' = '4', 'headwater.maintenance.enabled' = '{enabled}'"
    );
    server.rows(&format!("ALTER TABLE {table} SET TBLPROPERTIES ({properties})")).await;
    for id in 2..7 {
        server.rows(&format!("INSERT INTO {table} VALUES ({id})")).await;
    }
}

async fn by_itself() {
    let server = TestServer::start().await;
    make(&server, "clicks", true).await;
    make(&server, "left", false).await;
    let kept = |table: &serde_json::Value| table["files"] == 1 && table["maintenance"].is_object();
    let table = server.until("/v1/refs/main/tables/clicks", kept).await;
    assert_eq!(table["rows"], 6);
    assert_eq!(table["maintenance"]["author"], "maintenance");
    let jobs = server.get("/v1/jobs?kind=maintenance").await;
    assert_eq!(jobs[0]["author"], "maintenance");
    let left = server.get("/v1/refs/main/tables/left").await;
    assert_eq!(left["files"], 6, "it was to be left alone, and was written to before");
    assert_eq!(server.rows("SELECT sum(id) AS n FROM clicks").await, json!([{"n": 21}]));
}

async fn left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.service.maintenance = false;
    let server = TestServer { running: support::start(config).await, folder };
    make(&server, "clicks", true).await;
    let path = "/v1/branches/main/tables/clicks/maintain";
    let job = server.post(path, json!({"compact": true})).await;
    let id = job["id"].as_str().expect("an id").to_owned();
    server.until(&format!("/v1/jobs/{id}"), |job| job["status"] == "succeeded").await;
    assert_eq!(server.get("/v1/refs/main/tables/clicks").await["files"], 1);
    let jobs = server.get("/v1/jobs?kind=maintenance").await;
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "only the requested job: {jobs}");
}
