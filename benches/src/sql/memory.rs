//! TPC-H at scale factor 10 within a limit of memory: one session, and sixteen sessions at once.

use std::time::{Duration, Instant};

use headwater_lake::Lake;

use super::engines::{Headwater, Reads};
use super::tpch;
use crate::Outcome;
use crate::report::{Report, duration};

const SESSIONS: usize = 16;
const ONE_SESSION_BYTES: u64 = 2 << 30;
const ALL_SESSIONS_BYTES: u64 = 8 << 30;

/// Runs TPC-H in limited memory at a scale factor, and adds the results to the report.
pub async fn measure(report: &mut Report, scale: f64) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    tpch::load_tables(&lake, scale).await?;
    let engine = Headwater::open(&lake, folder.path(), ONE_SESSION_BYTES, Reads::Repeated)?;
    let began = Instant::now();
    reset_resident_peak()?;
    let failures = session(&engine, 0).await?;
    add(report, &format!("TPC-H SF{scale}, 2 GiB"), &failures, began.elapsed())?;
    drop(engine);

    let engine = Headwater::open(&lake, folder.path(), ALL_SESSIONS_BYTES, Reads::Repeated)?;
    let began = Instant::now();
    reset_resident_peak()?;
    let mut running = tokio::task::JoinSet::new();
    for first in 0..SESSIONS {
        let engine = engine.clone();
        running.spawn(async move { session(&engine, first).await });
    }
    let mut failures = Vec::new();
    while let Some(finished) = running.join_next().await {
        failures.extend(finished??);
    }
    let what = format!("{SESSIONS} sessions of TPC-H SF{scale}, 8 GiB");
    add(report, &what, &failures, began.elapsed())
}

/// Runs the 22 queries of TPC-H, starting with number `first`. Returns the failures.
async fn session(engine: &Headwater, first: usize) -> Outcome<Vec<String>> {
    let mut queries = tpch::queries()?;
    let count = queries.len();
    queries.rotate_left(first % count);
    let mut failures = Vec::new();
    for query in queries {
        if let Err(error) = engine.run(&query.sql).await {
            failures.push(format!("{}: {error}", query.name));
        }
    }
    Ok(failures)
}

fn add(report: &mut Report, what: &str, failures: &[String], took: Duration) -> Outcome<()> {
    for failure in failures {
        eprintln!("{what}: {failure}");
    }
    let peak = resident_peak_bytes()? as f64 / f64::from(1 << 30);
    let measured = format!("{} failures, {}", failures.len(), duration(took));
    report.plain(what, &measured, &format!("process at most {peak:.1} GiB"), "0 failures");
    Ok(())
}

/// Starts a new measurement of the largest resident memory of this process.
fn reset_resident_peak() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

/// Returns the largest resident memory since the last reset.
fn resident_peak_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}
