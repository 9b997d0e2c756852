//! Several processes on one file, and a process that is killed while it writes.
//!
//! A child is this test program itself, told by a variable to write instead of to test. It says on its
//! standard output what the store acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use headwater_store::{Batch, Expected, KeyRange, SqliteStore, Store};

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

/// The numbers that the child was told are kept.
fn acknowledged(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let lines = lines.map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("kept ")?.parse().ok())
}

/// Does nothing as a test; as a child it counts, and never ends where it is given no number.
#[tokio::test]
async fn child() {
    let (Ok(path), Ok(counts)) = (std::env::var(FILE), std::env::var(COUNTS)) else { return };
    let store = SqliteStore::open(Path::new(&path)).await.expect("the store opens");
    let counts: u64 = counts.parse().expect("a number");
    let who = std::process::id().to_string();
    let mut done = 0;
    while counts == 0 || done < counts {
        let number = count(&store, "counter", &who).await;
        let relaxed = set(&format!("relaxed/{number:06}"), Expected::Absent, "1");
        store.apply(Batch { relaxed: true, ..relaxed }).await.expect("applied");
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nkept {number}").and_then(|()| out.flush()).expect("the parent listens");
        done += 1;
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    let mut kept = 0;
    for after in [1, 7, 20, 41] {
        let mut child = spawn(&path, 0);
        let mut numbers = acknowledged(&mut child);
        let last = numbers.by_ref().take(after).last().expect("the child writes");
        child.kill().expect("killed");
        child.wait().expect("ended");
        kept = numbers.last().unwrap_or(last).max(kept);
        let store = SqliteStore::open(&path).await.expect("the store opens");
        let counter = store.reference("counter").await.expect("read").expect("counted");
        let counter: u64 = String::from_utf8_lossy(&counter).parse().expect("a number");
        assert!(counter == kept || counter == kept + 1, "{counter} after {kept} were kept");
        let entries = store.scan("counter", &KeyRange::all()).await.expect("read");
        assert_eq!(entries.len() as u64, counter, "ref and journal stand or fall together");
        let relaxed = store.references("relaxed/", None, usize::MAX).await.expect("read");
        assert!(relaxed.len() as u64 >= kept, "{} after {kept}", relaxed.len());
        // The next child goes on from the number that may not have been acknowledged.
        kept = counter;
        if relaxed.len() as u64 != counter {
            let missing = set(&format!("relaxed/{counter:06}"), Expected::Absent, "1");
            store.apply(missing).await.expect("applied");
        }
    }
}

#[tokio::test]
async fn processes_that_write_at_once_lose_nothing() {
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
        let who = text(&child.id().to_string());
        assert_eq!(entries.iter().filter(|entry| entry.value == who).count(), 60);
    }
    store.apply(append("counter", &[("last", Some("1"))])).await.expect("applied");
}
