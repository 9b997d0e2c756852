//! `headwater.lake` in functions: objects, statements, and changes that are committed once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::bucket_triggers::{object, write};
use crate::life_cycle::Killable;
use crate::s3_clients::started;
use crate::support::{self, PATIENCE, TestServer, deployment};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("function_lake::a_function_reads_writes_queries_and_appends", works),
        trial("function_lake::a_call_that_fails_appends_nothing", fails),
        trial("function_lake::an_append_rejects_rows_of_other_types", unsuitable),
        trial("function_lake::an_append_of_no_rows_creates_no_table", nothing),
        trial("function_lake::an_event_that_is_retried_appends_once", retries),
        trial("function_lake::a_call_sees_its_own_writes_and_commits_them_at_once", own_writes),
        trial("function_lake::a_call_fails_if_another_commit_changed_the_same_row", conflicts),
        trial("function_lake::a_kill_before_the_merge_changes_tables_once", killed),
        trial("function_lake::a_function_has_the_rights_of_its_caller", rights),
        trial("function_lake::a_function_changes_only_what_its_deployer_may_change", deployer),
        trial("function_lake::a_function_reads_the_rows_that_its_caller_sees", restricted),
    ]
}

const FUNCTIONS: &str = r#"
import time

import headwater
from headwater import lake
from headwater.errors import HeadwaterError


@headwater.function()
def work():
    etag = lake.put_object("landing", "a b.txt", "hello")
    first = lake.append("shop.things", [{"id": 1, "name": "tea"}, {"id": 2, "name": None}])
    second = lake.append("shop.things", [{"id": 3, "price": 1.5}])
    lake.append("others", lake.query("SELECT 7 AS id"))
    known = lake.query("SELECT id FROM known ORDER BY id").to_pylist()
    text = lake.read_object("landing", "a b.txt").decode()
    return {"etag": etag, "rows": [first, second], "known": known, "text": text}


@headwater.function()
def fails():
    lake.append("shop.things", [{"id": 1}])
    raise ValueError("not today")


@headwater.function()
def retried(event):
    lake.append("retried", [{"id": 1}])
    try:
        lake.read_object("landing", "tried")
    except HeadwaterError as error:
        lake.put_object("landing", "tried", error.code)
        raise


@headwater.function()
def known():
    return lake.query("SELECT id, note FROM known ORDER BY id").to_pylist()


def code_of(call):
    try:
        call()
    except HeadwaterError as error:
        return error.code


@headwater.function()
def codes():
    return [
        code_of(lambda: lake.read_object("landing", "in/a.csv")),
        code_of(lambda: lake.read_object("landing", "absent")),
        code_of(lambda: lake.read_object("absent", "a")),
        code_of(lambda: lake.put_object("landing", "out/a.csv", b"x")),
        code_of(lambda: lake.query("SELECT id FROM known")),
        code_of(lambda: lake.query("GRANT SELECT ON known TO ana")),
        code_of(lambda: lake.append("known", [{"id": 1}])),
        code_of(lambda: lake.append("", [{"id": 1}])),
        code_of(lambda: lake.query("DELETE FROM known WHERE id < 0")),
    ]


@headwater.function()
def writes():
    lake.append("shop.things", [{"id": 1, "name": "tea"}, {"id": 2, "name": "milk"}])
    lake.query("UPDATE shop.things SET id = id + 10 WHERE name = 'milk'")
    lake.query("CREATE TABLE shop.totals AS SELECT count(*) AS total FROM shop.things")
    lake.append("shop.totals", [{"total": 5}])
    things = lake.table("shop.things", columns=["id"], filter="name = 'milk' -- or tea")
    totals = lake.table("shop.totals").to_arrow()["total"].to_pylist()
    return {"things": things.to_arrow().to_pylist(), "totals": sorted(totals)}


@headwater.function()
def writes_and_fails():
    lake.append("shop.things", [{"id": 1}])
    lake.query("DELETE FROM known")
    raise ValueError("not today")


