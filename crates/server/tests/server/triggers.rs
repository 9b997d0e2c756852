//! Triggers of the deployed version, and the rate card of the project's file.

use std::collections::BTreeSet;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::life_cycle::Killable;
use crate::support::{self, TestServer};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("triggers::files_that_land_are_imported_and_the_project_runs", files_land),
        trial("triggers::files_that_arrived_without_a_server_are_imported", landed_before),
        trial("triggers::table_changes_of_any_writer_fire", tables_change),
        trial("triggers::recreated_and_reverted_tables_are_changes", made_again),
        trial("triggers::changes_before_a_kill_fire_once_after_it", tables_and_kills),
        trial("triggers::runs_that_are_started_together_run_one_after_the_other", together),
        trial(
            "triggers::a_trigger_counts_from_its_deployment_and_rates_from_the_file",
            project_file,
        ),
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
files = { folder = "landing", pattern = "*.csv", debounce = "50ms" }
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
    assert_eq!(server.get("/v1/triggers").await, json!([]));
    server.deploy().await;
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
    let running = support::start(support::config(folder.path())).await;
    let server = TestServer { running, folder };
    server.deploy().await;
    server.running.shutdown().await;
    let TestServer { folder, .. } = server;
    std::fs::write(folder.path().join("landing/one.csv"), READINGS).expect("a file");
    let mut config = support::config(folder.path());
    config.idle = Some(std::time::Duration::from_millis(10));
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    // A server with a deployed trigger is never idle.
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
    assert_eq!(server.get("/v1/triggers").await, json!([]));
    server.rows("SELECT 1").await;
    let usage = server.get("/v1/usage?by=kind").await;
    assert_eq!(usage[0]["currency"], "EUR");
    std::fs::write(&file, text.replace("\"EUR\"", "\"EUR\"\ncpu_second = -1")).expect("a file");
    let refused = server.get("/v1/usage?by=kind").await;
    assert_eq!(refused["code"], "invalid_project", "{refused}");
    let expected = "`cpu_second` in `[rates]` is `-1`, which is not a price (headwater.toml:6)";
    assert_eq!(refused["message"], expected, "{refused}");
    // Errors in other sections do not change the prices.
    std::fs::write(&file, text.replace("0 2 * * *", "61 * * * *")).expect("a file");
    assert_eq!(server.get("/v1/usage?by=kind").await[0]["currency"], "EUR");
    std::fs::write(&file, text).expect("a file");

    server.deploy().await;
    assert_eq!(server.get("/v1/triggers").await[0]["name"], "nightly");
    std::fs::write(&file, text.replace("0 2 * * *", "61 * * * *")).expect("a file");
    assert_eq!(server.deploy().await["code"], "invalid_project");
    assert_eq!(server.get("/v1/triggers").await[0]["schedule"]["cron"], "0 2 * * *");
    std::fs::write(&file, text.replace("nightly", "daily")).expect("a file");
    server.deploy().await;
    assert_eq!(server.get("/v1/triggers").await[0]["name"], "daily");
    std::fs::write(&file, text.replace("run = true", "run = true\nbranch = \"dev\""))
        .expect("a file");
    let warnings = &server.deploy().await["warnings"];
    assert_eq!(warnings, &json!(["branch `dev` of trigger `nightly` does not exist"]));
    assert_eq!(server.get("/v1/triggers").await[0]["error"]["code"], "ref_not_found");
}

const FOLLOWING: &str = r#"
[project]
name = "following"

[parameters.tables]
type = "str"
default = "none"

[parameters.commit]
type = "str"
default = "none"

[[trigger]]
name = "changed"
branch = "dev"
tables = { names = ["orders", "raw.*", "seen"], debounce = "0s", batch = 1 }
run = true
parameters = { tables = "{tables}", commit = "{commit}" }
"#;

/// A model that writes a table which the trigger also watches.
const SEEN: &str = "-- headwater: materialization = replace\n\
     SELECT count(*) AS orders, $tables AS tables, $commit AS commit FROM orders\n";

fn write_following(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("models")).expect("a folder");
    std::fs::write(folder.join("headwater.toml"), FOLLOWING).expect("a file");
    std::fs::write(folder.join("models/seen.sql"), SEEN).expect("a file");
}

/// Starts a server with an empty table, whose project has a trigger on the tables of `dev`.
async fn following() -> TestServer {
    let server = TestServer::start().await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    let properties = "'headwater.maintenance.enabled' = 'false'";
    let sql_text = format!("CREATE TABLE orders (id INT) TBLPROPERTIES ({properties})");
    sql(&server, "dev", &sql_text).await;
    write_following(server.folder.path());
    server.deploy().await;
    server
}

async fn sql(server: &TestServer, branch: &str, text: &str) -> Value {
    let answer = server.post("/v1/query", json!({"sql": text, "ref": branch})).await;
    assert!(answer.get("code").is_none(), "{text}: {answer}");
    answer
}

