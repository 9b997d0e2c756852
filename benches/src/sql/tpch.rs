//! TPC-H, 22 queries, at any scale factor.

use std::path::{Path, PathBuf};

use headwater_lake::Lake;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

use super::compare::{Query, Suite, compare};
use super::engines::{Engines, Reads};
use super::load::load;
use super::text::without_semicolon;
use crate::Outcome;
use crate::report::Report;

const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// Runs TPC-H at scale factor 1, and adds the comparison with DataFusion and DuckDB to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let (lake, mut engines) = open(folder.path(), 1.0, Reads::Repeated).await?;
    let suite = Suite { rounds: 9, ..suite(1.0, Reads::Repeated)? };
    compare(&mut engines, &suite, folder.path(), report).await?;
    drop(lake);
    Ok(())
}

/// Runs TPC-H, and adds the comparison with all references to the report.
pub async fn measure_all(report: &mut Report, scale: f64, reads: Reads) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let (lake, mut engines) = open(folder.path(), scale, reads).await?;
    engines.add_clients(&lake, &TABLES.map(str::to_owned), folder.path()).await?;
    compare(&mut engines, &suite(scale, reads)?, folder.path(), report).await
}

async fn open(folder: &Path, scale: f64, reads: Reads) -> Outcome<(Lake, Engines)> {
    let lake = Lake::open_local(folder).await?;
    load_tables(&lake, scale).await?;
    let engines = Engines::open(&lake, &TABLES.map(str::to_owned), folder, reads).await?;
    Ok((lake, engines))
}

fn suite(scale: f64, reads: Reads) -> Outcome<Suite> {
    Ok(Suite {
        name: reads.suite(format!("TPC-H SF{scale}")),
        queries: queries()?,
        bounds: &[("DataFusion", 1.0), ("DuckDB 2.0", 1.1), ("DuckDB 1.5.5", 1.0)],
        rounds: 5,
        has_ties: false,
    })
}

/// Returns the 22 queries of TPC-H.
pub fn queries() -> Outcome<Vec<Query>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let read = |number: usize| {
        let name = format!("q{number:02}");
        let sql = std::fs::read_to_string(folder.join(format!("{name}.sql")))?;
        Ok(Query { name, sql: without_semicolon(&sql) })
    };
    (1..=22).map(read).collect()
}

/// Writes the eight tables to a lake.
pub async fn load_tables(lake: &Lake, scale: f64) -> Outcome<()> {
    load(lake, "customer", CustomerArrow::new(CustomerGenerator::new(scale, 1, 1))).await?;
    load(lake, "lineitem", LineItemArrow::new(LineItemGenerator::new(scale, 1, 1))).await?;
    load(lake, "nation", NationArrow::new(NationGenerator::new(scale, 1, 1))).await?;
    load(lake, "orders", OrderArrow::new(OrderGenerator::new(scale, 1, 1))).await?;
    load(lake, "part", PartArrow::new(PartGenerator::new(scale, 1, 1))).await?;
    load(lake, "partsupp", PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1))).await?;
    load(lake, "region", RegionArrow::new(RegionGenerator::new(scale, 1, 1))).await?;
    load(lake, "supplier", SupplierArrow::new(SupplierGenerator::new(scale, 1, 1))).await
}
