//! Tests of COPY … TO a file.

use std::path::Path;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::life_cycle::ENDLESS;
use crate::support::{TestServer, json, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("copy_to::a_file_of_each_format_is_imported_unchanged", formats),
        trial("copy_to::a_failed_copy_leaves_the_file_as_it_was", failures),
        trial("copy_to::a_stopped_copy_leaves_no_file", stopped),
        trial("copy_to::files_of_the_lake_are_not_overwritten", lake_files),
        trial("copy_to::a_user_needs_a_grant_on_the_location", rights),
        trial("copy_to::only_regular_files_are_replaced_and_keep_their_mode", special_files),
        trial("copy_to::a_statement_that_changes_a_table_is_rejected", changes),
    ]
}

const ROWS: &str = "SELECT n, 'text ' || n AS t FROM UNNEST(range(1, 5001)) AS r(n)";

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().display().to_string()).collect();
    names.sort();
    names
}

async fn formats() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, table) in [("a.parquet", "p"), ("a.csv", "c"), ("a.ndjson", "n"), ("a.arrow", "a")] {
        let path = folder.path().join(name);
        let copied = server.rows(&format!("COPY ({ROWS}) TO '{}'", path.display())).await;
        assert_eq!(copied[0]["rows"], 5000, "{copied}");
        let bytes = std::fs::metadata(&path).expect("a file").len();
        assert_eq!(copied[0]["bytes"], bytes, "{copied}");
        let body = json!({"table": table, "sources": [path]});
        let job = server.post("/v1/imports", body).await;
        let job = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
        let job = server.until(&job, |job| !job["ended"].is_null()).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        let difference = format!(
            "SELECT count(*) AS rows, count(DISTINCT t) AS texts, min(n) AS low, max(n) AS high \
             FROM {table}"
        );
        let expected = json!([{"rows": 5000, "texts": 5000, "low": 1, "high": 5000}]);
        assert_eq!(server.rows(&difference).await, expected, "{name}");
    }
    // A relative path is relative to the folder that contains the lake.
    let copied = server.rows("COPY p (t) TO 'out.csv'").await;
    let written = server.folder.path().join("out.csv");
    assert_eq!(copied[0]["file"], written.canonicalize().expect("a file").display().to_string());
    let text = std::fs::read_to_string(written).expect("a file");
    assert_eq!(text.lines().next(), Some("t"));
    // The job has the usage of the query.
    let jobs = server.get("/v1/jobs?limit=1").await;
    assert!(jobs[0]["usage"]["rows_read"].as_u64() >= Some(5000), "{jobs}");
}

async fn failures() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "before").expect("a file");
    let late = "SELECT CAST(CASE WHEN n = 4999 THEN 'x' ELSE '1' END AS INT) AS v \
                FROM UNNEST(range(1, 5001)) AS r(n)";
    let copy = async |query: &str, path: &Path| {
        server.rows(&format!("COPY ({query}) TO '{}'", path.display())).await
    };
    let answer = copy(late, &path).await;
    assert!(answer["message"].as_str().is_some_and(|text| text.contains('x')), "{answer}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "before");
    assert_eq!(names(folder.path()), ["a.csv"]);
    let answer = copy(ROWS, &folder.path().join("absent/a.csv")).await;
    let hint = answer["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("Create the folder"), "{answer}");
    std::fs::create_dir(folder.path().join("b.csv")).expect("a folder");
    let answer = copy(ROWS, &folder.path().join("b.csv")).await;
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("folder")), "{answer}");
    let answer = server.rows(&format!("COPY ({ROWS}) TO 'ftp://host/a.csv'")).await;
    assert_eq!(answer["code"], "invalid_argument", "{answer}");
    assert_eq!(names(folder.path()), ["a.csv", "b.csv"]);
}

async fn stopped() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let sql = format!("COPY ({ENDLESS}) TO '{}'", folder.path().join("a.csv").display());
    let query = json!({"sql": sql});
    let sent = server.send(request(Method::POST, "/v1/query", Some(&query)));
    let stop = async {
        let jobs =
            server.until("/v1/jobs?status=running", |jobs| jobs[0]["status"] == "running").await;
        let id = jobs[0]["id"].as_str().expect("an id").to_owned();
        server.post(&format!("/v1/jobs/{id}/stop"), json!({})).await;
    };
    let (response, ()) = tokio::join!(sent, stop);
    assert_eq!(json(response).await["code"], "cancelled");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

