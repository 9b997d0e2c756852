//! Runs whose server is killed at a random moment. The target has either all tables as before the
//! run, or all tables as after the run. After a retry, the tables equal those of another lake,
//! whose runs were not interrupted.
//!
//! The test kills four runs; `cargo xtask soak` kills a hundred. `HEADWATER_SEEDS_FROM` sets the
//! seed of the random moments.

mod support;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Answer, Workspace, count, until};

const PROJECT: &str = "[project]\nname = \"shop\"\n\n[parameters.batch]\ntype = \"int\"\n";

/// The SQL models: file, settings, query.
const SQL: [(&str, &str, &str); 4] = [
    (
        "customers",
        "materialization = replace",
        "SELECT customer, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY customer",
    ),
    (
        "history",
        "materialization = append",
        "SELECT $batch AS batch, customer, n, amount FROM customers",
    ),
    (
        "copies",
        "materialization = append\n-- headwater: incremental = orders",
        "SELECT id, customer, amount, CAST(amount AS DOUBLE) / 3 AS third FROM orders",
    ),
    (
        "latest",
        "materialization = merge\n-- headwater: keys = customer\n\
         -- headwater: incremental = copies",
        "SELECT customer, max(id) AS id FROM copies GROUP BY customer",
    ),
];

/// The Python models and the expectation.
const PYTHON: &str = r#"import math

import headwater


@headwater.model(materialization="replace")
@headwater.python(pip={})
def scores(customers=headwater.Model("customers")):
    rows = sorted(customers.to_pylist(), key=lambda row: row["customer"])
    return [{"customer": row["customer"], "score": math.sqrt(row["amount"]) / 7} for row in rows]


@headwater.model(materialization="append")
@headwater.python(pip={})
def ledger(scores=headwater.Model("scores"), batch=headwater.Parameter("batch")):
    rows = sorted(scores.to_pylist(), key=lambda row: row["customer"])
    return [{"batch": batch, "total": sum(row["score"] for row in rows)}]


@headwater.expectation()
@headwater.python(pip={})
def batches_are_unique(ledger=headwater.Model("ledger")):
    batches = ledger["batch"].to_pylist()
    return len(batches) == len(set(batches))
"#;

/// The number of orders in each batch.
const ORDERS: usize = 20;

/// The tables to which files are added. Automatic maintenance would commit to `main` between two
/// runs, so it is disabled for these tables.
const GROWING: [&str; 5] = ["orders", "history", "copies", "latest", "ledger"];

/// Creates a lake in which the run of the first batch has succeeded.
fn lake() -> Workspace {
    let workspace = Workspace::empty();
    workspace.write("headwater.toml", PROJECT);
    for (name, settings, query) in SQL {
        let text = format!("-- headwater: {settings}\n{query}\n");
        workspace.write(&format!("models/{name}.sql"), text);
    }
    workspace.write("models/scores.py", PYTHON);
    workspace.ok(&["init"]);
    workspace.ok(&["query", &format!("CREATE TABLE orders AS {}", orders(0))]);
    workspace.ok(&["run", "--param", &parameter(0)]);
    for table in GROWING {
        let property = "'headwater.maintenance.enabled' = 'false'";
        workspace.ok(&["query", &format!("ALTER TABLE {table} SET TBLPROPERTIES ({property})")]);
    }
    workspace
}

fn parameter(batch: usize) -> String {
    format!("batch={batch}")
}

/// Returns the query of a batch's orders.
fn orders(batch: usize) -> String {
    let (first, end) = (batch * ORDERS, (batch + 1) * ORDERS);
    format!(
        "SELECT value AS id, value % 5 AS customer, value * 37 % 101 AS amount \
         FROM range({first}, {end})"
    )
}

/// A table of `main`.
#[derive(Debug, PartialEq)]
struct Table {
    /// Names and types of the columns.
    columns: Vec<(String, String)>,
    /// The rows as text, sorted. Different values have different texts, also for `DOUBLE`.
    rows: Vec<String>,
}

/// The head of `main` and its tables.
struct State {
    commit: String,
    /// Snapshots and metadata files by table name.
    versions: BTreeMap<String, [Value; 2]>,
    tables: BTreeMap<String, Table>,
}

impl State {
    fn read(workspace: &Workspace) -> Self {
        let branches = workspace.json(&["branch", "ls"]);
        let branches = branches.as_array().expect("branches");
        let main = branches.iter().find(|branch| branch["name"] == "main").expect("main");
        let listed = workspace.json(&["table", "ls", "--ref", "main"]);
        let (mut versions, mut tables) = (BTreeMap::new(), BTreeMap::new());
        for table in listed.as_array().expect("tables") {
            let name = text(&table["name"]);
            let version = [table["snapshot"].clone(), table["metadata_location"].clone()];
            versions.insert(name.clone(), version);
            let columns = table["columns"].as_array().expect("columns").iter();
            let columns = columns.map(|column| (text(&column["name"]), text(&column["type"])));
            tables.insert(name, Table { columns: columns.collect(), rows: Vec::new() });
        }
        for row in workspace.rows(&rows_query(&tables)).as_array().expect("rows") {
            let table = tables.get_mut(&text(&row["name"])).expect("a table");
            table.rows.push(text(&row["content"]));
        }
        State { commit: text(&main["commit"]), versions, tables }
    }

