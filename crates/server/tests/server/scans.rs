//! Tests of scan planning for Iceberg REST clients: responses, pruning, errors.

use std::collections::BTreeSet;

use hyper::{Method, Request};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::{TestServer, bearer};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("scans::a_plan_lists_files_and_residual_filters", plan),
        trial("scans::filters_prune_files_by_bounds_and_partitions", filters),
        trial("scans::delete_files_and_vectors_are_sent_with_their_data_files", deletes),
        trial("scans::files_of_earlier_partition_specs_use_their_own_spec", specs),
        trial("scans::incremental_scans_return_appended_files", appended),
        trial("scans::a_snapshot_is_read_with_its_own_or_the_current_schema", columns),
        trial("scans::a_large_plan_has_pages", pages),
        trial("scans::a_plan_exists_until_it_is_cancelled", plans),
        trial("scans::unsupported_scans_are_rejected", refused),
    ]
}

/// Returns the URL path of a table of `public` on `dev`.
fn table(name: &str) -> String {
    format!("/iceberg/v1/dev/namespaces/public/tables/{name}")
}

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    server
}

async fn sql(server: &TestServer, sql: &str) {
    let answer = server.post("/v1/query", json!({"sql": sql, "ref": "dev"})).await;
    assert!(answer.get("code").is_none(), "{sql}: {answer}");
}

/// Plans a scan and returns the response.
async fn planned(server: &TestServer, name: &str, asked: Value) -> Value {
    let path = format!("{}/plan", table(name));
    let (status, answer) = server.ask(Method::POST, &path, Some(&asked)).await;
    assert_eq!(status, 200, "{asked}: {answer}");
    assert_eq!(answer["status"], "completed");
    answer
}

fn tasks(answer: &Value) -> &Vec<Value> {
    answer["file-scan-tasks"].as_array().expect("tasks")
}

/// Returns the first partition value of each planned file.
fn partitions(answer: &Value) -> BTreeSet<String> {
    let first = |task: &Value| task["data-file"]["partition"][0].to_string();
    tasks(answer).iter().map(first).collect()
}

async fn snapshot(server: &TestServer, name: &str) -> i64 {
    let loaded = server.get(&table(name)).await;
    loaded["metadata"]["current-snapshot-id"].as_i64().expect("a snapshot")
}

