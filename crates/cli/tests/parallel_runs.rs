//! Concurrent runs of one project on one branch, also on a server that is killed: the tables
//! contain every row exactly once. `cargo xtask soak` runs the full counts.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use support::Workspace;

/// Maximum number of runs for one parameter value, on a server that is killed repeatedly.
const ATTEMPTS_MAX: usize = 1_000;

/// Returns the full count in a soak test, otherwise the small count.
fn count(small: usize, full: usize) -> usize {
    if std::env::var_os("HEADWATER_SOAK").is_some() { full } else { small }
}

/// Creates a project whose runs append one row, and copy new rows to another table.
fn project() -> Workspace {
    let workspace = Workspace::new();
    let manifest = "[project]\nname = \"test\"\n\n[parameters.value]\ntype = \"int\"\n";
    workspace.write("headwater.toml", manifest);
    let append = "-- headwater: materialization = append\n";
    workspace.write("values.sql", format!("{append}SELECT $value AS n, 10 * $value AS ten"));
    let incremental = format!("{append}-- headwater: incremental = values\n");
    workspace.write("copies.sql", format!("{incremental}SELECT n, ten FROM values"));
    let merge = "-- headwater: materialization = merge\n-- headwater: keys = n\n\
                 -- headwater: incremental = copies\n";
    workspace.write("merged.sql", format!("{merge}SELECT n, count(*) AS c FROM copies GROUP BY n"));
    workspace
}

/// Checks that every table has each value once.
fn check(workspace: &Workspace, runs: usize) {
    let expected: Vec<usize> = (0..runs).collect();
    for table in ["values", "copies", "merged"] {
        let sql = format!("SELECT n FROM \"{table}\" ORDER BY n");
        let rows = workspace.rows(&sql);
        let values: Vec<usize> = rows
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| usize::try_from(row["n"].as_u64().expect("a number")).expect("a count"))
            .collect();
        assert_eq!(values, expected, "`{table}`");
    }
    let counts = workspace.rows("SELECT max(c) AS most, count(*) AS n FROM merged");
    assert_eq!(counts, json!([{"most": 1, "n": runs}]));
}

/// Returns the number of appended rows; 0 while no server is running.
fn rows(workspace: &Workspace) -> u64 {
    let sql = "SELECT count(*) AS n FROM \"values\"";
    let answer = workspace.run(&["query", sql, "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    rows[0]["n"].as_u64().unwrap_or(0)
}

fn run(workspace: &Workspace, value: usize) -> support::Answer {
    workspace.run(&["run", "--param", &format!("value={value}")])
}

#[test]
fn soak_parallel_runs_add_every_row_once() {
    let runs = count(6, 50);
    let workspace = project();
    std::thread::scope(|scope| {
        for value in 0..runs {
            let workspace = &workspace;
            scope.spawn(move || {
                let answer = run(workspace, value);
                assert_eq!(answer.code, 0, "{}", answer.stderr);
            });
        }
    });
    check(&workspace, runs);
    let branches = workspace.json(&["branch", "ls"]);
    assert_eq!(branches.as_array().map(Vec::len), Some(1), "{branches}");
}

#[test]
fn soak_parallel_runs_of_a_killed_server_add_every_row_once() {
    let (runs, kills) = (count(6, 50), count(2, 20));
    let workspace = project();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (workspace, ended) = (&workspace, &ended);
        let killer = scope.spawn(move || {
            for kill in 0..kills {
                // Kill the server at regular numbers of rows.
                let wanted = (kill * runs / kills) as u64;
                while rows(workspace) < wanted && !ended.load(Ordering::Relaxed) {}
                workspace.kill_server();
            }
        });
        let runners: Vec<_> = (0..runs)
            .map(|value| {
                scope.spawn(move || {
                    // The command follows a queued run to its end. Repeat only an interrupted run.
                    let mut attempts = (0..ATTEMPTS_MAX).map(|_| run(workspace, value));
                    let done = attempts.any(|answer| answer.code == 0);
                    assert!(done, "the run with {value} never succeeds");
                })
            })
            .collect();
        for runner in runners {
            runner.join().expect("a runner ends");
        }
        ended.store(true, Ordering::Relaxed);
        killer.join().expect("the kills end");
    });
    check(&workspace, runs);
}
