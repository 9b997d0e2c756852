//! Arrow Flight SQL with its ADBC driver, unmodified, on a branch.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{TestServer, bearer, config, start};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("flight::adbc_reads_writes_ingests_and_cancels", adbc)]
}

/// The packages of the script.
const PACKAGES: [&str; 4] = [
    "adbc-driver-flightsql==1.13.0",
    "adbc-driver-manager==1.13.0",
    "pyarrow==26.0.1",
    "polars==2.1.0",
];

/// The password of a user.
const PASSWORD: &str = "correct horse battery";

async fn adbc() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(folder.path());
    config.http = Some("127.0.0.1:0".parse().expect("an address"));
    let server = TestServer { running: start(config).await, folder };
    server.post("/v1/branches", json!({"name": "dev"})).await;
    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    let grant = json!({"grantee": "eva", "actions": ["read"], "object": "branch:main"});
    server.post("/v1/grants", grant).await;
    let address = server.running.http_addr().expect("an address");
    let header = bearer(&server.running);
    let token = header.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let work = move || {
        let python = clients::environment_of("flight-adbc-1.13", &PACKAGES).join("bin/python");
        let mut command = Command::new(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients::client("flight_adbc.py"));
        command.args([format!("grpc://{address}"), token, format!("eva:{PASSWORD}")]);
        clients::run(&mut command);
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}