@headwater.function()
def unsuitable():
    messages = []
    for rows in (
        [{"id": "x"}],
        [{"id": 1}, {"id": "x"}],
        [{"id": 2**70}],
        [{"id": 1.0}, {"id": 2.5}],
        iter([[{"id": 7}], []]),
        None,
        [{}, {}],
    ):
        try:
            lake.append("known", rows)
        except HeadwaterError as error:
            messages.append(error.message)
    lake.append("known", [{"id": 6}])
    return messages


@headwater.function()
def appends_nothing():
    counts = [lake.append(table, rows) for table in ("known", "absent") for rows in ([], iter([]))]
    return [*counts, code_of(lambda: lake.append("", []))]


@headwater.function(memory="64MiB")
def mark(key):
    lake.put_object("landing", key, "x")


@headwater.function(memory="64MiB")
def is_marked(key):
    return code_of(lambda: lake.read_object("landing", key)) is None


@headwater.function(memory="64MiB")
def counts():
    count = lake.query("SELECT id FROM known").to_pylist()[0]["id"]
    lake.put_object("landing", "started", "x")
    while code_of(lambda: lake.read_object("landing", "go")):
        time.sleep(0.01)
    lake.query(f"UPDATE known SET id = {count + 1}")
    return count
"#;

async fn deployed() -> TestServer {
    let server = started().await;
    object(&server, "landing", "in/a.csv", "id\n1\n").await;
    for sql in ["CREATE SCHEMA shop", "CREATE TABLE known AS SELECT 5 AS id"] {
        let answer = server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"calls\"\n");
    write(server.folder.path(), "functions/calls.py", FUNCTIONS);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    server
}

async fn invoke(server: &TestServer, name: &str) -> Value {
    server.post(&format!("/v1/functions/{name}/invoke"), json!({})).await
}

async fn works() {
    let server = deployed().await;
    let answer = invoke(&server, "work").await;
    let etag = "5d41402abc4b2a76b9719d911017c592";
    let expected = json!({"etag": etag, "rows": [2, 1], "known": [{"id": 5}], "text": "hello"});
    assert_eq!(answer, expected);
    let rows = server.rows("SELECT id, name, price FROM shop.things ORDER BY id").await;
    let expected = json!([
        {"id": 1, "name": "tea", "price": null},
        {"id": 2, "name": null, "price": null},
        {"id": 3, "name": null, "price": 1.5},
    ]);
    assert_eq!(rows, expected);
    assert_eq!(server.rows("SELECT id FROM others").await, json!([{"id": 7}]));
    // One commit contains both tables and the job's id.
    let commits = server.get("/v1/refs/main/commits?limit=1").await;
    assert!(commits[0]["message"].as_str().is_some_and(|it| it.contains("others")), "{commits}");
    let job = commits[0]["properties"]["headwater.job"].as_str().expect("a job").to_owned();
    let job = server.get(&format!("/v1/jobs/{job}")).await;
    assert_eq!((&job["kind"], &job["usage"]["rows_written"]), (&json!("function"), &json!(4)));
    // In a second call, the tables already exist.
    invoke(&server, "work").await;
    let count = server.rows("SELECT count(*) AS n FROM shop.things").await;
    assert_eq!(count, json!([{"n": 6}]));
    server.running.shutdown().await;
}

async fn fails() {
    let server = deployed().await;
    let answer = invoke(&server, "fails").await;
    assert_eq!(answer["code"], "function_failed", "{answer}");
    let rows = server.rows("SELECT * FROM shop.things").await;
    assert_eq!(rows["code"], "table_not_found", "{rows}");
    let answer = invoke(&server, "writes_and_fails").await;
    assert_eq!(answer["code"], "function_failed", "{answer}");
    let rows = server.rows("SELECT * FROM shop.things").await;
    assert_eq!(rows["code"], "table_not_found", "{rows}");
    assert_eq!(server.rows("SELECT id FROM known").await, json!([{"id": 5}]));
    let owner = json!([
        null,
        "object_not_found",
        "bucket_not_found",
        null,
        null,
        "unsupported_statement",
        null,
        "invalid_name",
        null
    ]);
    let answer = invoke(&server, "codes").await;
    assert_eq!(answer, owner);
    server.running.shutdown().await;
}