async fn plan() {
    let server = server().await;
    let config = server.get("/iceberg/v1/config?warehouse=dev").await;
    for (method, end) in [("POST", "plan"), ("GET", "plan/{plan-id}"), ("POST", "tasks")] {
        let endpoint =
            format!("{method} /v1/{{prefix}}/namespaces/{{namespace}}/tables/{{table}}/{end}");
        let endpoints = config["endpoints"].as_array().expect("endpoints");
        assert!(endpoints.contains(&json!(endpoint)), "{endpoint}");
    }
    sql(&server, "CREATE TABLE empty (id INT)").await;
    let empty = planned(&server, "empty", json!({})).await;
    assert_eq!((tasks(&empty).len(), &empty["delete-files"]), (0, &json!([])));

    sql(
        &server,
        "CREATE TABLE t (id BIGINT, day DATE, price DECIMAL(9, 2), at TIMESTAMP, name VARCHAR) \
         PARTITIONED BY (day, bucket(4, id))",
    )
    .await;
    sql(
        &server,
        "INSERT INTO t VALUES (1, DATE '2024-01-01', 1.50, TIMESTAMP '2024-01-01 10:00:00', 'a')",
    )
    .await;
    let filter = json!({"type": "and",
        "left": {"type": "eq", "term": "day", "value": "2024-01-01"},
        "right": {"type": "gt", "term": "price", "value": "1.00"}});
    let asked =
        json!({"filter": filter, "select": ["id", "name"], "stats-fields": ["price", "at", "id"]});
    let answer = planned(&server, "t", asked).await;
    let [task] = &tasks(&answer)[..] else { panic!("{answer}") };
    assert_eq!(task["residual-filter"], json!({"type": "gt", "term": "price", "value": "1.00"}));
    assert_eq!(task.get("delete-file-references"), None);
    let file = &task["data-file"];
    assert_eq!(file["partition"][0], "2024-01-01");
    assert!(file["partition"][1].is_i64());
    for (name, expected) in [
        ("content", json!("data")),
        ("file-format", json!("parquet")),
        ("record-count", json!(1)),
        ("spec-id", json!(0)),
        (
            "lower-bounds",
            json!({"keys": [1, 3, 4], "values": [1, "1.50", "2024-01-01T10:00:00.000000"]}),
        ),
        ("null-value-counts", json!({"keys": [1, 3, 4], "values": [0, 0, 0]})),
    ] {
        assert_eq!(file[name], expected, "{name}");
    }
    assert!(file["file-path"].as_str().is_some_and(|path| path.starts_with("file://")));
    assert!(file["file-size-in-bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(answer["plan-id"].is_string());
    let plain = planned(&server, "t", json!({})).await;
    assert_eq!(tasks(&plain)[0]["residual-filter"], true);
    assert_eq!(tasks(&plain)[0]["data-file"].get("lower-bounds"), None);
}

async fn filters() {
    let server = server().await;
    sql(&server, "CREATE TABLE t (k INT, n INT, s VARCHAR, f DOUBLE) PARTITIONED BY (k)").await;
    for k in 0..4 {
        let row = |n: i32| {
            format!("({k}, {}, '{}x', {}.5)", k * 10 + n, ["a", "b", "c", "d"][k as usize], k)
        };
        sql(&server, &format!("INSERT INTO t VALUES {}, {}", row(0), row(9))).await;
    }
    sql(&server, "INSERT INTO t VALUES (NULL, NULL, NULL, NULL)").await;
    let check = async |filter: Value, expected: &[&str]| {
        let answer = planned(&server, "t", json!({"filter": filter})).await;
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(partitions(&answer), expected, "{filter}");
        let denied = json!({"type": "not", "child": {"type": "not", "child": filter}});
        let denied = planned(&server, "t", json!({"filter": denied})).await;
        assert_eq!(partitions(&denied), expected, "{filter}, denied twice");
    };
    let one =
        |test: &str, term: &str, value: Value| json!({"type": test, "term": term, "value": value});
    check(json!(true), &["0", "1", "2", "3", "null"]).await;
    check(json!(false), &[]).await;
    // These filters prune files by their partition values.
    check(one("eq", "k", json!(2)), &["2"]).await;
    check(one("not-eq", "k", json!(2)), &["0", "1", "3", "null"]).await;
    check(one("lt", "k", json!(2)), &["0", "1"]).await;
    check(one("gt-eq", "k", json!(2)), &["2", "3"]).await;
    check(json!({"type": "in", "term": "k", "values": [1, 3, 9]}), &["1", "3"]).await;
    check(json!({"type": "not-in", "term": "k", "values": [1, 3]}), &["0", "2", "null"]).await;
    check(json!({"type": "is-null", "term": "k"}), &["null"]).await;
    check(json!({"type": "not-null", "term": "k"}), &["0", "1", "2", "3"]).await;
    // These filters prune files by the bounds of a column.
    check(one("eq", "n", json!(15)), &["1"]).await;
    check(one("lt-eq", "n", json!(10)), &["0", "1"]).await;
    check(one("gt", "n", json!(29)), &["3"]).await;
    check(json!({"type": "in", "term": "n", "values": [5, 35]}), &["0", "3"]).await;
    check(one("starts-with", "s", json!("b")), &["1"]).await;
    check(one("not-starts-with", "s", json!("b")), &["0", "1", "2", "3", "null"]).await;
    check(json!({"type": "is-null", "term": "n"}), &["null"]).await;
    // If bounds cannot decide a filter, no file is pruned.
    check(json!({"type": "not-nan", "term": "f"}), &["0", "1", "2", "3", "null"]).await;
    check(one("lt", "n", json!(3_000_000_000_i64)), &["0", "1", "2", "3", "null"]).await;
    let both =
        |name: &str, left: Value, right: Value| json!({"type": name, "left": left, "right": right});
    check(both("and", one("gt", "k", json!(0)), one("lt", "n", json!(20))), &["1"]).await;
    check(both("or", one("eq", "k", json!(0)), one("gt", "n", json!(29))), &["0", "3"]).await;
    let few = both("or", one("lt", "k", json!(2)), json!({"type": "is-null", "term": "k"}));
    let not = json!({"type": "not", "child": few});
    check(not, &["2", "3"]).await;
    let folded =
        json!({"filter": one("eq", "K", json!(1)), "case-sensitive": false, "select": ["N"]});
    assert_eq!(partitions(&planned(&server, "t", folded).await).len(), 1);
    let few = planned(&server, "t", json!({"min-rows-requested": 3})).await;
    assert_eq!(tasks(&few).len(), 2);
}

async fn deletes() {
    let server = server().await;
    for (name, version) in [("two", 2), ("three", 3)] {
        let sqls = [
            format!(
                "CREATE TABLE {name} (id INT, p INT) PARTITIONED BY (p) TBLPROPERTIES \
                 ('format-version' = '{version}', 'write.delete.mode' = 'merge-on-read')"
            ),
            format!("INSERT INTO {name} SELECT value, value % 2 FROM generate_series(1, 10)"),
            format!("DELETE FROM {name} WHERE id = 4"),
        ];
        for text in sqls {
            sql(&server, &text).await;
        }
        let answer = planned(&server, name, json!({})).await;
        let [delete] = &answer["delete-files"].as_array().expect("delete files")[..] else {
            panic!("{answer}")
        };
        assert_eq!(
            (&delete["content"], &delete["record-count"]),
            (&json!("position-deletes"), &json!(1))
        );
        let named =
            tasks(&answer).iter().filter(|task| task.get("delete-file-references").is_some());
        let named: Vec<&Value> = named.collect();
        assert_eq!(named.len(), 1);
        assert_eq!(named[0]["delete-file-references"], json!([0]));
        assert_eq!(named[0]["data-file"]["partition"], json!([0]));
        assert_eq!(delete["partition"], json!([0]));
        if version == 3 {
            assert_eq!(delete["file-format"], "puffin");
            assert_eq!(delete["referenced-data-file"], named[0]["data-file"]["file-path"]);
            assert!(delete["content-offset"].is_u64() && delete["content-size-in-bytes"].is_u64());
            assert!(named[0]["data-file"]["first-row-id"].is_u64());
        } else {
            assert_eq!(delete["file-format"], "parquet");
        }
        // Delete files that apply to no planned file are omitted.
        let odd = json!({"filter": {"type": "eq", "term": "p", "value": 1}});
        assert_eq!(planned(&server, name, odd).await["delete-files"], json!([]));
        // Rows that may be deleted do not count towards the requested minimum number of rows.
        let few = planned(&server, name, json!({"min-rows-requested": 5})).await;
        assert!(!tasks(&few).is_empty());
    }
}

async fn specs() {
    let server = server().await;
    sql(&server, "CREATE TABLE t (id INT, at TIMESTAMP, name VARCHAR)").await;
    sql(&server, "INSERT INTO t VALUES (1, TIMESTAMP '2024-01-05 00:00:00', 'abc')").await;
    sql(&server, "ALTER TABLE t ADD PARTITION FIELD day(at)").await;
    sql(
        &server,
        "INSERT INTO t VALUES (2, TIMESTAMP '2024-01-05 00:00:00', 'abd'), \
         (3, TIMESTAMP '2024-03-01 12:00:00', 'x')",
    )
    .await;
    sql(&server, "ALTER TABLE t REPLACE PARTITION FIELD day(at) WITH truncate(2, name)").await;
    sql(&server, "INSERT INTO t VALUES (4, TIMESTAMP '2024-01-05 00:00:00', 'abe')").await;
    let all = planned(&server, "t", json!({})).await;
    let mut seen: Vec<(i64, Value)> = tasks(&all)
        .iter()
        .map(|task| &task["data-file"])
        .map(|file| (file["spec-id"].as_i64().expect("an id"), file["partition"].clone()))
        .collect();
    seen.sort_by_key(|(spec, values)| (*spec, values.to_string()));
    let expected = [
        (0, json!([])),
        (1, json!(["2024-01-05"])),
        (1, json!(["2024-03-01"])),
        (2, json!(["ab"])),
    ];
    assert_eq!(seen, expected);
    // Each residual filter is derived from the partition spec of its file.
    let february = json!({"type": "lt", "term": "at", "value": "2024-02-01T00:00:00"});
    let text = json!({"type": "starts-with", "term": "name", "value": "ab"});
    let both = json!({"filter": {"type": "and", "left": february, "right": text}});
    let answer = planned(&server, "t", both.clone()).await;
    let left: BTreeSet<(i64, String)> = tasks(&answer)
        .iter()
        .map(|task| {
            (
                task["data-file"]["spec-id"].as_i64().expect("an id"),
                task["residual-filter"].to_string(),
            )
        })
        .collect();
    let expected = BTreeSet::from([
        (0, both["filter"].to_string()),
        (1, text.to_string()),
        (2, both["filter"].to_string()),
    ]);
    assert_eq!(left, expected);
    let day = json!({"type": "transform", "transform": "day", "term": "at"});
    let day = json!({"filter": {"type": "eq", "term": day, "value": "2024-03-01"}});
    let answer = planned(&server, "t", day).await;
    let specs: Vec<&Value> =
        tasks(&answer).iter().map(|task| &task["data-file"]["spec-id"]).collect();
    assert_eq!(specs.len(), 3, "one day is left out by its own spec: {answer}");
}

async fn appended() {
    let server = server().await;
    sql(&server, "CREATE TABLE t (id INT) TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
        .await;
    let mut snapshots = Vec::new();
    for text in [
        "INSERT INTO t VALUES (1), (2)",
        "INSERT INTO t VALUES (3)",
        "DELETE FROM t WHERE id = 1",
        "INSERT INTO t VALUES (4), (5), (6)",
    ] {
        sql(&server, text).await;
        snapshots.push(snapshot(&server, "t").await);
    }
    let rows = async |asked: Value| {
        let answer = planned(&server, "t", asked).await;
        assert_eq!(answer["delete-files"], json!([]));
        let mut rows: Vec<u64> = Vec::new();
        for task in tasks(&answer) {
            rows.push(task["data-file"]["record-count"].as_u64().expect("rows"));
        }
        rows
    };
    let range = |start: i64, end: i64| json!({"start-snapshot-id": start, "end-snapshot-id": end});
    assert_eq!(rows(range(snapshots[0], snapshots[3])).await, [1, 3]);
    assert_eq!(rows(range(snapshots[1], snapshots[2])).await, [0_u64; 0]);
    assert_eq!(rows(range(snapshots[3], snapshots[3])).await, [0_u64; 0]);
    assert_eq!(rows(json!({"end-snapshot-id": snapshots[1]})).await, [2, 1]);
    let path = format!("{}/plan", table("t"));
    for (asked, expected) in [
        (range(snapshots[3], snapshots[0]), "is not an ancestor of"),
        (range(7, snapshots[0]), "is not an ancestor of"),
        (range(snapshots[0], 7), "snapshot"),
        (json!({"start-snapshot-id": snapshots[0]}), "end-snapshot-id"),
        (json!({"snapshot-id": snapshots[0], "end-snapshot-id": snapshots[1]}), "a range"),
        (json!({"snapshot-id": 7}), "snapshot"),
    ] {
        let (status, answer) = server.ask(Method::POST, &path, Some(&asked)).await;
        let message = answer["error"]["message"].as_str().expect("a message");
        assert_eq!((status, message.contains(expected)), (400, true), "{asked}: {message}");
    }
}

async fn columns() {
    let server = server().await;
    sql(&server, "CREATE TABLE t (id INT, old VARCHAR)").await;
    sql(&server, "INSERT INTO t VALUES (1, 'a')").await;
    let first = snapshot(&server, "t").await;
    sql(&server, "ALTER TABLE t RENAME COLUMN old TO new").await;
    sql(&server, "ALTER TABLE t ALTER COLUMN id TYPE BIGINT").await;
    sql(&server, "INSERT INTO t VALUES (3000000000, 'b')").await;
    let is = |name: &str| json!({"type": "eq", "term": name, "value": "a"});
    let then = json!({"snapshot-id": first, "filter": is("old"), "use-snapshot-schema": true});
    assert_eq!(tasks(&planned(&server, "t", then).await).len(), 1);
    let now = json!({"snapshot-id": first, "filter": is("new"), "select": ["new"]});
    assert_eq!(tasks(&planned(&server, "t", now).await).len(), 1);
    let path = format!("{}/plan", table("t"));
    let wrong = json!({"snapshot-id": first, "filter": is("old")});
    assert_eq!(server.ask(Method::POST, &path, Some(&wrong)).await.0, 400);
    // Bounds written before the column's type was promoted remain valid.
    let large = json!({"filter": {"type": "gt", "term": "id", "value": 5}});
    assert_eq!(tasks(&planned(&server, "t", large).await).len(), 1);
    let small = json!({"filter": {"type": "lt", "term": "id", "value": 5}});
    assert_eq!(tasks(&planned(&server, "t", small).await).len(), 1);
    // Partition values written before the column's type was promoted also remain valid.
    sql(&server, "CREATE TABLE p (id INT) PARTITIONED BY (id)").await;
    sql(&server, "INSERT INTO p VALUES (1), (2)").await;
    let fields = json!([{"id": 1, "name": "id", "type": "long", "required": false}]);
    let schema = json!({"type": "struct", "schema-id": 1, "fields": fields});
    let widened = json!({"requirements": [], "updates": [
        {"action": "add-schema", "schema": schema},
        {"action": "set-current-schema", "schema-id": -1}
    ]});
    let (status, answer) = server.ask(Method::POST, &table("p"), Some(&widened)).await;
    assert_eq!(status, 200, "{answer}");
    let read = json!({"sql": "SELECT id FROM p WHERE id = 1", "ref": "dev"});
    assert_eq!(server.post("/v1/query", read).await, json!([{"id": 1}]));
    let one = json!({"filter": {"type": "eq", "term": "id", "value": 1}});
    let answer = planned(&server, "p", one).await;
    assert_eq!(partitions(&answer), BTreeSet::from(["1".to_owned()]));
    assert_eq!(tasks(&answer)[0]["residual-filter"], true);
}

async fn pages() {
    let server = server().await;
    sql(&server, "CREATE TABLE t (id INT) PARTITIONED BY (id)").await;
    sql(&server, "INSERT INTO t SELECT value FROM generate_series(1, 1200)").await;
    let answer =
        planned(&server, "t", json!({"filter": {"type": "gt", "term": "id", "value": 50}})).await;
    let further = answer["plan-tasks"].as_array().expect("plan tasks");
    assert_eq!((tasks(&answer).len(), further.len()), (1_000, 1));
    let mut found = partitions(&answer);
    // A page ends when its files have the requested number of rows.
    for (wanted, expected) in [(1, 1), (1_000, 1_000), (5_000, 1_150)] {
        let filter = json!({"type": "gt", "term": "id", "value": 50});
        let asked = json!({"filter": filter, "min-rows-requested": wanted});
        let some = planned(&server, "t", asked).await;
        let pages = some["plan-tasks"].as_array().map_or(0, Vec::len);
        assert_eq!(
            (tasks(&some).len(), pages),
            (expected.min(1_000), expected / 1_001),
            "{wanted}"
        );
    }
    for task in further {
        let path = format!("{}/tasks", table("t"));
        let (status, page) =
            server.ask(Method::POST, &path, Some(&json!({"plan-task": task}))).await;
        assert_eq!(status, 200, "{page}");
        assert!(tasks(&page).iter().all(|task| task["residual-filter"] == true));
        found.extend(partitions(&page));
    }
    assert_eq!(found.len(), 1_150);
    // Rows that are inserted later do not change the plan.
    sql(&server, "INSERT INTO t VALUES (5000)").await;
    let id = answer["plan-id"].as_str().expect("an id");
    let again = server.get(&format!("{}/plan/{id}", table("t"))).await;
    assert_eq!(again, answer);
    // A long filter is repeated for each file. It increases the number of pages, not their length.
    let many: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    sql(&server, "ALTER TABLE t ADD COLUMN name VARCHAR").await;
    let long = planned(
        &server,
        "t",
        json!({"filter": {"type": "not-in", "term": "name", "values": many}}),
    )
    .await;
    assert!(long.to_string().len() < 8 << 20);
    assert!(tasks(&long).len() < 100);
}

async fn plans() {
    let server = server().await;
    for name in ["t", "other"] {
        sql(&server, &format!("CREATE TABLE {name} AS SELECT 1 AS id")).await;
    }
    let answer = planned(&server, "t", json!({})).await;
    let id = answer["plan-id"].as_str().expect("an id").to_owned();
    let plan = |name: &str, id: &str| format!("{}/plan/{id}", table(name));
    let kind = async |method: Method, path: String, sent: Option<Value>| {
        let (status, answer) = server.ask(method, &path, sent.as_ref()).await;
        (status, answer["error"]["type"].as_str().unwrap_or_default().to_owned())
    };
    let lost = || (404, "NoSuchPlanIdException".to_owned());
    assert_eq!(server.ask(Method::GET, &plan("t", &id), None).await.1, answer);
    assert_eq!(kind(Method::GET, plan("other", &id), None).await, lost());
    assert_eq!(
        kind(Method::GET, plan("t", &id).replace("/dev/", "/main/"), None).await.1,
        "NoSuchTableException"
    );
    for name in
        ["", ".0", "x", "x.y", "0.0", &format!("{id}.1"), &format!("{id}.-1"), &format!("{id}.0.0")]
    {
        let sent = Some(json!({"plan-task": name}));
        let answer = kind(Method::POST, format!("{}/tasks", table("t")), sent).await;
        assert_eq!(answer, (404, "NoSuchPlanTaskException".to_owned()), "{name}");
    }
    assert_eq!(kind(Method::DELETE, plan("t", &id), None).await.0, 204);
    assert_eq!(kind(Method::DELETE, plan("t", &id), None).await, lost());
    assert_eq!(kind(Method::GET, plan("t", &id), None).await, lost());
    // A later table with the same name is a different table.
    let answer = planned(&server, "t", json!({})).await;
    let id = answer["plan-id"].as_str().expect("an id").to_owned();
    sql(&server, "DROP TABLE t").await;
    sql(&server, "CREATE TABLE t AS SELECT 2 AS id").await;
    assert_eq!(kind(Method::GET, plan("t", &id), None).await, lost());
    let sent = Some(json!({"plan-task": format!("{id}.0")}));
    let answer = kind(Method::POST, format!("{}/tasks", table("t")), sent).await;
    assert_eq!(answer, (404, "NoSuchPlanTaskException".to_owned()));
}

async fn refused() {
    let server = server().await;
    sql(&server, "CREATE TABLE t (id INT, name VARCHAR)").await;
    sql(&server, "INSERT INTO t VALUES (1, 'a')").await;
    sql(&server, "CREATE VIEW seen AS SELECT * FROM t").await;
    let kind = async |name: &str, asked: Value| {
        let path = format!("{}/plan", table(name));
        let (status, answer) = server.ask(Method::POST, &path, Some(&asked)).await;
        (status, answer["error"]["type"].as_str().unwrap_or_default().to_owned())
    };
    let bad = (400, "BadRequestException".to_owned());
    for asked in [
        json!([]),
        json!({"snapshot-id": "1"}),
        json!({"snapshot-id": 1.5}),
        json!({"filter": "id = 1"}),
        json!({"filter": []}),
        json!({"filter": {"type": "eq", "term": "id", "value": "one"}}),
        json!({"filter": {"type": "eq", "term": "missing", "value": 1}}),
        json!({"filter": {"type": "in", "term": "id", "values": vec![0; 300_000]}}),
        json!({"select": ["missing"]}),
        json!({"select": ["ID"]}),
        json!({"stats-fields": ["missing"]}),
        json!({"stats-fields": vec!["id"; 20_000]}),
        json!({"min-rows-requested": -1}),
    ] {
        assert_eq!(
            kind("t", asked.clone()).await,
            bad,
            "{}",
            &asked.to_string()[..40.min(asked.to_string().len())]
        );
    }
    for name in ["missing", "seen", "none.such"] {
        assert_eq!(kind(name, json!({})).await, (404, "NoSuchTableException".to_owned()));
    }
    // The largest allowed set is accepted.
    let many: Vec<i32> = (0..150_000).collect();
    let asked = json!({"filter": {"type": "in", "term": "id", "values": many}});
    assert_eq!(kind("t", asked).await.0, 200);
    // These filters have too many levels or are too long.
    let send = async |text: String| {
        let sent = Request::post(format!("{}/plan", table("t")))
            .header("host", "localhost")
            .header("authorization", bearer(&server.running))
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(text.into()));
        server.send(sent.expect("a request")).await.status().as_u16()
    };
    let deep = |levels: usize| {
        let open = "{\"type\":\"not\",\"child\":".repeat(levels);
        format!("{{\"filter\":{open}true{}}}", "}".repeat(levels))
    };
    assert_eq!(send(deep(100)).await, 200);
    assert_eq!(send(deep(100_000)).await, 400);
    assert_eq!(send(format!("{{\"filter\":\"{}\"}}", "x".repeat(5 << 20))).await, 400);
}
