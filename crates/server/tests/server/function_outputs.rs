//! Declared outputs of functions: tables, objects and HTTP servers, even if an attempt is repeated.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use headwater_model::Principal;
use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::{Users, permission};
use crate::bucket_triggers::{object, write};
use crate::s3_clients::started;
use crate::servers::{PASSWORD, PostgresProcess};
use crate::support::{TestServer, deployment, request as http};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("function_outputs::a_result_is_written_to_a_table_and_to_objects", works),
        trial("function_outputs::a_repeated_attempt_writes_rows_and_objects_once", repeats),
        trial("function_outputs::an_output_has_the_rights_of_the_deployer", rights),
        trial("function_outputs::rows_are_in_postgresql_once", postgres),
        trial("function_outputs::invalid_outputs_are_errors_of_the_deployment", invalid),
    ]
}

const FUNCTIONS: &str = r#"
import headwater
from headwater import lake


@headwater.function(outputs=["table://shop.orders", "bucket://landing/orders/{function}.csv"])
def orders(count):
    return [{"id": n, "price": n * 1.5, "day": "2026-03-01"} for n in range(count)]


@headwater.function(outputs=["table://things", "bucket://landing/things.parquet"])
def arrow():
    return lake.query("SELECT 1 AS id UNION ALL SELECT 2")


@headwater.function(outputs=["bucket://landing/report.html"])
def report():
    return "<h1>Orders</h1>"


@headwater.function(outputs=["table://shop.orders"])
def nothing():
    return None


@headwater.function(outputs=["table://shop.orders"])
def text():
    lake.append("kept", [{"id": 1}])
    return "no rows"


@headwater.function()
def read(key):
    return lake.read_object("landing", key).decode("utf-8", "replace")
"#;

async fn deploy(server: &TestServer, functions: &str) -> Value {
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"outputs\"\n");
    write(server.folder.path(), "functions/outputs.py", functions);
    server.deploy().await
}

/// Starts a server with the bucket `landing` and the schema `shop`.
async fn prepared() -> TestServer {
    let server = started().await;
    object(&server, "landing", "in/a.csv", "id\n1\n").await;
    let answer = server.rows("CREATE SCHEMA shop").await;
    assert!(answer.get("code").is_none(), "{answer}");
    server
}

async fn invoke(server: &TestServer, name: &str, arguments: Value) -> Value {
    let body = json!({"arguments": arguments});
    server.post(&format!("/v1/functions/{name}/invoke"), body).await
}

async fn works() {
    let server = prepared().await;
    let deployed = deploy(&server, FUNCTIONS).await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let answer = invoke(&server, "orders", json!({"count": 2})).await;
    assert_eq!(answer[1]["price"], 1.5, "the caller receives the result: {answer}");
    let read = async |key: &str| invoke(&server, "read", json!({"key": key})).await;
    let expected = "id,price,day\n0,0.0,2026-03-01\n1,1.5,2026-03-01\n";
    assert_eq!(read("orders/orders.csv").await, expected);
    let rows = server.rows("SELECT id, price FROM shop.orders ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 0, "price": 0.0}, {"id": 1, "price": 1.5}]));

    invoke(&server, "report", json!({})).await;
    assert_eq!(read("report.html").await, "<h1>Orders</h1>");
    invoke(&server, "arrow", json!({})).await;
    assert_eq!(server.rows("SELECT count(*) AS n FROM things").await, json!([{"n": 2}]));
    let parquet = read("things.parquet").await;
    assert!(parquet.as_str().is_some_and(|text| text.starts_with("PAR1")), "{parquet}");

    // Without a result, no rows are written. A result that is not rows fails the call.
    let answer = invoke(&server, "nothing", json!({})).await;
    assert_eq!(answer, Value::Null);
    let failed = invoke(&server, "text", json!({})).await;
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("output `table://shop.orders`: the rows are not"), "{failed}");
    assert_eq!(server.rows("SELECT * FROM kept").await["code"], "table_not_found");
    let count = server.rows("SELECT count(*) AS n FROM shop.orders").await;
    assert_eq!(count, json!([{"n": 2}]));
    server.running.shutdown().await;
}

