//! Durable single-row INSERTs per second from concurrent sessions for one minute. Then checks that
//! compaction keeps the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use headwater_engine::Engine;
use headwater_lake::Lake;
use headwater_model::{MaintainRequest, TableName};
use tokio_util::sync::CancellationToken;

use super::{answer, create, engine, number};
use crate::Outcome;
use crate::report::Report;
use crate::sample::{SyncProbe, median};

const SESSIONS: usize = 32;
const WINDOW: Duration = Duration::from_secs(60);

/// Measures the INSERTs, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut probe = SyncProbe::new(folder.path())?;
    let samples = (0..100).map(|_| probe.sample()).collect::<Result<Vec<_>, _>>()?;
    let lake = Lake::open_local(folder.path()).await?;
    let table = TableName::new("public", "clicks")?;
    create(&lake, std::slice::from_ref(&table), &[]).await?;
    let engine = engine(&lake, folder.path())?;
    let next = Arc::new(AtomicI64::new(0));
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..SESSIONS {
        running.spawn(write(engine.clone(), next.clone(), began));
    }
    let mut made = 0_i64;
    while let Some(written) = running.join_next().await {
        made += written??;
    }
    let took = began.elapsed();
    let reference = ("one fdatasync", median(samples));
    report.rate("single-row inserts, 32 sessions", made as u64, took, reference, Some(300));
    let expected = made * (made - 1) / 2;
    check(&engine, made, expected).await?;
    let request = MaintainRequest { compact: true, ..MaintainRequest::default() };
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    lake.maintenance().run("main", Some(&table), &request, progress, cancelled).await?;
    check(&engine, made, expected).await
}

async fn check(engine: &Engine, rows: i64, sum: i64) -> Outcome<()> {
    let found = number(engine, "SELECT count(*) FROM clicks").await?;
    let added = number(engine, "SELECT sum(value) FROM clicks").await?;
    if (found, added) == (rows, sum) {
        return Ok(());
    }
    Err(format!("{rows} rows acknowledged, {found} found").into())
}

/// Inserts single rows until the window ends, and returns their number.
async fn write(engine: Engine, next: Arc<AtomicI64>, began: Instant) -> Outcome<i64> {
    let mut made = 0;
    while began.elapsed() < WINDOW {
        let value = next.fetch_add(1, Ordering::Relaxed);
        answer(&engine, &format!("INSERT INTO clicks VALUES ({value})")).await?;
        made += 1;
    }
    Ok(made)
}
