//! Tests of SQS's API, with boto3.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::json;

use crate::life_cycle::Killable;
use crate::s3_clients::{python, run, with_key};
use crate::support::{TestServer, bearer};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("sqs::boto3_uses_every_operation", boto3),
        trial("sqs::functions_are_called_with_messages", mappings),
        trial("sqs::batches_are_bounded_and_stay_invisible", batches),
        trial("sqs::no_message_is_lost_or_returns_if_the_server_is_killed", killed),
    ]
}

/// Number of times that the server is killed.
const KILLS: usize = 5;

/// Runs a script with the address and the token of a server.
pub async fn script(server: &TestServer, name: &str) {
    let http = server.running.http_addr().expect("an address");
    let header = bearer(&server.running);
    let token = header.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let mut command = Command::new(python());
    command.arg(clients::client(name)).args([format!("http://{http}"), token]);
    command.env("AWS_CONFIG_FILE", "/dev/null").env("PYTHONDONTWRITEBYTECODE", "1");
    assert_eq!(run(command).await, "ok\n");
}

async fn boto3() {
    let server = TestServer::start().await;
    script(&server, "sqs_boto3.py").await;
    // Each operation is in the audit log.
    let sql = "SELECT DISTINCT action FROM system.audit WHERE object = 'queue:orders'";
    let actions = server.rows(sql).await.to_string();
    assert!(actions.contains("write") && actions.contains("read"), "{actions}");
    // The requests count as usage of their user.
    let usage = server.get("/v1/usage?by=kind").await;
    let of_queues = usage.as_array().expect("lines").iter().find(|line| line["group"] == "queue");
    let of_queues = of_queues.expect("usage of queues");
    assert!(of_queues["usage"]["requests"].as_u64() > Some(20), "{of_queues}");
    assert!(of_queues["usage"]["bytes_in"].as_u64() > Some(0), "{of_queues}");
    assert!(of_queues["cost"].as_f64() > Some(0.0), "{of_queues}");
}

async fn mappings() {
    let server = TestServer::start().await;
    script(&server, "sqs_mappings.py").await;
}

async fn batches() {
    let server = TestServer::start().await;
    script(&server, "sqs_batches.py").await;
}

async fn killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Killable::start(folder.path()).await;
    let key = server.ask(Method::POST, "/v1/access-keys", Some(&json!({}))).await;
    let mut command = Command::new(python());
    command.arg(clients::client("sqs_crash.py"));
    command.arg(folder.path().join(".headwater/server.json")).arg(KILLS.to_string());
    with_key(&mut command, &key);
    command.env("AWS_CONFIG_FILE", "/dev/null").env("PYTHONDONTWRITEBYTECODE", "1");
    let mut script = command.stdout(Stdio::piped()).spawn().expect("a command");
    let mut lines = BufReader::new(script.stdout.take().expect("an output")).lines();
    let mut kills = 0;
    let last = loop {
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        if line != "kill" {
            break line;
        }
        server.kill();
        kills += 1;
        server = Killable::start(folder.path()).await;
    };
    assert!(script.wait().expect("an end").success());
    assert_eq!((last.as_str(), kills), ("ok", KILLS));
}
