//! Tables of a suite, written to a lake.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use arrow::array::RecordBatchReader;
use futures::StreamExt;
use headwater_lake::Lake;
use headwater_model::{DEFAULT_NAMESPACE, TableName};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Outcome;
use crate::python_engine::PythonEngine;
use crate::report::duration;

/// Writes a table from record batches.
pub async fn load<S>(lake: &Lake, name: &str, source: S) -> Outcome<()>
where
    S: RecordBatchReader + Send + 'static,
{
    let began = Instant::now();
    let schema = source.schema();
    let table = TableName::new(DEFAULT_NAMESPACE, name)?;
    let mut transaction = lake.transaction("main", "bench").await?;
    let batches = futures::stream::iter(source).boxed();
    transaction.replace(&table, schema, Vec::new(), batches).await?;
    transaction.commit("load").await?;
    eprintln!("loaded {name} in {}", duration(began.elapsed()));
    Ok(())
}

/// Moves a table of DuckDB into a lake; `folder` holds its rows in the meantime.
pub async fn move_table(
    duckdb: &mut PythonEngine,
    lake: &Lake,
    table: &str,
    folder: &Path,
) -> Outcome<()> {
    let file = folder.join(format!("{table}.parquet"));
    duckdb.query(&format!("COPY {table} TO '{}' (FORMAT parquet)", file.display()))?;
    duckdb.query(&format!("DROP TABLE {table}"))?;
    let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(&file)?)?.build()?;
    load(lake, table, rows).await?;
    std::fs::remove_file(&file)?;
    Ok(())
}
