//! Arrow Flight SQL with its ADBC driver, unmodified, on a branch.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headwater_server::FlightLimits;
use libtest_mimic::Trial;
use serde_json::json;

use crate::access::Users;
use crate::support::{self, TestServer};
use crate::{clients, postgres, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("flight::adbc_reads_writes_ingests_and_cancels", adbc),
        trial("flight::a_session_ends_with_its_credential_and_on_request", sessions),
        trial("flight::limits_apply_to_each_principal", limits),
        trial("flight::a_cancelled_ingestion_leaves_no_branch", cancelled),
    ]
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

/// Runs a script of `tests/clients` with arguments.
async fn script(name: &'static str, arguments: Vec<String>) {
    let work = move || {
        let mut command = Command::new(python());
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients::client(name)).args(arguments);
        clients::run(&mut command);
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}

fn address(server: &TestServer) -> String {
    server.running.http_addr().expect("an address").to_string()
}

async fn sessions() {
    let users = Users::start().await;
    let arguments = vec![address(&users.server), postgres::token(&users.server)];
    script("flight_sessions.py", arguments).await;
}

/// Runs a part of `flight_limits.py` on a server with these limits.
async fn limited(part: &str, limits: FlightLimits) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.flight = limits;
    let running = support::start(config).await;
    let users = Users::on(TestServer { running, folder }).await;
    let created = users.server.rows("CREATE TABLE shop.scratch (id BIGINT)").await;
    assert!(created.get("code").is_none(), "{created}");
    let grants = [
        "select on table:shop.items",
        "select,insert on table:shop.scratch",
        "read,write on branch:main",
    ];
    let (ana, eve) = (users.user("ana", &grants).await, users.user("eve", &grants).await);
    let (server, token) = (&users.server, postgres::token(&users.server));
    script("flight_limits.py", vec![part.to_owned(), address(server), token, ana, eve]).await;
}

async fn limits() {
    let idle = Duration::from_secs(5);
    let limits = FlightLimits {
        transactions_max: 2,
        transaction_idle: idle,
        prepared_max: 2,
        prepared_idle: idle,
        uploads_max: 1,
        upload_bytes_max: 64 << 10,
        upload_idle: Duration::from_secs(3),
        ..FlightLimits::default()
    };
    limited("limits", limits).await;
}

async fn cancelled() {
    limited("cancel", FlightLimits { chunk_bytes: 32 << 10, ..FlightLimits::default() }).await;
}
