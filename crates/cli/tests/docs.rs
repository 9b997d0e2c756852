//! Every snippet in the docs runs, and each example runs as its README says.
//!
//! The snippets of a document run in one folder, in order. The tag of a fenced block determines its
//! use. With a path, such as `sql models/a.sql`, the block is written to that file. With `sh`, bash
//! runs the block, which must succeed; with `sh fails`, it must fail. With `sh elsewhere`, the
//! block runs in another folder, with a server of the lake at [`URL`]. With only `sql`, the
//! statements run in order. Blocks with the tags `text` or `toml`, or without a tag, are ignored.
//! `cargo run --release --` is replaced by the built command. Lines that build or test the
//! repository are skipped.

#[expect(dead_code, reason = "used only by tests of triggers")]
#[path = "../../triggers/tests/triggers/kafka_server.rs"]
mod kafka_server;
#[expect(dead_code, reason = "used only by tests of triggers")]
#[path = "../../triggers/tests/triggers/servers.rs"]
mod servers;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kafka_server::KafkaProcess;
use servers::{NatsProcess, PostgresProcess};
use support::{Workspace, until};

/// The URL of a server in the docs.
const URL: &str = "https://lake.example.com:4280";

struct Block {
    tag: String,
    line: usize,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(tag)) => {
                let (tag, line) = (tag.trim().to_owned(), index + 1);
                open = Some(Block { tag, line, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn run_document(document: &Path) {
    play_in(&Workspace::empty(), document);
}

/// A guard that stops the server of the folder when dropped, also after a failed snippet.
struct Stop(PathBuf);

impl Drop for Stop {
    fn drop(&mut self) {
        let mut stop = Command::new(env!("CARGO_BIN_EXE_headwater"));
        let _ = stop.arg("stop").current_dir(&self.0).env_remove("HEADWATER_LAKE").output();
    }
}

fn play_in(workspace: &Workspace, document: &Path) {
    let name = document.display();
    let text = std::fs::read_to_string(document).expect("the document");
    let mut folder = Stop(workspace.path().to_owned());
    for block in blocks(&text) {
        let place = format!("{name}:{}", block.line);
        match block.tag.split_once(' ') {
            None if block.tag == "sh" => folder.0 = shell(&folder.0, &block.text, &place, true),
            None if block.tag == "sql" => statements(&folder.0, &block.text, &place),
            Some(("sh", "elsewhere")) => elsewhere(&folder.0, &block.text, &place),
            Some(("sh", "fails")) => folder.0 = shell(&folder.0, &block.text, &place, false),
            Some((_, path)) => write(&folder.0, path, &block.text),
            None => {}
        }
    }
}

/// Runs a block as if on another machine, which has the lake's tokens but no lake.
fn elsewhere(lake: &Path, text: &str, place: &str) {
    let machine = Workspace::empty();
    for entry in std::fs::read_dir(lake).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "token") {
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, machine.path().join(name)).expect("a copy");
        }
    }
    let mut serve = Command::new(env!("CARGO_BIN_EXE_headwater"));
    serve.args(["serve", "--http", "127.0.0.1:0"]).current_dir(lake).env_remove("HEADWATER_LAKE");
    let mut server = serve.stderr(Stdio::null()).spawn().expect("a server");
    let address = || {
        let record = std::fs::read(lake.join(".headwater/server.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        record["http"].as_str().map(|address| format!("http://{address}"))
    };
    until("the server listens", || address().is_some());
    let text = text.replace(URL, &address().expect("an address"));
    shell(machine.path(), &text, place, true);
    server.kill().expect("the server runs");
    server.wait().expect("the server ends");
}

fn statements(folder: &Path, text: &str, place: &str) {
    for statement in text.split(';').filter(|statement| !statement.trim().is_empty()) {
        let mut query = Command::new(env!("CARGO_BIN_EXE_headwater"));
        let query = query.args(["query", statement]).env_remove("HEADWATER_LAKE");
        let answer = support::answer(query.current_dir(folder).output().expect("it runs"));
        assert_eq!(answer.code, 0, "{place}\n{statement}\n{}", answer.stderr);
    }
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// Runs a block and returns its final working folder, where the next block starts.
fn shell(folder: &Path, text: &str, place: &str, succeeds: bool) -> PathBuf {
    let script: String = text
        .lines()
        .filter(|line| !line.starts_with("cargo xtask") && !line.starts_with("cargo install"))
        .map(|line| line.replace("cargo run --release --", "headwater") + "\n")
        .collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_headwater"));
    let programs = binary.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("{script}\npwd > \"$ENDED_IN\"")])
        .env("PATH", format!("{programs}:{path}"))
        .env("ENDED_IN", folder.join(".ended-in"))
        // The Python SDK that belongs to the built binary.
        .env("PYTHONPATH", root().join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("XDG_CONFIG_HOME", folder.join(".config"))
        .env("NO_COLOR", "1")
        .env_remove("HEADWATER_LAKE")
        .current_dir(folder)
        .output();
    let answer = support::answer(output.expect("bash runs"));
    let (out, err) = (&answer.stdout, &answer.stderr);
    assert_eq!(answer.code == 0, succeeds, "{place}\n{script}\n{out}\n{err}");
    let ended = std::fs::read_to_string(folder.join(".ended-in"));
    ended.map_or(folder.to_owned(), |ended| PathBuf::from(ended.trim()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn readme() {
    run_document(&root().join("README.md"));
}

#[test]
fn projects() {
    run_document(&root().join("docs/projects.md"));
}

#[test]
fn python() {
    run_document(&root().join("docs/python.md"));
}

#[test]
fn functions() {
    run_document(&root().join("docs/functions.md"));
}

#[test]
fn bauplan() {
    run_document(&root().join("docs/bauplan.md"));
}

#[test]
fn dbt() {
    run_document(&root().join("docs/dbt.md"));
}

#[test]
fn import() {
    run_document(&root().join("docs/import.md"));
}

#[test]
fn branches() {
    run_document(&root().join("docs/branches.md"));
}

#[test]
fn server() {
    run_document(&root().join("docs/server.md"));
}

#[test]
fn observability() {
    run_document(&root().join("docs/observability.md"));
}

#[test]
fn maintenance() {
    run_document(&root().join("docs/maintenance.md"));
}

#[test]
fn iceberg_rest() {
    run_document(&root().join("docs/iceberg-rest.md"));
}

#[test]
fn postgres() {
    run_document(&root().join("docs/postgres.md"));
}

#[test]
fn flight_sql() {
    run_document(&root().join("docs/flight-sql.md"));
}

#[test]
fn s3() {
    run_document(&root().join("docs/s3.md"));
}

#[test]
fn lambda() {
    run_document(&root().join("docs/lambda.md"));
}

#[test]
fn secrets() {
    run_document(&root().join("docs/secrets.md"));
}

#[test]
fn access() {
    run_document(&root().join("docs/access.md"));
}

#[test]
fn isolation() {
    run_document(&root().join("docs/isolation.md"));
}

#[test]
fn team() {
    run_document(&root().join("docs/team.md"));
}

#[test]
fn events() {
    run_document(&root().join("docs/events.md"));
}

#[test]
fn queues() {
    run_document(&root().join("docs/queues.md"));
}

#[test]
fn triggers() {
    run_document(&root().join("docs/triggers.md"));
}

#[test]
fn message_triggers() {
    let (postgres, nats) = (PostgresProcess::start(), NatsProcess::start(&[]));
    let kafka = KafkaProcess::start_with(&serde_json::json!({}));
    let workspace = Workspace::empty();
    let text = std::fs::read_to_string(root().join("docs/message-triggers.md"));
    let text = text.expect("the document");
    let text = text.replace("127.0.0.1:5432", &format!("127.0.0.1:{}", postgres.port()));
    let text = text.replace("nats://127.0.0.1:4222", &nats.url());
    let text = text.replace("127.0.0.1:9092", kafka.servers());
    let document = workspace.path().join("message-triggers.md");
    std::fs::write(&document, text).expect("a file");
    play_in(&workspace, &document);
}

/// Copies an example's folder to a workspace, and runs its README there.
fn run_example(name: &str, replace: &[(&str, &str)]) {
    let workspace = Workspace::empty();
    copy_folder(&root().join("examples").join(name), workspace.path(), replace);
    play_in(&workspace, &workspace.path().join("README.md"));
}

fn copy_folder(from: &Path, to: &Path, replace: &[(&str, &str)]) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copy = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &copy, replace);
            continue;
        }
        let mut text = std::fs::read_to_string(&path).expect("text");
        for (old, new) in replace {
            text = text.replace(old, new);
        }
        std::fs::write(copy, text).expect("a file");
    }
}

#[test]
fn example_hello() {
    run_example("hello", &[]);
}

#[test]
fn example_csv_to_table() {
    run_example("csv-to-table", &[]);
}

#[test]
fn example_webhook() {
    run_example("webhook", &[]);
}

#[test]
fn example_webhook_node() {
    run_example("webhook-node", &[]);
}

#[test]
fn example_nightly_report() {
    run_example("nightly-report", &[]);
}

#[test]
fn example_postgres_orders() {
    let postgres = PostgresProcess::start();
    let address = format!("127.0.0.1:{}", postgres.port());
    run_example("postgres-orders", &[("127.0.0.1:5432", &address)]);
}

/// The tables used by the document's statements.
const TABLES: [&str; 8] = [
    "airlines AS SELECT * FROM (VALUES ('UA', 'United'), ('EV', 'An Express Line')) AS v (carrier, name)",
    "planes AS SELECT * FROM (VALUES ('N1', 1975), ('N2', 2001)) AS v (tailnum, year)",
    "airports AS SELECT * FROM (VALUES ('BOS', 'XBO')) AS v (code, new_code)",
    "accounts AS SELECT * FROM (VALUES (1, 10.0), (2, 0.0)) AS v (id, balance)",
    "changes AS SELECT * FROM (VALUES (1, 5.0, false), (3, 7.0, false)) AS v (id, amount, closed)",
    "staged AS SELECT * FROM (VALUES (1, 2.0), (4, 8.0)) AS v (id, balance)",
    "places AS SELECT named_struct('name', 'Oslo') AS location, \
     [named_struct('note', 'cold', 'by', 'eva')] AS tags",
    "flights AS SELECT * FROM (VALUES \
     ('UA', 'N1', 1141, 'JFK', 'SFO', 5, 9, TIMESTAMP '2013-01-01 05:00:00'), \
     ('EV', 'N2', 1545, 'EWR', 'BOS', NULL, NULL, TIMESTAMP '2013-01-01 06:00:00'), \
     ('UA', 'N3', 1714, 'LGA', 'IAH', 90, 80, TIMESTAMP '2013-01-01 07:00:00')) \
     AS v (carrier, tailnum, flight, origin, dest, dep_delay, arr_delay, time_hour)",
];

#[test]
fn sql() {
    let workspace = Workspace::new();
    for table in TABLES {
        workspace.ok(&["query", &format!("CREATE TABLE {table}")]);
    }
    workspace.ok(&["query", "INSERT INTO flights SELECT * FROM flights WHERE dest = 'IAH'"]);
    play_in(&workspace, &root().join("docs/sql.md"));
}
