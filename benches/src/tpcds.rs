//! TPC-DS, scale factor 1, 99 queries. DuckDB's `tpcds` extension generates the data and the
//! queries.

use std::fs::File;

use headwater_lake::Lake;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Outcome;
use crate::duckdb::DuckDb;
use crate::queries::{Engines, Query, load};
use crate::report::Report;

const ROUNDS: usize = 3;

/// Adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let threads = std::thread::available_parallelism()?.get();
    let mut duckdb = DuckDb::start(folder.path(), threads)?;
    duckdb.load_extensions(&["tpcds"])?;
    duckdb.query("CALL dsdgen(sf = 1)")?;
    let tables = duckdb.texts("SELECT table_name FROM duckdb_tables() ORDER BY table_name")?;
    let lake = Lake::open_local(folder.path()).await?;
    for table in &tables {
        let file = folder.path().join(format!("{table}.parquet"));
        duckdb.query(&format!("COPY {table} TO '{}' (FORMAT parquet)", file.display()))?;
        duckdb.query(&format!("DROP TABLE {table}"))?;
        let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(&file)?)?.build()?;
        load(&lake, table, rows).await?;
        std::fs::remove_file(&file)?;
    }
    let queries = queries(&mut duckdb)?;
    let mut engines = Engines::open(&lake, &tables, folder.path(), duckdb).await?;
    engines.compare(report, ("TPC-DS SF1", None), &queries, ROUNDS).await
}

fn queries(duckdb: &mut DuckDb) -> Outcome<Vec<Query>> {
    let texts = duckdb.texts("SELECT query FROM tpcds_queries() ORDER BY query_nr")?;
    let query = |(index, sql): (usize, String)| Query {
        name: format!("q{:02}", index + 1),
        sql: sql.trim().trim_end_matches(';').to_owned(),
    };
    Ok(texts.into_iter().enumerate().map(query).collect())
}
