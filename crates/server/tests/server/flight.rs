//! Arrow Flight SQL with its ADBC driver, unmodified, on a branch.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::TestServer;
use crate::{clients, postgres, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("flight::adbc_reads_writes_ingests_and_cancels", adbc)]
}

/// The packages of the scripts.
const PACKAGES: [&str; 5] = [
    "adbc-driver-flightsql==1.13.0",
    "adbc-driver-manager==1.13.0",
    "grpcio==1.85.3",
    "polars==2.1.0",
    "pyarrow==26.0.1",
];

/// Python with the packages.
pub fn python() -> PathBuf {
    clients::environment_of("flight-adbc-1.13-grpc-1.85", &PACKAGES).join("bin/python")
}

/// The password of a user.
const PASSWORD: &str = "correct horse battery";

async fn adbc() {
    let server = TestServer::start().await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    let grant = json!({"grantee": "eva", "actions": ["read"], "object": "branch:main"});
    server.post("/v1/grants", grant).await;
    let address = server.running.http_addr().expect("an address");
    let (token, folder) = (postgres::token(&server), server.folder.path().to_owned());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flight-sql.md");
    let work = move || {
        let mut command = Command::new(python());
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients::client("flight_adbc.py"));
        command.args([format!("grpc://{address}"), token, format!("eva:{PASSWORD}")]);
        command.arg(page).current_dir(folder);
        clients::run(&mut command);
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}
