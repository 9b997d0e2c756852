//! Unmodified analyst tools over the PostgreSQL protocol: dbt, data frame libraries, ODBC and JDBC.
//!
//! Each tool is installed once by its package name: from PyPI into a virtual environment in the
//! target folder, or from Debian.

use std::process::Command;

use libtest_mimic::Trial;

use crate::postgres::{address, started, token};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("postgres_tools::dbt_builds_a_shop_twice", dbt),
        trial("postgres_tools::ibis_pandas_polars_and_adbc_read_and_write", data_frames),
        trial("postgres_tools::sqlalchemy_2_1_describes_and_nests", sqlalchemy),
        trial("postgres_tools::odbc_describes_and_reads_tables", odbc),
        trial("postgres_tools::sqlline_uses_jdbc_with_metadata", sqlline),
    ]
}

/// The packages of dbt. Later versions of `dbt-core` depend on a package that pip cannot build
/// without a further download.
const DBT: [&str; 2] = ["dbt-core==1.11.16", "dbt-postgres==1.11.0"];

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
const SQLLINE: [&str; 3] = ["sqlline", "libpostgresql-jdbc-java", "openjdk-17-jre-headless"];

async fn dbt() {
    script("postgres-dbt-1.11", &DBT, "dbt.py").await;
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

/// Installs Debian packages, unless the program that they provide is installed.
async fn install(packages: &'static [&'static str], program: &'static str) {
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