async fn unsuitable() {
    let server = deployed().await;
    let expected = json!([
        "cannot append to `known`: column `id` has type `string`, but the table has type `long`",
        "cannot append to `known`: column `id` has `1` (int) in row 1, and `'x'` (str) in row 2",
        "cannot append to `known`: column `id` has `1180591620717411303424` (int) in row 1, \
         which does not fit in 64 bits",
        "cannot append to `known`: column `id` has the value `2.5` of type `double`, \
         which does not fit the table's type `long`",
        "cannot append to `known`: `list` is not a table: an empty list has no columns",
        "cannot append to `known`: `None` is not a table",
        "cannot append to `known`: `list` is not a table: its dicts have no keys",
    ]);
    assert_eq!(invoke(&server, "unsuitable").await, expected);
    // The rejected rows do not prevent the commit of other rows.
    let rows = server.rows("SELECT id FROM known ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 5}, {"id": 6}]));
    server.running.shutdown().await;
}

async fn nothing() {
    let server = deployed().await;
    let answer = invoke(&server, "appends_nothing").await;
    assert_eq!(answer, json!([0, 0, 0, 0, "invalid_name"]));
    let rows = server.rows("SELECT * FROM absent").await;
    assert_eq!(rows["code"], "table_not_found", "{rows}");
    assert_eq!(server.rows("SELECT id FROM known").await, json!([{"id": 5}]));
    server.running.shutdown().await;
}

async fn retries() {
    let server = deployed().await;
    let body = json!({"arguments": {"event": {}}});
    let accepted = server.post("/v1/functions/retried/invoke-async", body).await;
    let event = format!("/v1/trigger-events/{}", accepted["event"].as_str().expect("an event"));
    let event = server.until(&event, |event| event["status"] == "done").await;
    assert_eq!(event["attempts"], 2, "{event}");
    assert_eq!(server.rows("SELECT id FROM retried").await, json!([{"id": 1}]));
    let commits = server.get("/v1/refs/main/commits?limit=1").await;
    let part = format!("{}/function", accepted["event"].as_str().expect("an event"));
    assert_eq!(commits[0]["properties"]["headwater.event"], part, "{commits}");
    server.running.shutdown().await;
}

async fn own_writes() {
    let server = deployed().await;
    let answer = invoke(&server, "writes").await;
    assert_eq!(answer, json!({"things": [{"id": 12}], "totals": [2, 5]}));
    let rows = server.rows("SELECT id FROM shop.things ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 1}, {"id": 12}]));
    let commits = server.get("/v1/refs/main/commits?limit=1").await;
    let expected = "append to shop.things; UPDATE; CREATE TABLE; append to shop.totals";
    assert_eq!(commits[0]["message"], expected, "{commits}");
    assert!(commits[0]["properties"]["headwater.job"].is_string(), "{commits}");
    server.running.shutdown().await;
}

async fn conflicts() {
    let server = deployed().await;
    let marked = async |name: &str, key: &str| {
        let body = json!({"arguments": {"key": key}});
        server.post(&format!("/v1/functions/{name}/invoke"), body).await
    };
    let other = async {
        let deadline = Instant::now() + PATIENCE;
        while marked("is_marked", "started").await != json!(true) {
            assert!(Instant::now() < deadline, "the function does not start");
        }
        server.rows("UPDATE known SET id = 50").await;
        marked("mark", "go").await;
    };
    let (answer, ()) = tokio::join!(invoke(&server, "counts"), other);
    assert_eq!(answer["code"], "merge_conflict", "{answer}");
    assert_eq!(answer["context"]["retryable"], true, "{answer}");
    assert_eq!(server.rows("SELECT id FROM known").await, json!([{"id": 50}]));
    // The next call reads the change of the other commit.
    assert_eq!(invoke(&server, "counts").await, 50);
    assert_eq!(server.rows("SELECT id FROM known").await, json!([{"id": 51}]));
    server.running.shutdown().await;
}

const BOOKED: &str = r#"
import headwater
from headwater import lake


@headwater.function(outputs=["HOOK"])
def book(event):
    lake.append("bookings", [{"id": 1}])
    lake.query("UPDATE bookings SET id = id + 1")
    lake.query("CREATE TABLE booked AS SELECT id FROM bookings")
    return {"id": 1}
"#;

/// Reads a request and its body, without a response.
fn read_request(stream: &TcpStream) {
    let (mut reader, mut length, mut line) = (BufReader::new(stream), 0, String::new());
    while reader.read_line(&mut line).expect("a line") > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).expect("a body");
}

/// Kills the server while it waits for the response to an output: after the function has succeeded,
/// and before its changes are merged.
async fn killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hook = format!("http://{}/hook", listener.local_addr().expect("an address"));
    write(folder.path(), "headwater.toml", "[project]\nname = \"booked\"\n");
    write(folder.path(), "functions/book.py", &BOOKED.replace("HOOK", &hook));
    let mut child = Killable::start(folder.path()).await;
    let version = deployment(folder.path());
    let deployed = child.ask(Method::POST, "/v1/deployments", Some(&version)).await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let body = json!({"arguments": {"event": {}}});
    let accepted = child.ask(Method::POST, "/v1/functions/book/invoke-async", Some(&body)).await;
    let event = accepted["event"].as_str().expect("an event").to_owned();
    let waiting = tokio::task::spawn_blocking(move || {
        let (stream, _) = listener.accept().expect("a request");
        read_request(&stream);
        (listener, stream)
    });
    let (listener, stream) = waiting.await.expect("a request");
    child.kill();
    drop(stream);

    let answering = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        read_request(&stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("sent");
    });
    let mut config = support::config(folder.path());
    config.lock_wait = PATIENCE;
    let server = TestServer { running: support::start(config).await, folder };
    let path = format!("/v1/trigger-events/{event}");
    server.until(&path, |event| event["status"] == "done").await;
    answering.await.expect("an answer");
    let rows = server.rows("SELECT b.id AS id FROM bookings b JOIN booked c ON b.id = c.id").await;
    assert_eq!(rows, json!([{"id": 2}]));
    server.running.shutdown().await;
}

