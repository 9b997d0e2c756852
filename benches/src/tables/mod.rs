//! Tables and branches. Commits, inserts, branches and merges are compared with one `fdatasync`,
//! and changed rows with DuckDB. Reads with equality deletes are compared with the compacted table.
//! Planning over many files is also measured.

mod branches;
mod changes;
mod commits;
mod equality;
mod inserts;
mod planning;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{Engine, EngineOptions, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{PartitionField, RefSpec, TableName};

use crate::Outcome;
use crate::report::Report;

/// Measures the requested parts, and adds the results to the report.
pub async fn measure(report: &mut Report, wanted: impl Fn(&str) -> bool) -> Outcome<()> {
    if wanted("commits") {
        commits::measure(report).await?;
    }
    if wanted("branches") {
        branches::measure(report).await?;
    }
    if wanted("inserts") {
        inserts::measure(report).await?;
    }
    if wanted("planning") {
        planning::measure(report).await?;
    }
    if wanted("changes") {
        changes::measure(report).await?;
    }
    if wanted("equality") {
        equality::measure(report).await?;
    }
    Ok(())
}

/// Returns the schema of tables with one integer column.
fn numbers() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]))
}

fn batch(values: Vec<i64>) -> Outcome<RecordBatch> {
    Ok(RecordBatch::try_new(numbers(), vec![Arc::new(Int64Array::from(values))])?)
}

/// Creates tables with one integer column, in one commit.
async fn create(lake: &Lake, tables: &[TableName], partition: &[PartitionField]) -> Outcome<()> {
    let mut transaction = lake.transaction("main", "bench").await?;
    for table in tables {
        transaction.create(table, numbers(), partition.to_vec(), BTreeMap::new()).await?;
    }
    transaction.commit("create").await?;
    Ok(())
}

/// Appends rows to tables of a branch, in one commit.
async fn append(lake: &Lake, branch: &str, tables: &[TableName], values: &[i64]) -> Outcome<()> {
    let mut transaction = lake.transaction(branch, "bench").await?;
    for table in tables {
        let rows = futures::stream::iter([Ok(batch(values.to_vec())?)]).boxed();
        transaction.append(table, rows).await?;
    }
    transaction.commit("append").await?;
    Ok(())
}

fn engine(lake: &Lake, folder: &std::path::Path) -> Outcome<Engine> {
    let options = EngineOptions { spill_dir: folder.join("spill"), ..EngineOptions::default() };
    Ok(Engine::new(lake.clone(), options)?)
}

/// Runs a statement and returns all batches.
async fn answer(engine: &Engine, sql: &str) -> Outcome<Vec<RecordBatch>> {
    let session = engine.session(SessionOptions::at(RefSpec::main()))?;
    let answer = session.execute(sql).await?;
    Ok(answer.stream.try_collect().await?)
}

/// Runs a query and returns the first value of its first column.
async fn number(engine: &Engine, sql: &str) -> Outcome<i64> {
    let batches = answer(engine, sql).await?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).ok_or("no rows")?;
    let column = batch.column(0).as_any().downcast_ref::<Int64Array>();
    Ok(column.ok_or("not an integer column")?.value(0))
}
