//! Durable commits per second of one writer, of eight writers to separate tables, and of eight
//! writers to one table.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_lake::Lake;
use headwater_model::TableName;

use super::{append, create, engine, number};
use crate::Outcome;
use crate::report::Report;
use crate::sample::{SyncProbe, median};

const WRITERS: usize = 8;
const WINDOW: Duration = Duration::from_secs(10);

/// Measures commits, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    for (what, writers, one) in [
        ("commits, one writer", 1, true),
        ("commits, 8 writers, separate tables", WRITERS, false),
        ("commits, 8 writers, one table", WRITERS, true),
    ] {
        let folder = tempfile::tempdir()?;
        let reference = probe(folder.path())?;
        let lake = Lake::open_local(folder.path()).await?;
        let tables = (0..WRITERS).map(|index| TableName::new("public", format!("t{index}")));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        create(&lake, &tables, &[]).await?;
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let (lake, table) = (lake.clone(), tables[if one { 0 } else { writer }].clone());
            running.spawn(write(lake, table, began));
        }
        let mut made = 0;
        while let Some(written) = running.join_next().await {
            made += written??;
        }
        let took = began.elapsed();
        let engine = engine(&lake, folder.path())?;
        let mut found = 0;
        for table in &tables {
            found += number(&engine, &format!("SELECT count(*) FROM {}", table.name)).await?;
        }
        if found != made {
            return Err(format!("{made} commits acknowledged, {found} rows found").into());
        }
        report.rate(what, made as u64, took, ("one fdatasync", reference), None);
    }
    Ok(())
}

fn probe(folder: &Path) -> Outcome<Duration> {
    let mut probe = SyncProbe::new(folder)?;
    let samples = (0..100).map(|_| probe.sample()).collect::<Result<Vec<_>, _>>()?;
    Ok(median(samples))
}

/// Commits single rows until the window ends, and returns their number.
async fn write(lake: Lake, table: TableName, began: Instant) -> Outcome<i64> {
    let mut made = 0;
    while began.elapsed() < WINDOW {
        append(&lake, "main", std::slice::from_ref(&table), &[made]).await?;
        made += 1;
    }
    Ok(made)
}
