//! Unmodified clients over real connections: PyIceberg, DuckDB, polars and Spark work on a branch,
//! and PyIceberg's own catalog tests run.
//!
//! The clients are installed once from PyPI into a virtual environment in the target folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use headwater_server::{CertificateSource, OidcConfig};
use libtest_mimic::Trial;
use serde_json::json;

use crate::real_provider::RealProvider;
use crate::support::{TestServer, bearer, config, start};
use crate::trial;

/// A command that runs `apt-get` under a lock, because tests install packages at the same time.
pub const APT: [&str; 2] = ["/tmp/headwater-apt.lock", "apt-get"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("clients::pyiceberg_duckdb_and_polars_work_on_a_branch", work_on_a_branch),
        trial("clients::duckdb_commits_that_once_failed_succeed", duckdb),
        trial("clients::spark_works_on_a_branch", spark),
        trial("clients::a_commit_of_pyiceberg_fires_a_trigger", trigger),
        trial("clients::pyicebergs_own_catalog_tests_pass", behaviours),
        trial("clients::users_with_different_rights_use_iceberg_clients_over_tls", users),
    ]
}

/// The packages of the scripts. The name of the environment contains a hash of these packages, so a
/// changed list creates a new environment.
const PACKAGES: [&str; 14] = [
    "pyiceberg[pyarrow]==0.12.0",
    "pyiceberg-core==0.11.0",
    "polars==2.1.0",
    "duckdb==1.5.5",
    "pytz==2025.2",
    "duckdb-extension-iceberg==1.5.5",
    "duckdb-extension-avro==1.5.5",
    "duckdb-extension-httpfs==1.5.5",
    "pytest==9.2.0",
    "pytest-lazy-fixtures==1.4.1",
    "sqlalchemy==2.1.9",
    "boto3==1.44.5",
    "moto==5.2.5",
    "fsspec==2026.9.0",
];

/// Additional packages of the script with Spark.
const SPARK: [&str; 2] = ["pyspark==3.5.9", "snowpark-connect-deps-iceberg==1.0.3"];

/// Debian packages that Spark needs: an HTTP client, and Java if it is missing.
const CLIENT: [&str; 2] = ["libhttpclient5-java", "libhttpcore5-java"];
const JAVA: &str = "openjdk-17-jre-headless";

/// The source archive of PyIceberg, which holds its tests.
const SOURCE: &str = "pyiceberg==0.12.0";

/// Returns the environment. Creates the environment if it is missing or incomplete.
fn environment() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = cache.join("iceberg-rest-pyiceberg-0.12.0-duckdb-1.5.5-polars-2.1.0");
    // Each test is a separate process; the first one creates the environment.
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let python = folder.join("bin/python");
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).arg("install").args(PACKAGES));
        let mut download = Command::new(&python);
        download.args(pip).args(["download", "--no-deps", "--no-binary", ":all:", SOURCE]);
        run(download.arg("--dest").arg(folder.join("source")));
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder
}

/// Returns an environment with packages, created once.
pub fn environment_of(name: &str, packages: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"];
        run(Command::new(folder.join("bin/python")).args(pip).args(packages));
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder
}

/// Returns the environment with Spark, and the folder with its jars.
fn environment_with_spark() -> PathBuf {
    let folder = environment();
    let jars = folder.join("spark-3.5.9-iceberg-1.10.2");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !jars.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&jars);
        std::fs::create_dir(&jars).expect("a folder");
        run(Command::new("flock").args(APT).args(["update", "-qq"]));
        if Command::new("java").arg("-version").output().is_err() {
            run(Command::new("flock").args(APT).args([
                "install",
                "-qq",
                "--no-install-recommends",
                JAVA,
            ]));
        }
        run(Command::new("apt-get").args(["download", "-qq"]).args(CLIENT).current_dir(&jars));
        for file in std::fs::read_dir(&jars).expect("a folder") {
            let package = file.expect("a file").path();
            run(Command::new("dpkg").arg("-x").arg(package).arg(&jars));
        }
        let python = folder.join("bin/python");
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).arg("install").args(SPARK));
        run(Command::new(&python).arg(client("spark_jars.py")).arg(&jars));
        std::fs::write(jars.join("ready"), "").expect("a file");
    }
    jars
}

/// Returns the path of a script in `tests/clients`.
pub fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(name)
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{text}\n{errors}");
    text.into_owned()
}

