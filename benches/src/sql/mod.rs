//! Suites of queries on Headwater's Iceberg tables: `cargo xtask bench sql`.
//!
//! The references are DataFusion, DuckDB 2.0 and polars on the same Parquet files, and DuckDB 1.5.5
//! over Headwater's Iceberg REST endpoint. The engines alternate for each query, and the best of
//! five times counts. Rows that differ from DuckDB's are an error.

mod clickbench;
mod compare;
mod engines;
mod load;
mod memory;
mod text;
mod tpcds;
pub mod tpch;

use engines::Reads;

use crate::Outcome;
use crate::report::Report;

/// Runs the named suites, and adds the results to the report. A name may include a scale, as in
/// `tpch=10`. After the name `first`, each query decodes its columns again. Without names of
/// suites, all suites run, and TPC-H runs at scale factors 1 and 10.
pub async fn measure(report: &mut Report, suites: &[&str]) -> Outcome<()> {
    let all = ["tpch=1", "tpch=10", "tpcds", "clickbench=1", "memory=10"];
    let (reads, suites) = match suites {
        ["first", suites @ ..] => (Reads::First, suites),
        suites => (Reads::Repeated, suites),
    };
    for suite in if suites.is_empty() { &all[..] } else { suites } {
        let (name, scale) = suite.split_once('=').unwrap_or((suite, "1"));
        let scale: f64 = scale.parse()?;
        match name {
            "tpch" => tpch::measure_all(report, scale, reads).await?,
            "tpcds" => tpcds::measure(report, scale, reads).await?,
            "clickbench" => clickbench::measure(report, scale, reads).await?,
            "memory" => memory::measure(report, scale).await?,
            _ => return Err(format!("unknown suite `{name}`").into()),
        }
    }
    Ok(())
}
