//! Arrow Flight SQL with Apache Arrow's Java library, on which the JDBC driver is built, over plain
//! connections and over TLS.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use headwater_server::CertificateSource;
use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{TestServer, config, start};
use crate::{clients, postgres, postgres_tools, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("flight_java::the_java_library_works_as_the_jdbc_driver_uses_it", plain),
        trial("flight_java::the_java_library_works_over_tls", encrypted),
    ]
}

/// The package that contains the library, with the jars that it needs.
const PACKAGE: &str = "deephaven-server==42.7";

/// The Debian package of the Java compiler, which runs the file with the test.
const JAVA: [&str; 1] = ["openjdk-17-jdk-headless"];

/// The password of a user.
const PASSWORD: &str = "correct horse battery";

/// Returns the folder with the jars, which is created once.
fn jars() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flight-java-deephaven-42.7");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"];
        let mut download = Command::new("python3");
        clients::run(download.args(pip).arg("--dest").arg(&folder).arg(PACKAGE));
        let script = clients::client("flight_jars.py");
        clients::run(Command::new("python3").arg(script).arg(&folder));
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder
}

async fn plain() {
    run(prepared().await).await;
}

async fn encrypted() {
    // The first server has no TLS, because the requests of tests use no TLS.
    let TestServer { running, folder } = prepared().await;
    running.shutdown().await;
    let mut config = config(folder.path());
    config.network.tls = Some(CertificateSource::SelfSigned);
    run(TestServer { running: start(config).await, folder }).await;
}

/// Starts a server with a branch, and a user with the right to read `main`.
async fn prepared() -> TestServer {
    let server = TestServer::start().await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    let grant = json!({"grantee": "eva", "actions": ["read"], "object": "branch:main"});
    server.post("/v1/grants", grant).await;
    server
}

/// Runs the test with a server.
async fn run(server: TestServer) {
    let address = server.running.http_addr().expect("an address");
    let certificate = server.running.self_signed().map(Path::to_owned);
    let scheme = if certificate.is_some() { "grpc+tls" } else { "grpc+tcp" };
    let certificate = certificate.unwrap_or_else(|| "-".into());
    let token = postgres::token(&server);
    postgres_tools::install(&JAVA, "/usr/bin/javac").await;
    let work = move || {
        let mut command = Command::new("java");
        command.arg("--add-opens=java.base/java.nio=ALL-UNNAMED");
        command.arg("-cp").arg(jars().join("*")).arg(clients::client("FlightJava.java"));
        command.arg(format!("{scheme}://{address}")).arg(certificate);
        clients::run(command.args([token.as_str(), "eva", PASSWORD]));
    };
    tokio::task::spawn_blocking(work).await.expect("the test");
}