async fn rights() {
    let server = deployed().await;
    let access = server.running.access().expect("the owner's");
    let users = Users { server, access };
    let ana = users.user("ana", &["invoke on function:*", "read on branch:*"]).await;
    let codes = async || {
        let path = "/v1/functions/codes/invoke";
        users.send(&ana, Method::POST, path, Some(json!({}))).await.1
    };
    let answer = codes().await;
    let denied = answer.as_array().expect("codes");
    for (index, code) in denied.iter().enumerate() {
        let is_rejected = index == 5 || index == 7;
        assert!(code == "forbidden" || is_rejected, "{index}: {answer}");
    }
    let grants = [
        "read on bucket:landing/in",
        "write on bucket:landing/out",
        "select,insert on table:public.known",
        "write on branch:main",
    ];
    users.grant("ana", &grants).await;
    let answer = codes().await;
    assert_eq!([&answer[0], &answer[3], &answer[4], &answer[6]], [&Value::Null; 4], "{answer}");
    assert_eq!(answer[1], "forbidden", "another key");
    assert_eq!(answer[8], "forbidden", "no right to delete");
    users.grant("ana", &["delete on table:public.known"]).await;
    assert_eq!(codes().await[8], Value::Null);
    // On a protected branch, a function has the same error as a statement of its caller.
    let protected = json!({"protected": true});
    users.server.ask(Method::PATCH, "/v1/branches/main", Some(&protected)).await;
    assert_eq!(codes().await["code"], "branch_protected");
    users.server.running.shutdown().await;
}