/// Receives a request and responds to it. Returns the head of the request in lower case, and the
/// body.
fn answer(listener: &TcpListener, status: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().expect("a request");
    let (head, body) = request(&mut stream);
    let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(response.as_bytes()).expect("sent");
    (head, body)
}

fn request(stream: &mut TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (head, serde_json::from_slice(&body).expect("JSON"))
}

fn idempotency_key(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("idempotency-key: "))
}

async fn repeats() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hook = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let server = prepared().await;
    let functions = format!(
        "import headwater\n\n\n\
         @headwater.function(outputs=[\"table://shop.sent\", \
         \"bucket://landing/sent/{{event}}.json\", \"{hook}\"])\n\
         def sent(event):\n    return [{{\"id\": 7}}]\n\n\n\
         @headwater.function()\ndef read(key):\n    from headwater import lake\n\n    \
         return lake.read_object(\"landing\", key).decode()\n"
    );
    let deployed = deploy(&server, &functions).await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let requests = tokio::task::spawn_blocking(move || {
        // The first attempt fails after its rows are committed. The second attempt is rejected. A
        // third attempt follows, because the function may return another result.
        ["503 Busy", "400 No", "200 OK"].map(|status| answer(&listener, status))
    });
    let body = json!({"arguments": {"event": {}}});
    let accepted = server.post("/v1/functions/sent/invoke-async", body).await;
    let event = accepted["event"].as_str().expect("an event");
    let path = format!("/v1/trigger-events/{event}");
    let done = server.until(&path, |event| event["status"] == "done").await;
    assert_eq!(done["attempts"], 3, "{done}");

    let requests = requests.await.expect("requests");
    let keys: Vec<_> = requests.iter().map(|(head, _)| idempotency_key(head)).collect();
    assert!(keys[0].is_some_and(|key| key.starts_with(&format!("{event}/output/"))), "{keys:?}");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(requests.iter().all(|(_, body)| *body == json!([{"id": 7}])), "{requests:?}");
    assert_eq!(server.rows("SELECT id FROM shop.sent").await, json!([{"id": 7}]));
    let key = format!("sent/{event}.json");
    let text = invoke(&server, "read", json!({"key": key})).await;
    let text = text.as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), json!([{"id": 7}]));
    server.running.shutdown().await;
}

async fn postgres() {
    let started = tokio::task::spawn_blocking(PostgresProcess::start);
    let database = started.await.expect("PostgreSQL");
    database.sql(
        "CREATE TABLE added (id int, day date, tags text[]); \
         CREATE TABLE updated (id int PRIMARY KEY, n int); \
         CREATE TABLE strict (id int CHECK (id > 10))",
    );
    let server = TestServer::start().await;
    let secret = json!({"value": PASSWORD});
    let set = server.send(http(Method::PUT, "/v1/secrets/SHOP", Some(&secret))).await;
    assert!(set.status().is_success(), "{}", set.status());
    let address = |table: &str| format!("{}?table={table}#secret=SHOP", database.url());
    let functions = format!(
        "import headwater\n\n\n\
         @headwater.function(outputs=[\"{added}\", \"{updated}\"])\n\
         def both(n):\n    return [{{\"id\": 1, \"n\": n}}]\n\n\n\
         @headwater.function(outputs=[\"{added}\", \"{strict}\"])\n\
         def partial(event):\n    \
         return [{{\"id\": 7, \"day\": \"2026-03-01\", \"tags\": [\"a\"]}}]\n\n\n\
         @headwater.function(outputs=[\"{updated}\"])\n\
         def update(n):\n    return {{\"id\": 1, \"n\": n}}\n",
        added = address("added"),
        updated = address("updated&key=id"),
        strict = address("strict"),
    );
    let deployed = deploy(&server, &functions).await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    for n in [5, 6] {
        let answer = invoke(&server, "update", json!({"n": n})).await;
        assert_eq!(answer, json!({"id": 1, "n": n}));
    }
    assert_eq!(database.sql("SELECT id, n FROM updated"), "1|6");
    let failed = invoke(&server, "both", json!({"n": 1})).await;
    let message = failed["message"].as_str().unwrap_or_default();
    assert!(message.contains("column \"n\""), "{failed}");
    assert_eq!(database.sql("SELECT count(*) FROM added"), "0");

    // The second output fails until its constraint is dropped. The first output is written once.
    let body = json!({"arguments": {"event": {}}});
    let accepted = server.post("/v1/functions/partial/invoke-async", body).await;
    let path = format!("/v1/trigger-events/{}", accepted["event"].as_str().expect("an event"));
    server.until(&path, |event| event["attempts"].as_u64() > Some(0)).await;
    database.sql(
        "ALTER TABLE strict DROP CONSTRAINT strict_id_check; \
         ALTER TABLE strict ADD COLUMN day date, ADD COLUMN tags text[]",
    );
    server.until(&path, |event| event["status"] == "done").await;
    assert_eq!(database.sql("SELECT id, day, tags FROM added"), "7|2026-03-01|{a}");
    assert_eq!(database.sql("SELECT id, day, tags FROM strict"), "7|2026-03-01|{a}");
    assert_eq!(database.sql("SELECT count(*) FROM headwater_outputs"), "2");
    server.running.shutdown().await;
}

