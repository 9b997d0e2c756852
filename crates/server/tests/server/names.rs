//! Tests of unusual names of namespaces and tables through every layer: SQL, HTTP, Iceberg REST,
//! merge, diff, restart.

use headwater_model::name;
use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::{TestServer, config, request, start};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("names::unusual_names_work_in_every_layer", every_layer)]
}

/// Names that need quotes in SQL, and encoding in addresses and locations.
const NAMES: [&str; 12] = [
    "my-orders",
    "a b",
    "2024",
    "日本語",
    "it's",
    "50%",
    "%2e%2e",
    "a:b",
    "x?y=z&w",
    "👩‍🚀",
    "-",
    "$(id)",
];

/// The number of generated names.
const GENERATED: u64 = 12;

/// Returns the name with a number. Its characters depend only on the number.
fn generated(mut seed: u64) -> String {
    let alphabet: Vec<char> = "aZ0_-+ =,;:!?&%$()[]{}<>|'^äж中".chars().collect();
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits")
    };
    let length = next() % 20 + 1;
    let text: String = (0..length).map(|_| alphabet[next() % alphabet.len()]).collect();
    format!("n{}", text.trim_end())
}

/// Percent-encodes a segment of an address.
fn segment(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    bytes.concat()
}

fn column(answer: &Value, name: &str) -> Vec<Value> {
    let rows = answer.as_array().unwrap_or_else(|| panic!("{answer}"));
    rows.iter().map(|row| row[name].clone()).collect()
}

async fn every_layer() {
    let TestServer { running, folder } = TestServer::start().await;
    let server = TestServer { running, folder };
    let generated = (0..GENERATED).map(|seed| generated(seed + 1));
    let names: Vec<String> = NAMES.into_iter().map(str::to_owned).chain(generated).collect();
    for text in &names {
        change_and_read(&server, text).await;
    }
    let TestServer { running, folder } = server;
    running.shutdown().await;
    let server = TestServer { running: start(config(folder.path())).await, folder };
    for text in &names {
        let table = format!("outer.{text}.moved {text}");
        let rows = server.rows(&format!("SELECT n FROM {} ORDER BY n", name::quoted(&table))).await;
        assert_eq!(column(&rows, "n"), [json!(1), json!(2), json!(3)], "{text}: {rows}");
    }
}

/// Creates, inserts, merges, compares and renames a table with this name in a namespace with this
/// name.
async fn change_and_read(server: &TestServer, text: &str) {
    let namespace = format!("outer.{text}");
    let (within, table) = (name::quoted(&namespace), name::quoted(&format!("{namespace}.{text}")));
    let run = async |sql: String, at: &str| {
        let answer = server.post("/v1/query", json!({"sql": sql, "ref": at})).await;
        assert!(answer.is_array() || answer.get("code").is_none(), "{sql}: {answer}");
        answer
    };
    run(format!("CREATE NAMESPACE {within}"), "main").await;
    run(format!("CREATE TABLE {table} AS SELECT 1 AS n"), "main").await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    run(format!("INSERT INTO {table} VALUES (2)"), "dev").await;
    run(format!("INSERT INTO {table} VALUES (3)"), "main").await;
    let path = format!("/v1/refs/main/diff/dev/tables/{}", segment(&format!("{namespace}.{text}")));
    let diff = server.get(&path).await;
    assert!(diff.get("code").is_none(), "{path}: {diff}");
    let merged = server.post("/v1/branches/main/merge", json!({"source": "dev"})).await;
    assert_eq!(merged["outcome"], json!("merged"), "{text}: {merged}");
    let rows = run(format!("SELECT n FROM {table} ORDER BY n"), "main").await;
    assert_eq!(column(&rows, "n"), [json!(1), json!(2), json!(3)], "{text}");
    let levels = json!(["outer", text]);
    let path =
        format!("/iceberg/v1/main/namespaces/{}/tables", segment(&format!("outer\u{1f}{text}")));
    let listed = server.get(&path).await;
    assert_eq!(listed["identifiers"], json!([{"namespace": levels, "name": text}]), "{text}");
    let loaded = server.get(&format!("{path}/{}", segment(text))).await;
    let location = loaded["metadata"]["location"].as_str().unwrap_or_else(|| panic!("{loaded}"));
    let warehouse = server.folder.path().canonicalize().expect("a path");
    let inside = format!("file://{}/.headwater/warehouse/", warehouse.display());
    let rest = location.strip_prefix(&inside).unwrap_or_else(|| panic!("{location}"));
    assert_eq!(rest.split('/').count(), 2, "{text}: {location}");
    assert!(rest.split('/').all(|part| part != ".." && part.is_ascii()), "{text}: {location}");
    let moved = name::quoted(&format!("{namespace}.moved {text}"));
    run(format!("ALTER TABLE {table} RENAME TO {moved}"), "main").await;
    server.send(request(Method::DELETE, "/v1/branches/dev", None)).await;
}