async fn lake_files() {
    let server = TestServer::start().await;
    server.rows("CREATE TABLE t AS SELECT 1 AS a").await;
    let outside = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(other.path().join(".headwater")).expect("another lake");
    let link = outside.path().join("link");
    std::os::unix::fs::symlink(server.folder.path().join(".headwater"), &link).expect("a link");
    for path in [
        ".headwater/a.csv".to_owned(),
        ".headwater/../.headwater/a.csv".to_owned(),
        ".headwater.secret-key".to_owned(),
        other.path().join(".headwater/a.csv").display().to_string(),
        link.join("a.csv").display().to_string(),
    ] {
        let answer = server.rows(&format!("COPY t TO '{path}' (FORMAT csv)")).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains("the path belongs to a lake"), "{path}: {answer}");
    }
    assert_eq!(server.rows("SELECT a FROM t").await, json!([{"a": 1}]));
}

async fn rights() {
    let users = Users::start().await;
    let ana = users.user("ana", &["read on branch:*", "select on table:shop.items"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (allowed, denied) = (folder.path().join("out"), folder.path().join("other"));
    for path in [&allowed, &denied] {
        std::fs::create_dir(path).expect("a folder");
    }
    let copy = async |path: String| {
        let body = json!({"sql": format!("COPY shop.items TO '{path}'")});
        let (status, answer): (_, Value) =
            users.send(&ana, Method::POST, "/v1/query", Some(body)).await;
        (status.as_u16(), answer)
    };
    let file = allowed.join("a.csv").display().to_string();
    assert_eq!(copy(file.clone()).await.0, 403);
    users.grant("ana", &[&format!("read on location:{}", allowed.display())]).await;
    assert_eq!(copy(file.clone()).await.0, 403);
    users.grant("ana", &[&format!("write on location:{}", allowed.display())]).await;
    let (status, answer) = copy(file).await;
    assert_eq!(status, 200, "{answer}");
    for path in [
        denied.join("a.csv").display().to_string(),
        allowed.join("../other/a.csv").display().to_string(),
        "a.csv".to_owned(),
    ] {
        assert_eq!(copy(path.clone()).await.0, 403, "{path}");
    }
    assert_eq!(names(&denied), Vec::<String>::new());
}

async fn special_files() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    let server = TestServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("target.csv"), "before").expect("a file");
    symlink(at("target.csv"), at("link.csv")).expect("a link");
    symlink(at("absent.csv"), at("dangling.csv")).expect("a link");
    let socket = std::os::unix::net::UnixListener::bind(at("socket.csv")).expect("a socket");
    for name in ["link.csv", "dangling.csv", "socket.csv"] {
        let answer = server.rows(&format!("COPY ({ROWS}) TO '{}'", at(name).display())).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains("a link, a device or a pipe"), "{name}: {answer}");
    }
    assert_eq!(std::fs::read_to_string(at("target.csv")).expect("a file"), "before");
    let kind = std::fs::symlink_metadata(at("socket.csv")).expect("a socket").file_type();
    assert!(kind.is_socket());
    drop(socket);
    let secret = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(at("target.csv"), secret).expect("a mode");
    server.rows(&format!("COPY ({ROWS}) TO '{}'", at("target.csv").display())).await;
    let written = std::fs::metadata(at("target.csv")).expect("a file");
    assert!(written.len() > 1000);
    assert_eq!(written.permissions().mode() & 0o777, 0o600);
}

async fn changes() {
    let server = TestServer::start().await;
    server.rows("CREATE TABLE t AS SELECT 1 AS a").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.csv");
    for change in
        ["DELETE FROM t", "UPDATE t SET a = 2", "INSERT INTO t VALUES (2)", "(DELETE FROM t)"]
    {
        let answer = server.rows(&format!("COPY ({change}) TO '{}'", path.display())).await;
        assert!(answer["message"].is_string(), "{change}: {answer}");
    }
    assert_eq!(names(folder.path()), Vec::<String>::new());
    assert_eq!(server.rows("SELECT a FROM t").await, json!([{"a": 1}]));
}