/// Runs a script of `tests/clients` with the address and the token of a server.
async fn script(name: &str, server: &TestServer, before: Vec<PathBuf>, after: Vec<PathBuf>) {
    let script = client(name);
    let address = server.running.http_addr().expect("an address");
    let scheme = if server.running.has_tls() { "https" } else { "http" };
    let token = bearer(&server.running);
    let token = token.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let work = move || {
        let mut command = Command::new(environment().join("bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).args(before);
        run(command.arg(format!("{scheme}://{address}")).arg(token).args(after))
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}

async fn work_on_a_branch() {
    let server = TestServer::start().await;
    script("iceberg_rest.py", &server, Vec::new(), Vec::new()).await;
}

async fn duckdb() {
    let server = TestServer::start().await;
    script("duckdb_iceberg.py", &server, Vec::new(), Vec::new()).await;
}

async fn trigger() {
    let server = TestServer::start().await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    for sql in ["CREATE TABLE orders (id BIGINT)", "INSERT INTO orders VALUES (1)"] {
        server.post("/v1/query", json!({"sql": sql, "ref": "dev"})).await;
    }
    let models = server.folder.path().join("models");
    std::fs::create_dir_all(&models).expect("a folder");
    let model = "-- headwater: materialization = replace\nSELECT sum(id) AS ids FROM orders\n";
    std::fs::write(models.join("sums.sql"), model).expect("a file");
    let project = "[project]\nname = \"p\"\n\n[[trigger]]\nname = \"summed\"\nbranch = \"dev\"\n\
        tables = { names = [\"orders\"], debounce = \"0s\" }\nrun = true\n";
    std::fs::write(server.folder.path().join("headwater.toml"), project).expect("a file");
    server.deploy().await;
    script("iceberg_append.py", &server, Vec::new(), Vec::new()).await;
    let events = server.until("/v1/trigger-events?status=done", |found| found[0].is_object()).await;
    assert_eq!(events[0]["data"]["tables"], json!(["public.orders"]));
    let sums = json!({"sql": "SELECT ids FROM sums", "ref": "dev"});
    assert_eq!(server.post("/v1/query", sums).await, json!([{"ids": 42}]));
    let commits = server.get("/v1/refs/dev/commits?limit=10").await;
    let named = commits.as_array().expect("commits").iter();
    let mut named = named.filter(|commit| commit["id"] == events[0]["data"]["commit"]);
    assert_eq!(named.next().map(|commit| &commit["author"]), Some(&json!("py@lab")));
}

async fn spark() {
    let server = TestServer::start().await;
    let jars = tokio::task::spawn_blocking(environment_with_spark).await.expect("an environment");
    script("spark.py", &server, Vec::new(), vec![jars]).await;
}

async fn behaviours() {
    let server = TestServer::start().await;
    let folder = tokio::task::spawn_blocking(environment).await.expect("an environment");
    let mut archives = std::fs::read_dir(folder.join("source")).expect("a folder");
    let archive = archives.next().expect("an archive").expect("an entry").path();
    let project = server.folder.path().canonicalize().expect("a path");
    let warehouse = project.join(".headwater/warehouse");
    script("pyiceberg_behaviours.py", &server, vec![archive], vec![warehouse]).await;
}

async fn users() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(folder.path());
    config.network.tls = Some(CertificateSource::SelfSigned);
    let (provider, oidc) = provider().await;
    config.service.oidc = Some(oidc);
    let id_token = provider.token("ana");
    let server = TestServer { running: start(config).await, folder };
    let certificate = server.running.self_signed().expect("a certificate").to_owned();
    let warehouse = server.folder.path().join(".headwater/warehouse");
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    script(
        "iceberg_users.py",
        &server,
        Vec::new(),
        vec![certificate, warehouse, sdk, id_token.into()],
    )
    .await;
}

/// Starts an OpenID provider. Returns it with the configuration of a server that trusts it.
pub async fn provider() -> (RealProvider, OidcConfig) {
    let started = tokio::task::spawn_blocking(RealProvider::start).await.expect("a provider");
    let text = format!(
        "issuer = \"{}\"\nclient_id = \"lake\"\ncreate_users = true\n\n\
         [roles]\nanalysts = \"analyst\"\n",
        started.issuer
    );
    (started, OidcConfig::parse(&text).expect("a configuration"))
}