/// Waits for `count` events. Returns the result of the last event's run: the number of orders, and
/// the changed tables.
async fn done(server: &TestServer, count: usize) -> (Value, Value) {
    let path = "/v1/trigger-events?status=done";
    let events = server.until(path, |events| {
        let found = events.as_array().expect("events").len();
        assert!(found <= count, "{events}");
        found == count
    });
    let events = events.await;
    let rows = sql(server, "dev", "SELECT * FROM seen").await;
    assert_eq!(rows[0]["commit"], events[0]["data"]["commit"], "{events}");
    assert_eq!(rows[0]["tables"], events[0]["data"]["tables"].to_string());
    (rows[0]["orders"].clone(), events[0]["data"]["tables"].clone())
}

async fn tables_change() {
    let server = following().await;
    let sql = async |branch: &str, text: &str| sql(&server, branch, text).await;
    let done = async |count: usize| done(&server, count).await;
    sql("dev", "CREATE SCHEMA raw").await;
    sql("dev", "INSERT INTO orders VALUES (1)").await;
    assert_eq!(done(1).await, (json!(1), json!(["public.orders"])));
    // Changes of other tables and branches, maintenance, properties and the run's own output do not
    // fire the trigger.
    sql("dev", "CREATE TABLE other (id INT)").await;
    sql("main", "CREATE TABLE orders (id INT)").await;
    sql("dev", "ALTER TABLE orders SET TBLPROPERTIES ('owner' = 'ada')").await;
    sql("dev", "INSERT INTO orders VALUES (2)").await;
    assert_eq!(done(2).await, (json!(2), json!(["public.orders"])));
    let kept = server.post("/v1/branches/dev/tables/orders/maintain", json!({"force": true})).await;
    assert!(kept.get("code").is_none(), "{kept}");
    // The trigger fires for an import, a merge, a deleted row, a new column, and a commit of
    // another engine.
    std::fs::write(server.folder.path().join("three.csv"), "id\n3\n").expect("a file");
    let source = server.folder.path().join("three.csv");
    let import = json!({"table": "raw.three", "sources": [source], "ref": "dev"});
    server.post("/v1/imports", import).await;
    assert_eq!(done(3).await, (json!(2), json!(["raw.three"])));
    server.post("/v1/branches", json!({"name": "feature", "from": "dev"})).await;
    for number in 3..6 {
        sql("feature", &format!("INSERT INTO orders VALUES ({number})")).await;
    }
    sql("dev", "CREATE TABLE apart (id INT)").await;
    server.post("/v1/branches/dev/merge", json!({"source": "feature"})).await;
    assert_eq!(done(4).await, (json!(5), json!(["public.orders"])));
    sql("dev", "DELETE FROM orders WHERE id = 1").await;
    assert_eq!(done(5).await.0, 4);
    sql("dev", "ALTER TABLE orders ADD COLUMN name VARCHAR").await;
    done(6).await;
    let path = "/iceberg/v1/dev/namespaces/raw/tables";
    let fields = json!([{"id": 1, "name": "id", "type": "int", "required": false}]);
    let schema = json!({"type": "struct", "schema-id": 0, "fields": fields});
    server.post(path, json!({"name": "theirs", "schema": schema})).await;
    assert_eq!(done(7).await.1, json!(["raw.theirs"]));
    let triggers = server.get("/v1/triggers").await;
    assert_eq!((&triggers[0]["pending"], &triggers[0]["failed"]), (&json!(0), &json!(0)));
    server.running.shutdown().await;
}

async fn made_again() {
    let server = following().await;
    let orders = json!(["public.orders"]);
    let post = async |path: &str, sent: Value| {
        let report = server.post(&format!("/v1/branches/dev/{path}"), sent).await;
        assert_eq!(report["outcome"], "merged", "{path}: {report}");
        format!("@{}", report["commit"].as_str().expect("a commit"))
    };
    server.post("/v1/branches", json!({"name": "feature", "from": "dev"})).await;
    sql(&server, "feature", "INSERT INTO orders VALUES (1)").await;
    let made = server.get("/v1/refs/feature/commits?limit=1").await;
    let made = format!("@{}", made[0]["id"].as_str().expect("an id"));
    let picked = post("cherry-pick", json!({"commit": made})).await;
    assert_eq!(done(&server, 1).await, (json!(1), orders.clone()));
    post("revert", json!({"commit": picked})).await;
    assert_eq!(done(&server, 2).await, (json!(0), orders.clone()));
    // The table that the run itself writes does not fire the trigger, but a client's revert of that
    // table does.
    let events = server.get("/v1/trigger-events?status=done").await;
    post("revert", json!({"run": events[0]["job"]})).await;
    assert_eq!(done(&server, 3).await, (json!(0), json!(["public.seen"])));
    // Without a project file in the working folder, the deployed version is used.
    std::fs::remove_file(server.folder.path().join("headwater.toml")).expect("a file");
    sql(&server, "dev", "INSERT INTO orders VALUES (2)").await;
    assert_eq!(done(&server, 4).await, (json!(1), orders));
    server.running.shutdown().await;
}

