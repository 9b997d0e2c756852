//! The project's file while the server runs: triggers that act, and rates that count.

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{self, TestServer};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("triggers::files_that_land_are_imported_and_the_project_runs", files_land),
        trial("triggers::what_landed_while_no_server_ran_is_taken", landed_before),
        trial("triggers::the_project_file_counts_from_when_it_is_written", project_file),
    ]
}

const PROJECT: &str = r#"
[project]
name = "readings"

[parameters.files]
type = "str"
default = "none"

[[trigger]]
name = "landing"
files = { folder = "landing", pattern = "*.csv", settle_ms = 50 }
import = { table = "readings" }
run = true
parameters = { files = "{files}" }
"#;

const MODEL: &str = "-- headwater: materialization = replace\n\
     SELECT sensor, max(value) AS highest, $files AS files FROM readings GROUP BY sensor\n";

fn write_project(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("models")).expect("a folder");
    std::fs::create_dir_all(folder.join("landing")).expect("a folder");
    std::fs::write(folder.join("headwater.toml"), PROJECT).expect("a file");
    std::fs::write(folder.join("models/highest.sql"), MODEL).expect("a file");
}

async fn check_rows(server: &TestServer) {
    let done = "/v1/trigger-events?status=done";
    let events = server.until(done, |events| events[0]["status"] == "done").await;
    assert_eq!(events[0]["trigger"], "landing");
    let rows = server.rows("SELECT sensor, highest FROM highest ORDER BY sensor").await;
    assert_eq!(rows, json!([{"sensor": "a", "highest": 3}, {"sensor": "b", "highest": 2}]));
    let files = server.rows("SELECT DISTINCT files FROM highest").await;
    let files = files[0]["files"].as_str().expect("text").to_owned();
    assert!(files.ends_with("landing/one.csv\"]"), "{files}");
    let commits = server.get("/v1/refs/main/commits").await;
    let event = events[0]["id"].as_str().expect("an id");
    let caused = commits.as_array().expect("commits").iter().filter(|commit| {
        let cause = commit["properties"]["headwater.event"].as_str().unwrap_or_default();
        cause.starts_with(event)
    });
    assert!(caused.count() >= 2, "{commits}");
}

const READINGS: &str = "sensor,value\na,1\nb,2\na,3\n";

async fn files_land() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_project(folder.path());
    let running = support::start(support::config(folder.path())).await;
    let server = TestServer { running, folder };
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["name"], "landing");
    let new = server.folder.path().join("one.csv.part");
    std::fs::write(&new, READINGS).expect("a file");
    std::fs::rename(new, server.folder.path().join("landing/one.csv")).expect("a rename");
    check_rows(&server).await;
    server.running.shutdown().await;
}

async fn landed_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_project(folder.path());
    std::fs::write(folder.path().join("landing/one.csv"), READINGS).expect("a file");
    let mut config = support::config(folder.path());
    config.idle = Some(std::time::Duration::from_millis(10));
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    // With a trigger declared the server is never idle.
    check_rows(&server).await;
    server.running.shutdown().await;
}

async fn project_file() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/v1/triggers").await, json!([]));
    let file = server.folder.path().join("headwater.toml");
    let text = "[project]\nname = \"p\"\n\n[rates]\ncurrency = \"EUR\"\n\n\
        [[trigger]]\nname = \"nightly\"\nschedule = { cron = \"0 2 * * *\" }\nrun = true\n";
    std::fs::write(&file, text).expect("a file");
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["name"], "nightly");
    server.rows("SELECT 1").await;
    let usage = server.get("/v1/usage?by=kind").await;
    assert_eq!(usage[0]["currency"], "EUR");

    std::fs::write(&file, text.replace("0 2 * * *", "61 * * * *")).expect("a file");
    assert_eq!(server.get("/v1/triggers").await["code"], "invalid_project");
    std::fs::write(&file, text.replace("nightly", "daily")).expect("a file");
    assert_eq!(server.get("/v1/triggers").await[0]["name"], "daily");
}
