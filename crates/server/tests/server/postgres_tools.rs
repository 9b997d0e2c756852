//! Unmodified analyst tools over the PostgreSQL protocol: dbt, data frame libraries, ODBC and JDBC.
//!
//! Each tool is installed once by its package name: from PyPI into a virtual environment in the
//! target folder, or from Debian.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::json;

use crate::postgres::{address, started, token};
use crate::support::TestServer;
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("postgres_tools::dbt_builds_a_shop_twice", dbt),
        trial("postgres_tools::sql_lab_of_superset_lists_runs_and_estimates", superset),
        trial("postgres_tools::ibis_pandas_polars_and_adbc_read_and_write", data_frames),
        trial("postgres_tools::sqlalchemy_2_1_describes_and_nests", sqlalchemy),
        trial("postgres_tools::odbc_describes_and_reads_tables", odbc),
        trial("postgres_tools::sqlline_uses_jdbc_with_metadata", sqlline),
        trial("postgres_tools::pgbench_creates_its_tables_and_runs", pgbench),
        trial("postgres_tools::random_queries_of_sqlsmith_end_with_rows_or_errors", sqlsmith),
    ]
}

/// The packages of dbt. Later versions of `dbt-core` depend on a package that pip cannot build
/// without a further download.
const DBT: [&str; 2] = ["dbt-core==1.11.16", "dbt-postgres==1.11.0"];

/// The packages of Superset. Superset imports `cachetools` without requiring it, and its cache does
/// not accept the arguments of later versions of `flask-caching`.
const SUPERSET: [&str; 4] = [
    "apache-superset==6.1.0",
    "psycopg2-binary==2.9.13",
    "cachetools==8.0.2",
    "flask-caching==2.3.1",
];

/// The packages of data frames. `ibis-framework` imports `packaging` without requiring it.
const DATA_FRAMES: [&str; 9] = [
    "ibis-framework[postgres]==12.0.0",
    "packaging==26.4",
    "psycopg[binary]==3.3.9",
    "pandas==3.1.1",
    "polars==2.1.0",
    "pyarrow==26.0.1",
    "adbc-driver-postgresql==1.13.0",
    "connectorx==0.4.6",
    "sqlalchemy==2.1.9",
];

const ODBC: [&str; 1] = ["pyodbc==5.5.0"];

/// Debian packages of the ODBC driver, and of a program for JDBC drivers.
const ODBC_DRIVER: [&str; 3] = ["unixodbc", "odbcinst", "odbc-postgresql"];
const SQLSMITH: [&str; 1] = ["sqlsmith"];
const SQLLINE: [&str; 3] = ["sqlline", "libpostgresql-jdbc-java", "openjdk-17-jre-headless"];

async fn dbt() {
    script("postgres-dbt-1.11", &DBT, "dbt.py").await;
}

async fn superset() {
    script("postgres-superset-6.1", &SUPERSET, "postgres_superset.py").await;
}

async fn data_frames() {
    script("postgres-ibis-12.0", &DATA_FRAMES, "postgres_data_frames.py").await;
}

async fn sqlalchemy() {
    script("postgres-ibis-12.0", &DATA_FRAMES, "postgres_sqlalchemy.py").await;
}

async fn odbc() {
    install(&ODBC_DRIVER, "/usr/bin/odbcinst").await;
    script("postgres-odbc-5.5", &ODBC, "postgres_odbc.py").await;
}

async fn sqlline() {
    install(&SQLLINE, "/usr/bin/sqlline").await;
    script("postgres-odbc-5.5", &ODBC, "postgres_sqlline.py").await;
}

/// Creates the tables of `pgbench -i` and runs TPC-B in the extended protocol.
async fn pgbench() {
    let server = started().await;
    let connection = connection(&server);
    let work = move || {
        let pgbench = |arguments: &[&str]| {
            let mut command = Command::new("pgbench");
            command.env("PGPASSWORD", &connection.token).args(arguments);
            command.args(["-h", &connection.host, "-p", &connection.port, "-U", "ann", "main"]);
            clients::run(&mut command);
        };
        pgbench(&["-i", "-q", "-s", "1"]);
        pgbench(&["-n", "-t", "5", "-M", "extended"]);
    };
    tokio::task::spawn_blocking(work).await.expect("pgbench");
    let rows = server.rows("SELECT count(*) AS n FROM pgbench_accounts").await;
    assert_eq!(rows, json!([{"n": 100_000}]));
    let rows = server.rows("SELECT count(*) AS n FROM pgbench_history").await;
    assert_eq!(rows, json!([{"n": 5}]));
}

/// Sends random queries. A panic of a connection is the error `XX000`, and a lost connection ends
/// sqlsmith.
async fn sqlsmith() {
    install(&SQLSMITH, "/usr/bin/sqlsmith").await;
    let server = started().await;
    for sql in [
        "CREATE TABLE orders AS SELECT value AS id, value % 7 AS kind, value / 3.0 AS price, \
         'p' || value AS name, DATE '2026-01-01' AS day, value % 2 = 0 AS ok \
         FROM generate_series(1, 100) AS t (value)",
        "CREATE TABLE kinds AS SELECT value AS id, 'k' || value AS name \
         FROM generate_series(0, 6) AS t (value)",
        "CREATE VIEW cheap AS SELECT id, name FROM orders WHERE price < 10",
    ] {
        server.rows(sql).await;
    }
    let connection = connection(&server);
    let work = move || {
        let mut command = Command::new("sqlsmith");
        let target = format!(
            "host={} port={} user=ann password={} dbname=main",
            connection.host, connection.port, connection.token
        );
        command.args([&format!("--target={target}"), "--seed=7", "--exclude-catalog"]);
        clients::run(command.args(["--max-queries=150", "--verbose"]));
    };
    tokio::task::spawn_blocking(work).await.expect("sqlsmith");
    let jobs = server.get("/v1/jobs?limit=1000").await;
    let internal = |job: &&serde_json::Value| job["error"]["code"] == "internal";
    let broken: Vec<_> = jobs.as_array().into_iter().flatten().filter(internal).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let rows = server.rows("SELECT count(*) AS n FROM kinds").await;
    assert_eq!(rows, json!([{"n": 7}]));
}

/// The address and the token of a server.
struct Connection {
    host: String,
    port: String,
    token: String,
}

fn connection(server: &TestServer) -> Connection {
    let address = address(server);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    Connection { host, port, token: token(server) }
}

/// Installs Debian packages, unless the program that they provide is installed.
pub async fn install(packages: &'static [&'static str], program: &'static str) {
    let work = move || {
        if std::path::Path::new(program).exists() {
            return;
        }
        clients::run(Command::new("flock").args(clients::APT).args(["update", "-qq"]));
        let mut install = Command::new("flock");
        clients::run(
            install
                .args(clients::APT)
                .args(["install", "-qq", "--no-install-recommends"])
                .args(packages),
        );
    };
    tokio::task::spawn_blocking(work).await.expect("the packages");
}

/// Runs a script of `tests/clients` with a new server, in an environment with packages.
async fn script(environment: &'static str, packages: &'static [&'static str], name: &'static str) {
    let server = started().await;
    let (address, token) = (address(&server), token(&server));
    let work = move || {
        let python = clients::environment_of(environment, packages).join("bin/python");
        let mut command = Command::new(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients::client(name));
        command.args([address.ip().to_string(), address.port().to_string(), token]);
        clients::run(&mut command);
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}