async fn tables_and_kills() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_following(folder.path());
    let mut child = Killable::start(folder.path()).await;
    let sql = async |child: &Killable, text: &str| {
        let sent = json!({"sql": text, "ref": "dev"});
        let answer = child.ask(Method::POST, "/v1/query", Some(&sent)).await;
        assert!(answer.get("code").is_none(), "{text}: {answer}");
        answer
    };
    let deployment = support::deployment(folder.path());
    child.ask(Method::POST, "/v1/deployments", Some(&deployment)).await;
    child.ask(Method::POST, "/v1/branches", Some(&json!({"name": "dev"}))).await;
    child.until("/v1/triggers", |found| !found.contains("ref_not_found")).await;
    sql(&child, "CREATE TABLE orders (id INT)").await;
    let count = 12;
    for number in 0..count {
        sql(&child, &format!("INSERT INTO orders VALUES ({number})")).await;
        if number % 4 == 3 {
            child.kill();
            // The description file of the killed server is removed, so that the test does not read
            // it as the description of the next server.
            let said = folder.path().join(".headwater/server.json");
            std::fs::remove_file(said).expect("a file");
            child = Killable::start(folder.path()).await;
        }
    }
    // There is one event for the creation of the table, and one event for each added row.
    let path = "/v1/trigger-events?limit=1000";
    let is_done = |found: &str| found.matches(r#""status":"done""#).count() > count;
    child.until(path, is_done).await;
    let events = child.ask(Method::GET, path, None).await;
    let events = events.as_array().expect("events").clone();
    let noted: BTreeSet<String> =
        events.iter().map(|event| event["data"]["commit"].to_string()).collect();
    assert_eq!((noted.len(), events.len()), (count + 1, count + 1), "{events:?}");
    let rows = sql(&child, "SELECT orders FROM seen").await;
    assert_eq!(rows[0]["orders"], count);
    let log = child.ask(Method::GET, "/v1/refs/dev/commits?limit=1000", None).await;
    let made: BTreeSet<String> =
        log.as_array().expect("commits").iter().map(|commit| commit["id"].to_string()).collect();
    assert!(noted.is_subset(&made));
    child.kill();
}

/// Two triggers that fire for the same commit, and a model that grows with each run.
const TOGETHER: &str = r#"
[project]
name = "together"

[parameters.who]
default = ""

[[trigger]]
name = "one"
tables = { names = ["orders"], debounce = "0s" }
run = true
parameters = { who = "one" }
retries = 0

[[trigger]]
name = "two"
tables = { names = ["orders"], debounce = "0s" }
run = true
parameters = { who = "two" }
retries = 0
"#;

/// A model that is so slow that concurrent runs would overlap.
const GROWING: &str = "-- headwater: materialization = append\n\
     SELECT $who AS who, count(*) AS n FROM orders, \
     generate_series(1, 3000) a, generate_series(1, 3000) b\n";

async fn together() {
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE TABLE orders (id INT)").await;
    std::fs::create_dir_all(server.folder.path().join("models")).expect("a folder");
    std::fs::write(server.folder.path().join("headwater.toml"), TOGETHER).expect("a file");
    std::fs::write(server.folder.path().join("models/growing.sql"), GROWING).expect("a file");
    server.deploy().await;
    sql(&server, "main", "INSERT INTO orders VALUES (1)").await;
    let waits = |jobs: &Value| jobs[0]["waits_for"][0].is_string();
    let queued = server.until("/v1/jobs?kind=trigger&status=queued", waits).await;
    let running = server.get("/v1/jobs?kind=trigger&status=running").await;
    let first = running[0]["id"].as_str().expect("an id").replace('-', "");
    assert_eq!(queued[0]["waits_for"], json!([format!("waits for job {}", &first[20..])]));

    let ended = |events: &Value| {
        let events = events.as_array().expect("events");
        events.len() == 2
            && events.iter().all(|event| event["status"] != "running")
            && events.iter().all(|event| event["status"] != "pending")
    };
    let events = server.until("/v1/trigger-events", ended).await;
    assert!(
        events.as_array().expect("events").iter().all(|event| event["status"] == "done"),
        "{events}"
    );
    let jobs = server.get("/v1/jobs?kind=trigger").await;
    assert_eq!(
        (&jobs[0]["status"], &jobs[1]["status"]),
        (&json!("succeeded"), &json!("succeeded"))
    );
    let rows = server.rows("SELECT who FROM growing ORDER BY who").await;
    assert_eq!(rows, json!([{"who": "one"}, {"who": "two"}]));
    server.running.shutdown().await;
}
