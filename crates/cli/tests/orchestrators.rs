//! Runs the examples for Prefect, Dagster and Airflow with the releases of PyPI.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Workspace, python};

fn shop() -> Workspace {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE orders AS SELECT 1 AS id, 2.5 AS amount"]);
    let kept = "-- headwater: materialization = replace\n";
    workspace.write("models/daily.sql", format!("{kept}SELECT id, amount FROM orders"));
    workspace.write("models/total.sql", format!("{kept}SELECT sum(amount) AS total FROM daily"));
    workspace
}

/// Returns a command that runs a program in the project, with the SDK and the built `headwater` in
/// its search paths.
fn command(workspace: &Workspace, program: &Path) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = Path::new(env!("CARGO_BIN_EXE_headwater")).parent().map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
    let mut command = Command::new(program);
    command
        .current_dir(workspace.path())
        .env("HEADWATER_PROJECT", workspace.path())
        .env("PATH", path.expect("a path"))
        .env("PYTHONPATH", root.join("python"))
        .env_remove("HEADWATER_LAKE")
        .env("HOME", workspace.path());
    command
}

fn example(name: &str) -> String {
    format!("{}/../../examples/orchestrators/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Checks that a command succeeded, and returns what it printed.
fn printed(mut command: Command) -> String {
    let answer = support::answer(command.output().expect("the command starts"));
    assert_eq!(answer.code, 0, "{}\n{}", answer.stdout, answer.stderr);
    format!("{}\n{}", answer.stdout, answer.stderr)
}

fn check_tables(workspace: &Workspace) {
    let rows = workspace.rows("SELECT total FROM total");
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
}

#[test]
fn a_flow_of_prefect_runs_a_project() {
    let workspace = shop();
    let python = python::with_packages("orchestrators-prefect", &["prefect==3.9.1"]);
    let mut flow = command(&workspace, &python);
    flow.arg(example("prefect_flow.py")).env("PREFECT_HOME", workspace.path().join(".prefect"));
    // The flow starts Prefect's own server. On a busy machine, this start takes longer than the
    // default timeout.
    flow.env("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120");
    let printed = printed(flow);
    assert!(printed.contains("changed: ['daily', 'total']"), "{printed}");
    check_tables(&workspace);
}

#[test]
fn assets_of_dagster_are_the_models_of_a_project() {
    let workspace = shop();
    let python = python::with_packages("orchestrators-dagster", &["dagster==1.13.29"]);
    let mut assets = command(&workspace, &python);
    assets.arg(example("dagster_assets.py"));
    let printed = printed(assets);
    assert!(printed.contains("changed: ['daily', 'total']"), "{printed}");
    check_tables(&workspace);
}

#[test]
fn a_dag_of_airflow_runs_a_project() {
    let workspace = shop();
    let python = python::with_packages("orchestrators-airflow", &["apache-airflow==3.3.2"]);
    let airflow = python.with_file_name("airflow");
    let dags = workspace.path().join("dags");
    std::fs::create_dir_all(&dags).expect("a folder");
    std::fs::copy(example("airflow_dag.py"), dags.join("airflow_dag.py")).expect("a file");
    for arguments in [
        &["db", "migrate"][..],
        &["dags", "reserialize"],
        &["dags", "test", "headwater_project", "2026-01-02"],
    ] {
        let mut command = command(&workspace, &airflow);
        command.args(arguments).env("AIRFLOW_HOME", workspace.path().join("airflow"));
        command.env("AIRFLOW__CORE__DAGS_FOLDER", &dags);
        command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        printed(command);
    }
    check_tables(&workspace);
}