const APPEND: &str = "\
import headwater


@headwater.function(outputs=[\"table://shop.appended\"])
def append():
    return {\"id\": 1}
";

async fn rights() {
    // The users have a namespace `shop`.
    let users = Users::on(started().await).await;
    let server = &users.server;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"outputs\"\n");
    write(server.folder.path(), "functions/append.py", APPEND);
    let answer = server.rows("CREATE TABLE shop.appended (id BIGINT)").await;
    assert!(answer.get("code").is_none(), "{answer}");
    let dev = users.user("dev", &["deploy on project:outputs", "write on branch:main"]).await;
    let files = deployment(users.server.folder.path());
    let deploy =
        async || users.send(&dev, Method::POST, "/v1/deployments", Some(files.clone())).await.1;
    let denied = deploy().await;
    assert_eq!(denied["code"], "forbidden", "{denied}");
    let message = denied["message"].as_str().unwrap_or_default();
    assert!(message.contains("`outputs` of function `append`"), "{denied}");
    users.grant("dev", &["insert on table:shop.appended"]).await;
    let deployed = deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");

    // The caller has no right to the table.
    let ana = users.user("ana", &["invoke on function:append"]).await;
    let call = async || {
        let path = "/v1/functions/append/invoke";
        users.send(&ana, Method::POST, path, Some(json!({}))).await.1
    };
    assert_eq!(call().await, json!({"id": 1}));
    let granted = permission("insert on table:shop.appended");
    users.access.revoke(&Principal::owner(), "dev", granted).await.expect("revoked");
    let denied = call().await;
    assert_eq!(denied["code"], "forbidden", "{denied}");
    let message = denied["message"].as_str().unwrap_or_default();
    assert!(message.contains("user `dev` may not insert table `shop.appended`"), "{denied}");
    users.server.running.shutdown().await;
}

async fn invalid() {
    let server = started().await;
    for (outputs, expected) in [
        ("\"ftp://example.com\"", "the scheme `ftp` is unknown"),
        ("\"orders\"", "`orders` is not an address"),
        ("\"table://a\", \"table://a\"", "`table://a` is declared twice"),
        ("\"bucket://landing\"", "it has no key"),
        ("\"bucket://landing/{day}\"", "the unknown value `{day}`"),
        ("\"https://example.com#secret=NONE\"", "secret `NONE` does not exist"),
    ] {
        let function = format!(
            "import headwater\n\n\n@headwater.function(outputs=[{outputs}])\ndef f():\n    pass\n"
        );
        let answer = deploy(&server, &function).await;
        assert!(answer.to_string().contains(expected), "{outputs}: {answer}");
    }
    server.running.shutdown().await;
}
