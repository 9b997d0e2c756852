//! Tests of Lambda's API, with boto3.

use std::process::{Command, Output};

use libtest_mimic::Trial;

use crate::clients;
use crate::support::bearer;
use crate::{s3_clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("lambda::boto3_uses_every_operation", boto3)]
}

/// The packages of the script.
pub const PACKAGES: [&str; 2] = ["boto3==1.44.5", "requests==2.34.2"];

async fn boto3() {
    let server = s3_clients::started().await;
    let python = clients::environment_of("s3-boto3-1.44.5", &PACKAGES).join("bin/python");
    let http = server.running.http_addr().expect("an address");
    let s3 = s3_clients::address(&server);
    let header = bearer(&server.running);
    let token = header.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let mut command = Command::new(python);
    command.arg(clients::client("lambda_boto3.py"));
    command.args([format!("http://{http}"), token, format!("http://{s3}")]);
    command.env("AWS_CONFIG_FILE", "/dev/null");
    let work = move || command.output().expect("a command");
    let output: Output = tokio::task::spawn_blocking(work).await.expect("a command");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (printed, errors) = (text(output.stdout), text(output.stderr));
    assert_eq!(printed, "ok\n", "{errors}");
    // Each change and each call is in the audit log.
    let sql = "SELECT DISTINCT action FROM system.audit WHERE object = 'function:price'";
    let actions = server.rows(sql).await.to_string();
    assert!(actions.contains("deploy") && actions.contains("invoke"), "{actions}");
}
