//! Tests of table functions that read files: `read_csv`, `read_parquet`, `read_json`.

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::support::TestServer;
use crate::{limits, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("read_files::files_of_each_format_are_queried", formats),
        trial("read_files::a_bad_value_or_call_is_an_error", failures),
        trial("read_files::files_of_the_lake_are_not_read", lake_files),
        trial("read_files::a_user_needs_a_grant_on_the_location", rights),
        trial("read_files::the_bytes_of_files_count_in_usage_and_limits", usage),
        trial("read_files::explain_cost_contains_the_bytes_of_files", cost),
    ]
}

async fn formats() {
    let server = TestServer::start().await;
    let rows = "SELECT n, 'text ' || n AS t FROM UNNEST(range(1, 5001)) AS r(n)";
    for (name, call) in [
        ("a.parquet", "read_parquet('a.parquet')"),
        ("a.csv", "read_csv('a.csv')"),
        ("a.ndjson", "read_json('a.ndjson')"),
    ] {
        server.rows(&format!("COPY ({rows}) TO '{name}'")).await;
        let sums = format!("SELECT sum(n) AS sum, count(DISTINCT t) AS texts FROM {call}");
        let expected = json!([{"sum": 12_502_500, "texts": 5000}]);
        assert_eq!(server.rows(&sums).await, expected, "{call}");
    }
    let path = server.folder.path().join("b.csv");
    std::fs::write(&path, "7;x\n8;y\n").expect("a file");
    let path = path.display();
    // A call is allowed at each place where a table name is allowed.
    let options = "header = false, delim = ';'";
    for (sql, expected) in [
        (
            format!("SELECT b.* FROM read_csv('{path}', {options}) AS b ORDER BY 1 DESC LIMIT 1"),
            json!([{"column_1": 8, "column_2": "y"}]),
        ),
        (
            "SELECT count(*) AS n FROM read_csv('a.csv') AS c JOIN read_parquet('a.parquet') AS p \
             ON p.n = c.n"
                .to_owned(),
            json!([{"n": 5000}]),
        ),
        (
            "WITH few AS (SELECT * FROM read_csv(['a.csv', 'a.csv'])) SELECT count(*) AS n FROM few"
                .to_owned(),
            json!([{"n": 5000}]),
        ),
    ] {
        assert_eq!(server.rows(&sql).await, expected, "{sql}");
    }
    server.rows("CREATE TABLE t AS SELECT n FROM read_parquet('a.parquet') WHERE n < 3").await;
    server.rows("INSERT INTO t SELECT n FROM read_csv('a.csv') WHERE n = 9 RETURNING n").await;
    let sums = server.rows("SELECT sum(n) AS sum FROM t").await;
    assert_eq!(sums, json!([{"sum": 12}]));
    let copied = server.rows("COPY (SELECT * FROM read_csv('a.csv')) TO 'c.csv'").await;
    assert_eq!(copied[0]["rows"], 5000, "{copied}");
}

async fn failures() {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    std::fs::write(folder.join("broken.parquet"), "no Parquet").expect("a file");
    for (sql, code, part) in [
        ("SELECT * FROM read_csv('absent.csv')", "file_not_found", "absent.csv"),
        ("SELECT * FROM read_parquet('broken.parquet')", "", "broken.parquet"),
        ("SELECT * FROM read_csv('ftp://host/a.csv')", "invalid_argument", "ftp"),
        ("SELECT * FROM read_csv(7)", "invalid_sql", "read_csv"),
        ("SELECT * FROM read_csv('a.csv', quote = '|')", "invalid_sql", "quote"),
        ("CREATE VIEW v AS SELECT * FROM read_csv('a.csv')", "invalid_sql", "read_csv"),
    ] {
        let answer = server.rows(sql).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{sql}: {answer}");
        assert!(code.is_empty() || answer["code"] == code, "{sql}: {answer}");
    }
}

async fn lake_files() {
    let server = TestServer::start().await;
    for path in [".headwater/server.json", ".headwater/../.headwater/server.json"] {
        let answer = server.rows(&format!("SELECT * FROM read_json('{path}')")).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains("it belongs to a lake"), "{path}: {answer}");
    }
}

