//! Durable writes, compared with one `fdatasync`: creation of a branch in a lake of 5,000 tables,
//! and an append of one row.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use headwater_catalog::{CommitRequest, EntryKind, TableChange, TableEntry};
use headwater_lake::Lake;
use headwater_model::{CreateRef, RefSpec, TableName};

use crate::Outcome;
use crate::report::Report;
use crate::sample::{SyncProbe, median};

const TABLES: usize = 5_000;
const SAMPLES: usize = 300;

/// Measures the durable writes, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    let mut probe = SyncProbe::new(folder.path())?;
    branches(report, &lake, &mut probe, "create a branch, no tables").await?;
    add_tables(&lake, "main", TABLES).await?;
    branches(report, &lake, &mut probe, "create a branch, 5,000 tables").await?;
    append(report, &lake, &mut probe).await
}

async fn branches(
    report: &mut Report,
    lake: &Lake,
    probe: &mut SyncProbe,
    what: &str,
) -> Outcome<()> {
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for index in 0..SAMPLES {
        reference.push(probe.sample()?);
        let name = format!("{}/{index}", what.replace([' ', ','], "-"));
        let request = CreateRef { name, from: Some(RefSpec::main()), if_not_exists: false };
        let began = Instant::now();
        lake.catalog().create_branch(request).await?;
        ours.push(began.elapsed());
    }
    report.ratio(what, median(ours), ("one fdatasync", median(reference)), 3.0);
    Ok(())
}

/// Adds tables without files to the catalog. The tables of `main` have the names `main_0`, `main_1`
/// and so on.
pub async fn add_tables(lake: &Lake, branch: &str, count: usize) -> Outcome<()> {
    let changes = (0..count).map(|index| {
        let entry = TableEntry {
            kind: EntryKind::Table,
            id: uuid::Uuid::new_v4().to_string(),
            metadata_location: format!("file:///nowhere/{index}/v1.metadata.json"),
            snapshot: Some(index as i64),
            operation: "created".to_owned(),
            owner: None,
        };
        let table = TableName::new("public", format!("{branch}_{index}"))?;
        Ok(TableChange { table, from: None, to: Some(entry) })
    });
    let changes = changes.collect::<Outcome<Vec<_>>>()?;
    let request = CommitRequest {
        branch: branch.to_owned(),
        changes,
        author: "bench".to_owned(),
        message: "add tables".to_owned(),
        ..CommitRequest::default()
    };
    lake.catalog().commit(request).await?;
    Ok(())
}

async fn append(report: &mut Report, lake: &Lake, probe: &mut SyncProbe) -> Outcome<()> {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]));
    let table = TableName::new("public", "one_row_at_a_time")?;
    let mut transaction = lake.transaction("main", "bench").await?;
    transaction
        .create(&table, Arc::clone(&schema), Vec::new(), std::collections::BTreeMap::new())
        .await?;
    transaction.commit("create").await?;
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for index in 0..SAMPLES {
        reference.push(probe.sample()?);
        let column = Arc::new(Int64Array::from(vec![index as i64]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
        let began = Instant::now();
        let mut transaction = lake.transaction("main", "bench").await?;
        transaction.append(&table, futures::stream::iter([Ok(batch)]).boxed()).await?;
        transaction.commit("append").await?;
        ours.push(began.elapsed());
    }
    let reference = ("one fdatasync", median(reference));
    report.ratio("append one row to a table", median(ours), reference, 12.0);
    Ok(())
}
