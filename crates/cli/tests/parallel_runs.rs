//! Concurrent runs. `cargo xtask soak` runs the full counts.
//!
//! Runs of one project on one branch: the tables contain every row exactly once, even if the server
//! is killed. Runs of several projects on several branches: each run succeeds or reports a conflict
//! that names the tables, and the tables have the effects of exactly the successful runs. Runs of
//! two projects that append rows of different sources to one table have no conflict.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::{Workspace, count};

/// Maximum number of runs for one parameter value, on a server that is killed repeatedly.
const ATTEMPTS_MAX: usize = 1_000;

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

#[test]
fn soak_parallel_incremental_runs_of_two_projects_add_every_row_once() {
    let (workspace, rows) = (Workspace::new(), count(3, 25));
    let append = "-- headwater: materialization = append\n-- headwater: allow_takeover = true\n";
    let of = |source: &str| format!("SELECT n, '{source}' AS origin FROM {source}");
    for source in ["one", "two"] {
        workspace.ok(&["query", &format!("CREATE TABLE {source} AS SELECT 0 AS n")]);
        workspace.write(
            &format!("{source}/headwater.toml"),
            format!("[project]\nname = \"{source}\"\n"),
        );
    }
    let model = |project: &str, incremental: &str, query: &str| {
        let text = format!("{append}-- headwater: incremental = {incremental}\n{query}");
        workspace.write(&format!("{project}/log.sql"), text);
    };
    // This first run reads both sources, and records the position up to which it has read each
    // source.
    model("one", "one, two", &format!("{} UNION ALL {}", of("one"), of("two")));
    workspace.ok(&["run", "--project", "one"]);
    std::thread::scope(|scope| {
        for source in ["one", "two"] {
            model(source, source, &of(source));
            let workspace = &workspace;
            scope.spawn(move || {
                for n in 1..=rows {
                    workspace.ok(&["query", &format!("INSERT INTO {source} VALUES ({n})")]);
                    // With `--no-repeat`, a run with a conflict fails. `ok` therefore also checks
                    // that the run has no conflict.
                    workspace.ok(&["run", "--project", source, "--no-repeat"]);
                }
            });
        }
    });
    let found = workspace.rows("SELECT origin, n FROM log ORDER BY origin, n");
    let expected = ["one", "two"]
        .into_iter()
        .flat_map(|source| (0..=rows).map(move |n| json!({"origin": source, "n": n})));
    assert_eq!(found, Value::Array(expected.collect()));
}

/// Projects that write the same tables.
const PROJECTS: [&str; 4] = ["orders", "returns", "billing", "audit"];

/// Index in `PROJECTS`. From this index on, the projects also compute `totals` from their events.
const FIRST_COUNTED: usize = 2;

/// The target branches. `fork` and `main` change the same accounts and `totals`, so their merge may
/// conflict. `apart` changes other accounts, and not `totals`.
const BRANCHES: [&str; 3] = ["main", "fork", "apart"];

/// The number of accounts: the first half for `main` and `fork`, the second half for `apart`.
const ACCOUNTS: usize = 6;

/// Exit code of a conflict.
const CONFLICT: i32 = 4;

/// One run of a project: appends an event, and recomputes the row of an account from the account's
/// events. The results depend on earlier runs, so a lost update changes the results.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ProjectRun {
    /// A power of two: the sum of ids identifies the set of runs, so that two different sets never
    /// result in the same row.
    id: u64,
    account: usize,
    project: &'static str,
    is_counted: bool,
    branch: &'static str,
}

impl ProjectRun {
    fn new(index: usize) -> Self {
        let branch = BRANCHES[index % BRANCHES.len()];
        let is_apart = branch == "apart";
        let project = index % if is_apart { FIRST_COUNTED } else { PROJECTS.len() };
        let half = ACCOUNTS / 2;
        let account = index / BRANCHES.len() % half + if is_apart { half } else { 0 };
        let (is_counted, project) = (project >= FIRST_COUNTED, PROJECTS[project]);
        ProjectRun { id: 1 << index, account, project, is_counted, branch }
    }

    /// Executes the run. Returns false if it ended with a conflict. Any other failure is an error.
    fn execute(self, workspace: &Workspace) -> bool {
        let (id, account) = (format!("id={}", self.id), format!("account={}", self.account));
        let place = ["--project", self.project, "--ref", self.branch];
        let parameters = ["--param", id.as_str(), "--param", account.as_str()];
        let answer = workspace.run(&[&["run"][..], &place, &parameters].concat());
        if answer.code == 0 {
            return true;
        }
        let error = answer.stderr;
        assert_eq!(answer.code, CONFLICT, "{error}");
        // Appended rows never conflict. But two concurrent runs conflict if both append an event
        // and compute rows from events.
        let read = ["events"].as_slice();
        let changed = ["accounts", "totals"].as_slice();
        let says = [("tables that the run read", read), ("the same tables", changed)];
        let named = says.into_iter().find_map(|(what, tables)| {
            let (_, names) = error.split_once(&format!("changed {what}: "))?;
            Some((names.lines().next().unwrap_or_default(), tables))
        });
        let (names, tables) = named.unwrap_or_else(|| panic!("{error}"));
        assert!(names.split(", ").all(|name| tables.contains(&name)), "{error}");
        false
    }
}