const WIPE: &str = r#"
import headwater
from headwater import lake
from headwater.errors import HeadwaterError


@headwater.function()
def wipe():
    count = lake.query("SELECT id FROM shop.items").num_rows
    try:
        lake.query("DELETE FROM shop.items")
        lake.append("shop.items", [{"id": 2}, {"id": 3}])
    except HeadwaterError as error:
        return [count, str(error)]
    return [count, lake.query("SELECT id FROM shop.items").num_rows]
"#;

async fn deployer() {
    // The users have a table `shop.items` with one row.
    let users = Users::on(started().await).await;
    let server = &users.server;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"wipe\"\n");
    write(server.folder.path(), "functions/wipe.py", WIPE);
    let grants = ["deploy on project:wipe", "write on branch:main", "insert on table:shop.items"];
    let dev = users.user("dev", &grants).await;
    let files = deployment(server.folder.path());
    let (_, deployed) = users.send(&dev, Method::POST, "/v1/deployments", Some(files)).await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    // The caller has all rights.
    let denied = invoke(server, "wipe").await;
    assert_eq!(denied[0], 1, "{denied}");
    let message = denied[1].as_str().unwrap_or_default();
    assert!(message.contains("user `dev` may not delete"), "{denied}");
    assert_eq!(server.rows("SELECT id FROM shop.items").await, json!([{"id": 1}]));
    users.grant("dev", &["delete on table:shop.items"]).await;
    assert_eq!(invoke(server, "wipe").await, json!([1, 2]));
    // A row filter of the deployer also applies to a renamed table.
    for sql in [
        "ALTER TABLE shop.items RENAME TO shop.old",
        "CREATE TABLE shop.stock AS SELECT 7 AS id",
        "CREATE ROW FILTER few ON shop.stock USING (id < 5) TO dev",
        "ALTER TABLE shop.stock RENAME TO shop.items",
    ] {
        let answer = server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    let denied = invoke(server, "wipe").await;
    let message = denied[1].as_str().unwrap_or_default();
    assert!(message.contains("user `dev` may not delete") && message.contains("`few`"), "{denied}");
    users.server.running.shutdown().await;
}

async fn restricted() {
    let server = deployed().await;
    for sql in
        ["ALTER TABLE known ADD COLUMN note VARCHAR", "INSERT INTO known VALUES (6, 'secret')"]
    {
        let answer = server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    let access = server.running.access().expect("the owner's");
    let users = Users { server, access };
    let grants = ["invoke on function:*", "read on branch:*", "select on table:*"];
    let ana = users.user("ana", &grants).await;
    for sql in [
        "CREATE ROW FILTER large ON known USING (id > 5)",
        "CREATE COLUMN MASK notes ON known (note) USING ('hidden')",
    ] {
        let answer = users.server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    let visible = json!([{"id": 6, "note": "hidden"}]);
    let invoke = async |path: &str| {
        let path = format!("/v1/functions/known/{path}");
        users.send(&ana, Method::POST, &path, Some(json!({}))).await.1
    };
    assert_eq!(invoke("invoke").await, visible);
    // An asynchronous call is executed later, with the same rights.
    let accepted = invoke("invoke-async").await;
    let event = format!("/v1/trigger-events/{}", accepted["event"].as_str().expect("an event"));
    let event = users.server.until(&event, |event| event["status"] == "done").await;
    let job = format!("/v1/jobs/{}", event["job"].as_str().expect("a job"));
    let job = users.server.get(&job).await;
    assert_eq!(job["result"]["function"], visible, "{job}");
    users.server.running.shutdown().await;
}
