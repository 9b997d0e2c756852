//! Planning of a scan of a table with 100,000 data files, with cold and warm caches.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_engine::{Engine, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{PartitionField, RefSpec, TableName, Transform};

use super::{append, create, engine};
use crate::Outcome;
use crate::report::Report;
use crate::sample::median;

const FILES: i64 = 100_000;
const COMMIT: i64 = 1_000;
const COLD: usize = 5;
const WARM: usize = 100;

/// Measures the planning of a scan, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    write(folder.path()).await?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..COLD {
        let lake = Lake::open_local(folder.path()).await?;
        let engine = engine(&lake, folder.path())?;
        cold.push(plan(&engine, 17).await?);
        for round in 0..WARM / COLD {
            warm.push(plan(&engine, round as i64 * 4321).await?);
        }
    }
    let reference = "WHERE value = n, one of 100,000 files remains";
    let what = "plan a scan of 100,000 files";
    report.time(&format!("{what}, warm"), median(warm), reference, Duration::from_millis(5));
    report.time(&format!("{what}, cold"), median(cold), reference, Duration::from_millis(1500));
    Ok(())
}

/// Writes a table with `FILES` partitions of one row each.
async fn write(folder: &Path) -> Outcome<()> {
    let lake = Lake::open_local(folder).await?;
    let table: TableName = "files".parse()?;
    let by_value = PartitionField { column: "value".to_owned(), transform: Transform::Identity };
    create(&lake, std::slice::from_ref(&table), &[by_value]).await?;
    for first in (0..FILES).step_by(COMMIT as usize) {
        let values: Vec<i64> = (first..first + COMMIT).collect();
        append(&lake, "main", std::slice::from_ref(&table), &values).await?;
    }
    Ok(())
}

/// Measures planning, from the statement to the physical plan.
async fn plan(engine: &Engine, value: i64) -> Outcome<Duration> {
    let sql = format!("SELECT value FROM files WHERE value = {value}");
    let began = Instant::now();
    let session = engine.session(SessionOptions::at(RefSpec::main()))?;
    let answer = session.execute(&sql).await?;
    let took = began.elapsed();
    drop(answer);
    Ok(took)
}