    /// Checks that the tables have the same columns and rows.
    fn assert_tables(&self, expected: &State, what: &str) {
        let names = |state: &State| state.tables.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(expected), "{what}");
        for (name, table) in &self.tables {
            assert_eq!(table, &expected.tables[name], "`{name}`: {what}");
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Returns a query of the rows of all tables, as text.
fn rows_query(tables: &BTreeMap<String, Table>) -> String {
    let selects = tables.iter().map(|(name, table)| {
        let values = table.columns.iter();
        let values = values.map(|(name, _)| format!("coalesce(CAST(\"{name}\" AS VARCHAR), '')"));
        let content = values.collect::<Vec<_>>().join(" || '|' || ");
        format!("SELECT '{name}' AS name, {content} AS content FROM \"{name}\"")
    });
    let all = selects.collect::<Vec<_>>().join(" UNION ALL ");
    format!("SELECT name, content FROM ({all}) AS contents ORDER BY name, content")
}

/// Returns a pseudo-random fraction from 0 to 1.
fn fraction(seed: u64, round: usize) -> f64 {
    let mut hasher = DefaultHasher::new();
    (seed, round).hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}

/// Returns the newest run, or null.
fn newest_run(workspace: &Workspace) -> Value {
    workspace.json(&["job", "ls", "--kind", "run", "--limit", "1"])[0].clone()
}

/// A run whose server was killed.
struct KilledRun {
    /// The answer of the command, which connects to the next server.
    answer: Answer,
    /// The job after its end; null if the server was killed before it stored the job.
    job: Value,
}

impl KilledRun {
    /// Starts a run, and kills the server after a delay.
    fn start(workspace: &Workspace, batch: usize, delay: Duration) -> Self {
        let before = newest_run(workspace)["id"].clone();
        let run = workspace.start(&["run", "--param", &parameter(batch)]);
        // The moment of the kill is random, so no condition is awaited.
        std::thread::sleep(delay);
        workspace.kill_server();
        let answer = support::answer(run.wait_with_output().expect("the command ends"));
        let mut job = Value::Null;
        until("the run has ended", || {
            let newest = newest_run(workspace);
            job = if newest["id"] == before { Value::Null } else { newest };
            job["status"] != "queued" && job["status"] != "running"
        });
        KilledRun { answer, job }
    }

    /// Completes the run: continues the interrupted run, or starts it again if there is no job.
    fn complete(&self, workspace: &Workspace, batch: usize, what: &str) {
        match self.job["status"].as_str() {
            None => {
                workspace.ok(&["run", "--param", &parameter(batch)]);
            }
            Some("interrupted") => {
                workspace.ok(&["run", "--retry", &text(&self.job["id"])]);
            }
            status => assert_eq!(status, Some("succeeded"), "{what}\n{}", self.answer.stderr),
        }
    }
}

/// Two lakes with the same inputs and runs.
struct Lakes {
    /// The lake whose runs are not interrupted.
    whole: Workspace,
    /// The lake whose server is killed.
    killed: Workspace,
    seed: u64,
}

impl Lakes {
    /// Runs a batch in both lakes and compares their tables. The run's usual duration is divided
    /// into `parts`; the server is killed during the part number `part`. Returns true if the run
    /// was interrupted.
    fn execute(&self, batch: usize, part: usize, parts: usize) -> bool {
        let insert = format!("INSERT INTO orders {}", orders(batch));
        for workspace in [&self.whole, &self.killed] {
            workspace.ok(&["query", &insert]);
        }
        let begin = Instant::now();
        self.whole.ok(&["run", "--param", &parameter(batch)]);
        let usual = begin.elapsed();
        let expected = State::read(&self.whole);
        let before = State::read(&self.killed);
        let moment = (part as f64 + fraction(self.seed, batch)) / parts as f64;
        let run = KilledRun::start(&self.killed, batch, usual.mul_f64(moment));
        let status = &run.job["status"];
        let what = format!("batch {batch} of seed {}, killed at {moment:.3}, {status}", self.seed);
        let after = State::read(&self.killed);
        let is_merged = after.commit != before.commit;
        if is_merged {
            after.assert_tables(&expected, &what);
        } else {
            assert_eq!(after.versions, before.versions, "{what}");
            after.assert_tables(&before, &what);
        }
        let is_reported = *status == "succeeded" || run.answer.code == 0;
        assert!(is_merged || !is_reported, "a run succeeded without a merge: {what}");
        assert!(!is_merged || !status.is_null(), "a run without a job is merged: {what}");
        run.complete(&self.killed, batch, &what);
        State::read(&self.killed).assert_tables(&expected, &what);
        let branches = self.killed.json(&["branch", "ls"]);
        assert_eq!(branches.as_array().map(Vec::len), Some(1), "{what}: {branches}");
        *status == "interrupted"
    }
}

#[test]
fn soak_a_killed_run_leaves_its_target_unchanged_and_its_retry_equals_an_unbroken_run() {
    let rounds = count(4, 100);
    let seed = std::env::var("HEADWATER_SEEDS_FROM").ok();
    let seed: Option<u64> = seed.and_then(|text| text.parse().ok());
    let (whole, killed) = std::thread::scope(|scope| {
        let whole = scope.spawn(lake);
        let killed = lake();
        (whole.join().expect("a lake"), killed)
    });
    let lakes = Lakes { whole, killed, seed: seed.unwrap_or_default() };
    State::read(&lakes.killed).assert_tables(&State::read(&lakes.whole), "the first run");
    // Each part of the run's duration has the same number of kills.
    let parts = 4;
    let mut interrupted = 0;
    for round in 0..rounds {
        interrupted += usize::from(lakes.execute(round + 1, round % parts, parts));
    }
    assert!(interrupted * 4 >= rounds, "{interrupted} of {rounds} runs were interrupted");
    let batches = lakes.killed.rows("SELECT count(*) AS n, max(batch) AS batch FROM ledger");
    assert_eq!(batches, json!([{"n": rounds + 1, "batch": rounds}]));
}