/// Creates the projects, and branches with the same tables.
fn projects() -> Workspace {
    let workspace = Workspace::new();
    let takeover = "-- headwater: allow_takeover = true\n";
    for (index, project) in PROJECTS.iter().enumerate() {
        let is_counted = index >= FIRST_COUNTED;
        let manifest = format!(
            "[project]\nname = \"{project}\"\n\n[parameters.id]\ntype = \"int\"\n\n\
             [parameters.account]\ntype = \"int\"\n"
        );
        workspace.write(&format!("{project}/headwater.toml"), manifest);
        let events = format!(
            "{takeover}-- headwater: materialization = append\n\
             SELECT $id AS id, $account AS account, {is_counted} AS counted\n"
        );
        workspace.write(&format!("{project}/events.sql"), events);
        let accounts = format!(
            "{takeover}-- headwater: materialization = merge\n-- headwater: keys = account\n\
             SELECT account, count(*) AS n, sum(id) AS ids FROM events\n\
             WHERE account = $account GROUP BY account\n"
        );
        workspace.write(&format!("{project}/accounts.sql"), accounts);
        let totals = format!(
            "{takeover}-- headwater: materialization = replace\n\
             SELECT count(*) AS n, sum(id) AS ids FROM events WHERE counted\n"
        );
        if is_counted {
            workspace.write(&format!("{project}/totals.sql"), totals);
        }
    }
    for table in [
        "events (id BIGINT, account BIGINT, counted BOOLEAN)".to_owned(),
        // Start without rows, so that parallel runs add the same new keys.
        "accounts AS SELECT value AS account, 0 AS n, 0 AS ids FROM range(0, 0)".to_owned(),
        "totals AS SELECT 0 AS n, 0 AS ids".to_owned(),
    ] {
        workspace.ok(&["query", &format!("CREATE TABLE {table}")]);
    }
    for branch in ["fork", "apart"] {
        workspace.ok(&["branch", "create", branch, "--from", "main"]);
    }
    workspace
}

/// Checks that the tables of a branch have the effects of exactly these runs.
fn check_effects(workspace: &Workspace, branch: &str, runs: &BTreeSet<ProjectRun>) {
    let rows = |sql: &str| workspace.json(&["query", sql, "--ref", branch]);
    let ids: Vec<Value> = runs.iter().map(|run| json!({"id": run.id})).collect();
    assert_eq!(rows("SELECT id FROM events ORDER BY id"), json!(ids), "`{branch}`");
    let sums = |is_included: &dyn Fn(&ProjectRun) -> bool| {
        let ids: Vec<u64> = runs.iter().filter(|run| is_included(run)).map(|run| run.id).collect();
        (ids.len(), ids.iter().sum::<u64>())
    };
    let accounts: Vec<Value> = (0..ACCOUNTS)
        .map(|account| {
            let (n, ids) = sums(&|run: &ProjectRun| run.account == account);
            (account, n, ids)
        })
        .filter(|(_, n, _)| *n > 0)
        .map(|(account, n, ids)| json!({"account": account, "n": n, "ids": ids}))
        .collect();
    let found = rows("SELECT account, n, ids FROM accounts ORDER BY account");
    assert_eq!(found, json!(accounts), "`{branch}`");
    let (n, ids) = sums(&|run: &ProjectRun| run.is_counted);
    let totals = json!([{"n": n, "ids": ids}]);
    assert_eq!(rows("SELECT n, ids FROM totals"), totals, "`{branch}`");
}

#[test]
fn soak_parallel_runs_of_several_projects_have_a_serial_outcome_or_name_the_conflict() {
    let runs = count(8, 50);
    let workspace = projects();
    let ended: Vec<(ProjectRun, bool)> = std::thread::scope(|scope| {
        let workspace = &workspace;
        let started: Vec<_> = (0..runs)
            .map(|index| {
                let run = ProjectRun::new(index);
                scope.spawn(move || (run, run.execute(workspace)))
            })
            .collect();
        started.into_iter().map(|run| run.join().expect("a run ends")).collect()
    });
    let succeeded = |branch: &str| -> BTreeSet<ProjectRun> {
        let of_branch = ended.iter().filter(|(run, done)| *done && run.branch == branch);
        of_branch.map(|(run, _)| *run).collect()
    };
    for branch in BRANCHES {
        // At least the run that is merged first has no conflict.
        assert!(!succeeded(branch).is_empty(), "no run succeeded on `{branch}`");
        check_effects(&workspace, branch, &succeeded(branch));
    }
    let mut merged = succeeded("main");
    workspace.ok(&["branch", "merge", "apart", "--into", "main"]);
    merged.extend(succeeded("apart"));
    check_effects(&workspace, "main", &merged);
    let answer = workspace.run(&["branch", "merge", "fork", "--into", "main"]);
    if answer.code == 0 {
        merged.extend(succeeded("fork"));
    } else {
        let error = answer.stderr;
        assert_eq!(answer.code, CONFLICT, "{error}");
        let names = ["`accounts`", "`totals`"].map(|table| error.contains(table));
        assert!(error.contains("both changed `") && names.contains(&true), "{error}");
    }
    check_effects(&workspace, "main", &merged);
}
