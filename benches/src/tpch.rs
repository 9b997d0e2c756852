//! TPC-H, scale factor 1, 22 queries.

use std::path::PathBuf;

use headwater_lake::Lake;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

use crate::Outcome;
use crate::duckdb::DuckDb;
use crate::queries::{Engines, Query, load};
use crate::report::Report;

const SCALE: f64 = 1.0;
const ROUNDS: usize = 9;
const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// Adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    load_tables(&lake).await?;
    let threads = std::thread::available_parallelism()?.get();
    let duckdb = DuckDb::start(folder.path(), threads)?;
    let tables = TABLES.map(str::to_owned);
    let mut engines = Engines::open(&lake, &tables, folder.path(), duckdb).await?;
    engines.compare(report, ("TPC-H SF1", Some(1.05)), &queries()?, ROUNDS).await
}

fn queries() -> Outcome<Vec<Query>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let read = |number: usize| {
        let name = format!("q{number:02}");
        let sql = std::fs::read_to_string(folder.join(format!("{name}.sql")))?;
        Ok(Query { name, sql: sql.trim_end().trim_end_matches(';').to_owned() })
    };
    (1..=22).map(read).collect()
}

async fn load_tables(lake: &Lake) -> Outcome<()> {
    load(lake, "customer", CustomerArrow::new(CustomerGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "lineitem", LineItemArrow::new(LineItemGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "nation", NationArrow::new(NationGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "orders", OrderArrow::new(OrderGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "part", PartArrow::new(PartGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "partsupp", PartSuppArrow::new(PartSuppGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "region", RegionArrow::new(RegionGenerator::new(SCALE, 1, 1))).await?;
    load(lake, "supplier", SupplierArrow::new(SupplierGenerator::new(SCALE, 1, 1))).await
}