async fn cost() {
    let server = TestServer::start().await;
    server.rows("CREATE TABLE few AS SELECT 1 AS n").await;
    let rows = "SELECT n, 'text ' || n AS t FROM UNNEST(range(1, 5001)) AS r(n)";
    for (name, call) in [("a.parquet", "read_parquet('a.parquet')"), ("a.csv", "read_csv('a.csv')")]
    {
        server.rows(&format!("COPY ({rows}) TO '{name}'")).await;
        let size = std::fs::metadata(server.folder.path().join(name)).expect("a file").len();
        let query = format!("SELECT sum(a.n) AS sum FROM {call} AS a, few, {call} AS b");
        let costs = server.rows(&format!("EXPLAIN COST {query}")).await;
        let named = |table: &str| {
            let row = costs.as_array().into_iter().flatten().find(|row| row["table"] == table);
            row.cloned().unwrap_or_else(|| panic!("{table} is not in {costs}"))
        };
        let (files, total) = (named(name), named("total"));
        assert_eq!((&files["files"], &files["rows"]), (&json!(2), &Value::Null), "{costs}");
        let bytes = |row: &Value| row["bytes"].as_u64().expect("bytes");
        assert!(bytes(&files) >= 2 * size, "{size}: {costs}");
        assert_eq!(bytes(&total), bytes(&files) + bytes(&named("few")), "{costs}");
        assert!(total["cost"].as_f64() > named("few")["cost"].as_f64(), "{costs}");
        server.rows(&query).await;
        let read = server.get("/v1/jobs?limit=1").await[0]["usage"]["bytes_read"].as_u64();
        assert!(read.expect("bytes") <= bytes(&total), "{read:?} of {costs}");
    }
}

async fn usage() {
    let server = TestServer::start().await;
    let path = server.folder.path().join("a.csv");
    let lines: Vec<String> = (0..50_000).map(|n| format!("{n},name {n}\n")).collect();
    let text = lines.concat();
    std::fs::write(&path, format!("id,name\n{text}")).expect("a file");
    let bytes = std::fs::metadata(&path).expect("a file").len();
    let rows = "SELECT id, id * 7919 AS a, id * 104729 AS b, id * 1299709 AS c, name \
                FROM read_csv('a.csv')";
    server.rows(&format!("COPY ({rows}) TO 'a.parquet'")).await;
    let large = std::fs::metadata(path.with_extension("parquet")).expect("a file").len();
    let read = async |sql: &str| {
        server.rows(sql).await;
        let jobs = server.get("/v1/jobs?limit=1").await;
        assert_eq!(jobs[0]["status"], "succeeded", "{jobs}");
        jobs[0]["usage"]["bytes_read"].as_u64().expect("bytes")
    };
    // The first pass finds the types, and the second pass reads the rows.
    assert_eq!(read("SELECT count(*) AS n FROM read_csv('a.csv') WHERE id > 5").await, 2 * bytes);
    let all = read("SELECT * FROM read_parquet('a.parquet') LIMIT 100000").await;
    assert!(all > large / 2, "{all} of {large}");
    let one = read("SELECT sum(id) AS n FROM read_parquet('a.parquet')").await;
    assert!(one > 0 && one < all / 2, "{one} of {all}");
    for sql in [
        "SELECT count(*) AS n FROM read_csv('a.csv')",
        "CREATE TABLE t AS SELECT * FROM read_csv('a.csv')",
        "SELECT id, c FROM read_parquet('a.parquet')",
    ] {
        let body = json!({"sql": sql, "max_bytes": 10_000});
        let answer = server.post("/v1/query", body).await;
        assert_eq!(answer["code"], "quota_exceeded", "{sql}: {answer}");
        let jobs = server.get("/v1/jobs?limit=1").await;
        let used = jobs[0]["usage"]["bytes_read"].as_u64().expect("bytes");
        assert!(used > 10_000, "{sql}: {jobs}");
    }
    assert_eq!(server.rows("SELECT * FROM t").await["code"], "table_not_found");
    let users = Users::on(server).await;
    let ana = users.user("ana", &["read on branch:*", "read on location:*"]).await;
    limits::limit(&users.server, "ana", json!({"bytes_per_day": 10_000})).await;
    let sql = "SELECT count(*) AS n FROM read_csv('a.csv')";
    let (_, answer) = users.sql_at(&ana, "main", sql).await;
    assert_eq!(answer["code"], "quota_exceeded", "{answer}");
}

async fn rights() {
    let users = Users::start().await;
    let ana = users.user("ana", &["read on branch:*"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (allowed, denied) = (folder.path().join("in"), folder.path().join("other"));
    for path in [&allowed, &denied] {
        std::fs::create_dir(path).expect("a folder");
        std::fs::write(path.join("a.csv"), "id\n7\n").expect("a file");
    }
    let read = async |path: String| {
        let body = json!({"sql": format!("SELECT id FROM read_csv('{path}')")});
        let (status, answer): (_, Value) =
            users.send(&ana, Method::POST, "/v1/query", Some(body)).await;
        (status.as_u16(), answer)
    };
    let file = allowed.join("a.csv").display().to_string();
    assert_eq!(read(file.clone()).await.0, 403);
    users.grant("ana", &[&format!("read on location:{}", allowed.display())]).await;
    assert_eq!(read(file).await, (200, json!([{"id": 7}])));
    let pattern = allowed.join("*.csv").display().to_string();
    assert_eq!(read(pattern).await, (200, json!([{"id": 7}])));
    for path in [
        denied.join("a.csv").display().to_string(),
        denied.join("absent.csv").display().to_string(),
        allowed.join("../other/a.csv").display().to_string(),
        "a.csv".to_owned(),
        "s3://bucket/a.csv".to_owned(),
    ] {
        assert_eq!(read(path.clone()).await.0, 403, "{path}");
    }
}
