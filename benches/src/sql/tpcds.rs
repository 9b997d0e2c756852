//! TPC-DS, 99 queries, at any scale factor. DuckDB's `tpcds` extension generates the data and the
//! queries.

use headwater_lake::Lake;

use super::compare::{Query, Suite, compare};
use super::engines::{Engines, Reads};
use super::load::move_table;
use super::text::without_semicolon;
use crate::Outcome;
use crate::python_engine::{DuckDbRelease, PythonEngine};
use crate::report::Report;

/// Runs TPC-DS, and adds the results to the report.
pub async fn measure(report: &mut Report, scale: f64, reads: Reads) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let threads = std::thread::available_parallelism()?.get();
    let mut duckdb = PythonEngine::duckdb(folder.path(), DuckDbRelease::V1_5_5, threads)?;
    duckdb.load_extensions(&["tpcds"])?;
    duckdb.query(&format!("CALL dsdgen(sf = {scale})"))?;
    let tables = duckdb.texts("SELECT table_name FROM duckdb_tables() ORDER BY table_name")?;
    let lake = Lake::open_local(folder.path()).await?;
    for table in &tables {
        move_table(&mut duckdb, &lake, table, folder.path()).await?;
    }
    let suite = Suite {
        name: reads.suite(format!("TPC-DS SF{scale}")),
        queries: queries(&mut duckdb)?,
        bounds: &[("DataFusion", 1.0), ("DuckDB 2.0", 1.5), ("DuckDB 1.5.5", 1.0)],
        rounds: 5,
        has_ties: false,
    };
    drop(duckdb);
    let mut engines = Engines::open(&lake, &tables, folder.path(), reads).await?;
    engines.add_clients(&lake, &tables, folder.path()).await?;
    compare(&mut engines, &suite, folder.path(), report).await
}

fn queries(duckdb: &mut PythonEngine) -> Outcome<Vec<Query>> {
    let texts = duckdb.texts("SELECT query FROM tpcds_queries() ORDER BY query_nr")?;
    let query = |(index, sql): (usize, String)| Query {
        name: format!("q{:02}", index + 1),
        sql: without_semicolon(&sql),
    };
    Ok(texts.into_iter().enumerate().map(query).collect())
}
