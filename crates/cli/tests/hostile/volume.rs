//! Payloads and logs that are larger than the server may keep in memory or on disk.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::server::{MEMORY_BYTES_MAX, Server};
use crate::support::{Workspace, count, python};

/// Maximum growth of the lake's folder by one call, in bytes.
const DISK_BYTES_MAX: u64 = 256 << 20;

/// Maximum growth of the server's peak memory by payloads that it rejects, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 256 << 20;

fn deploy(workspace: &Workspace, name: &str, handler: &str) {
    workspace.write(&format!("{name}/app.py"), handler);
    let options = ["--runtime", "python3.11", "--handler", "app.handler", "--timeout", "15m"];
    workspace.ok(&[&["function", "deploy", name, name], &options[..]].concat());
}

/// Returns the total size of the lake's files in bytes.
fn lake_bytes(workspace: &Workspace) -> u64 {
    let files = walkdir::WalkDir::new(workspace.path().join(".headwater")).into_iter();
    // Ignore errors, because temporary files may be removed during the walk.
    let files = files.filter_map(Result::ok).filter_map(|file| file.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[test]
fn a_payload_of_one_gibibyte_is_rejected_by_each_interface() {
    let workspace = Workspace::new();
    workspace.ok(&["stop"]);
    let server = Server::start(&workspace, "1GiB");
    deploy(&workspace, "echo", "def handler(event, context):\n    return event\n");
    let invoke = ["function", "invoke", "echo", "--arg", "event=7"];
    assert_eq!(workspace.json(&invoke), json!(7));
    let python = python::with_packages("s3-boto3-1.44.5", &["boto3==1.44.5", "requests==2.34.2"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/oversized_payloads.py");
    let record = workspace.server().expect("a server");
    let http = format!("http://{}", record["http"].as_str().expect("an address"));
    let key = workspace.ok(&["key", "create"]);
    let key = key.lines().filter_map(|line| line.trim().split_once('='));
    let before = server.peak_bytes();
    let mut command = Command::new(python);
    command.args([script, &http, record["socket"].as_str().expect("a socket")]).envs(key);
    command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_CONFIG_FILE", "/dev/null");
    let ended = command.stdin(Stdio::null()).output().expect("a script");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "");
    let grown = server.peak_bytes() - before;
    assert!(grown < PAYLOAD_BYTES_MAX, "the server took {} MiB", grown >> 20);
    assert_eq!(workspace.json(&["event", "ls"]), json!([]));
    assert_eq!(workspace.json(&invoke), json!(7));
}

#[test]
fn soak_a_function_that_prints_gigabytes_returns_its_result_within_bounds() {
    let gibibytes = count(1, 10);
    let workspace = Workspace::new();
    workspace.ok(&["stop"]);
    let server = Server::start(&workspace, "1GiB");
    let handler = "import os\n\nLINE = b'x' * ((1 << 20) - 1) + b'\\n'\n\n\n\
                   def handler(event, context):\n    for _ in range(1024 * event):\n        \
                   os.write(1, LINE)\n    return 'done'\n";
    deploy(&workspace, "chatty", handler);
    let before = lake_bytes(&workspace);
    let event = format!("event={gibibytes}");
    let called = workspace.run(&["function", "invoke", "chatty", "--arg", &event, "-o", "json"]);
    assert_eq!((called.code, called.stdout.trim()), (0, "\"done\""), "{:.2000}", called.stderr);
    let peak = server.peak_bytes();
    assert!(peak < MEMORY_BYTES_MAX, "the server took {} MiB", peak >> 20);
    let grown = lake_bytes(&workspace).saturating_sub(before);
    assert!(grown < DISK_BYTES_MAX, "the lake grew by {} MiB", grown >> 20);
    let jobs = workspace.json(&["job", "ls", "--kind", "function", "--limit", "1"]);
    let log = workspace.ok(&["job", "logs", jobs[0]["id"].as_str().expect("an id")]);
    assert!(log.len() < 65 << 20, "the log has {} MiB", log.len() >> 20);
}
