//! Several processes on one file, and processes killed while they write.
//!
//! A child process runs this test binary; an environment variable makes the process a writer. The
//! child prints each number that the store has acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use headwater_store::{KeyRange, RefPrecondition, SqliteStore, Store, WriteBatch};

use crate::suite::{append, count, set, text};

const FILE: &str = "HEADWATER_TEST_FILE";
const COUNTS: &str = "HEADWATER_TEST_COUNTS";

fn spawn(path: &Path, counts: u64) -> Child {
    Command::new(std::env::current_exe().expect("the test program has a path"))
        .args(["--exact", "processes::child", "--nocapture"])
        .env(FILE, path)
        .env(COUNTS, counts.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test program starts again")
}

/// Reads the numbers that the child printed as acknowledged.
fn acknowledged(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let lines = lines.map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
}

/// The child process: increments a counter, endlessly if the number of increments is zero. Does
/// nothing as an ordinary test.
#[tokio::test]
async fn child() {
    let (Ok(path), Ok(counts)) = (std::env::var(FILE), std::env::var(COUNTS)) else { return };
    let store = SqliteStore::open(Path::new(&path)).await.expect("the store opens");
    let counts: u64 = counts.parse().expect("a number");
    let writer = std::process::id().to_string();
    let mut done = 0;
    while counts == 0 || done < counts {
        let number = count(&store, "counter", &writer).await;
        let relaxed = set(&format!("relaxed/{number:06}"), RefPrecondition::Absent, "1");
        store.apply(WriteBatch { relaxed: true, ..relaxed }).await.expect("applied");
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacknowledged {number}")
            .and_then(|()| out.flush())
            .expect("the parent listens");
        done += 1;
    }
}

#[tokio::test]
async fn a_killed_process_loses_no_acknowledged_batch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    let mut acknowledged_max = 0;
    for after in [1, 7, 20, 41] {
        let mut child = spawn(&path, 0);
        let mut numbers = acknowledged(&mut child);
        let last = numbers.by_ref().take(after).last().expect("the child writes");
        child.kill().expect("killed");
        child.wait().expect("ended");
        acknowledged_max = numbers.last().unwrap_or(last).max(acknowledged_max);
        let store = SqliteStore::open(&path).await.expect("the store opens");
        let counter = store.reference("counter").await.expect("read").expect("counted");
        let counter: u64 = String::from_utf8_lossy(&counter).parse().expect("a number");
        assert!(
            counter == acknowledged_max || counter == acknowledged_max + 1,
            "{counter} after {acknowledged_max} was acknowledged"
        );
        let entries = store.scan("counter", &KeyRange::all()).await.expect("read");
        assert_eq!(entries.len() as u64, counter, "ref and journal change atomically");
        let relaxed = store.references("relaxed/", None, usize::MAX).await.expect("read");
        assert!(
            relaxed.len() as u64 >= acknowledged_max,
            "{} after {acknowledged_max}",
            relaxed.len()
        );
        // The killed child may have stored one more number without printing it.
        acknowledged_max = counter;
        if relaxed.len() as u64 != counter {
            let missing = set(&format!("relaxed/{counter:06}"), RefPrecondition::Absent, "1");
            store.apply(missing).await.expect("applied");
        }
    }
}

#[tokio::test]
async fn concurrent_processes_lose_no_writes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    let mut children = [60, 60, 60].map(|counts| spawn(&path, counts));
    let mut numbers: Vec<u64> = Vec::new();
    for child in &mut children {
        numbers.extend(acknowledged(child));
        assert!(child.wait().expect("ended").success());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=180).collect::<Vec<u64>>());
    let store = SqliteStore::open(&path).await.expect("the store opens");
    assert_eq!(store.reference("counter").await.expect("read"), Some(text("180")));
    let entries = store.scan("counter", &KeyRange::all()).await.expect("read");
    for child in &children {
        let writer = text(&child.id().to_string());
        assert_eq!(entries.iter().filter(|entry| entry.value == writer).count(), 60);
    }
    store.apply(append("counter", &[("last", Some("1"))])).await.expect("applied");
}
