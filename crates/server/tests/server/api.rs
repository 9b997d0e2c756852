//! Tests of the HTTP API: `tests/api/<noun>.yaml` contains requests and the expected responses.
//!
//! Each file runs from top to bottom against a server with a new lake. An object in an expected
//! response contains only the fields to compare. `*` in a string matches anything. `${name}` is a
//! value saved by an earlier step, and `${dir}` is the project's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{self, TestServer, body, request};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Files of the project's folder, written before the server starts.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// True to use a package cache that is not shared with other tests.
    #[serde(default)]
    own_cache: bool,
    /// True to deploy the project before the first step.
    #[serde(default)]
    deploy: bool,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// The expected behaviour.
    name: String,
    /// Method and path.
    request: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    status: u16,
    /// The response, as JSON.
    answer: Option<Value>,
    /// The response, as lines of JSON.
    lines: Option<Vec<Value>>,
    /// The response, as text.
    text: Option<String>,
    /// Values of the response to save: their names, and their locations as JSON pointers.
    #[serde(default)]
    save: BTreeMap<String, String>,
}

/// Returns all nouns with the paths of their files.
pub fn files() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/api");
    let entries = std::fs::read_dir(folder).expect("the folder `tests/api`");
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path();
    let name = |path: &Path| path.file_stem().expect("a name").display().to_string();
    let mut files: Vec<_> = entries.map(path).map(|path| (name(&path), path)).collect();
    files.sort();
    files
}

/// Runs the steps of a file, in order.
pub async fn play(noun: String, path: PathBuf) {
    let text = std::fs::read_to_string(&path).expect("the noun's file");
    let case: Case = serde_yaml_ng::from_str(&text).expect("a case");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in &case.files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let mut config = support::config(folder.path());
    if case.own_cache {
        config.service.cache_dir = folder.path().join("cache");
    }
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    if case.deploy {
        let deployed = server.deploy().await;
        assert!(deployed.get("code").is_none(), "{noun}: {deployed}");
    }
    let dir = server.folder.path().canonicalize().expect("a path").display().to_string();
    let mut saved = BTreeMap::from([("dir".to_owned(), dir)]);
    for step in &case.steps {
        let what = format!("{noun}: {}", step.name);
        take(&server, step, &mut saved, &what).await;
    }
    server.running.shutdown().await;
}

async fn take(server: &TestServer, step: &Step, saved: &mut BTreeMap<String, String>, what: &str) {
    let line = fill(&step.request, saved);
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let method: Method = method.parse().expect("a method");
    let sent = step.body.as_ref().map(|body| fill_value(body, saved));
    let mut request = request(method, path, sent.as_ref());
    for (name, value) in &step.headers {
        let name: HeaderName = name.parse().expect("a header");
        let value: HeaderValue = fill(value, saved).parse().expect("a value");
        request.headers_mut().insert(name, value);
    }
    let response = server.send(request).await;
    let status = response.status().as_u16();
    let text = text_of(response, what).await;
    assert_eq!(status, step.status, "{what}: {text}");
    check_body(step, &text, saved, what);
}

async fn text_of(response: Response<hyper::body::Incoming>, what: &str) -> String {
    let bytes = body(response).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn check_body(step: &Step, text: &str, saved: &mut BTreeMap<String, String>, what: &str) {
    if let Some(expected) = &step.text {
        assert!(fits(&fill(expected, saved), text), "{what}: {text}");
    }
    if let Some(expected) = &step.lines {
        let lines: Vec<Value> = text.lines().map(|line| parse(line, what)).collect();
        check(&fill_value(&Value::from(expected.clone()), saved), &lines.into(), what);
    }
    if step.answer.is_none() && step.save.is_empty() {
        return;
    }
    let answer = parse(text, what);
    if let Some(expected) = &step.answer {
        check(&fill_value(expected, saved), &answer, what);
    }
    for (name, pointer) in &step.save {
        let value = answer.pointer(pointer).unwrap_or_else(|| panic!("{what}: no {pointer}"));
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        saved.insert(name.clone(), value);
    }
}

fn parse(text: &str, what: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"))
}

/// Compares a response with the expected response, which may omit fields.
fn check(expected: &Value, found: &Value, what: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(fields)) => {
            for (name, value) in expected {
                let field = fields.get(name).unwrap_or(&Value::Null);
                check(value, field, &format!("{what}: {name}"));
            }
        }
        (Value::Array(expected), Value::Array(items)) => {
            assert_eq!(expected.len(), items.len(), "{what}: {}", Value::from(items.clone()));
            for (index, (expected, item)) in expected.iter().zip(items).enumerate() {
                check(expected, item, &format!("{what}: {index}"));
            }
        }
        (Value::String(pattern), found) if pattern.contains('*') => {
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            let there = !found.is_null();
            assert!(there && fits(pattern, &text), "{what}: {found} is not `{pattern}`");
        }
        _ => assert_eq!(expected, found, "{what}"),
    }
}

/// Returns true if a string matches a pattern in which `*` matches anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]))
}

fn fill(text: &str, saved: &BTreeMap<String, String>) -> String {
    let fill = |text: String, (name, value): (&String, &String)| {
        text.replace(&format!("${{{name}}}"), value)
    };
    saved.iter().fold(text.to_owned(), fill)
}

fn fill_value(value: &Value, saved: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => fill(text, saved).into(),
        Value::Array(items) => items.iter().map(|item| fill_value(item, saved)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields.map(|(name, value)| (fill(name, saved), fill_value(value, saved))).collect()
        }
        other => other.clone(),
    }
}
