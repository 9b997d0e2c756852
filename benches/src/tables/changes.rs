//! Merge-on-read DELETE and MERGE of 1 % of TPC-H's lineitem, compared with DuckDB on the same
//! Iceberg table.
//!
//! Each statement runs on a new branch; DuckDB uses the Iceberg REST catalog.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use headwater_engine::{Engine, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{CreateRef, RefSpec, TableName};
use tpchgen::generators::LineItemGenerator;
use tpchgen_arrow::LineItemArrow;

use super::{answer, engine};
use crate::Outcome;
use crate::python_engine::{DuckDbRelease, PythonEngine};
use crate::report::Report;
use crate::rest_server::RestServer;
use crate::sample::median;

const ROUNDS: usize = 7;
const MODES: &str = "ALTER TABLE lineitem SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read', \
    'write.update.mode' = 'merge-on-read', 'write.merge.mode' = 'merge-on-read')";
const CHANGED: &str = "CREATE TABLE changed AS SELECT l_orderkey, l_linenumber, l_quantity + 1 AS l_quantity \
    FROM lineitem WHERE l_orderkey % 100 = 7";

/// Measures DELETE and MERGE, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    load(&lake).await?;
    let engine = engine(&lake, folder.path())?;
    answer(&engine, MODES).await?;
    answer(&engine, CHANGED).await?;
    let server = RestServer::start(folder.path())?;
    let threads = std::thread::available_parallelism()?.get();
    let mut duck = PythonEngine::duckdb(folder.path(), DuckDbRelease::V1_5_5, threads)?;
    duck.load_iceberg()?;
    for (what, statement) in [
        ("DELETE 1 % of lineitem", "DELETE FROM {in}lineitem WHERE l_orderkey % 100 = 7"),
        (
            "MERGE 1 % of lineitem",
            "MERGE INTO {in}lineitem AS t USING {in}changed AS c \
             ON t.l_orderkey = c.l_orderkey AND t.l_linenumber = c.l_linenumber \
             WHEN MATCHED THEN UPDATE SET l_quantity = c.l_quantity",
        ),
    ] {
        let (mut ours, mut reference) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let name = |engine: &str| format!("{engine}-{}-{round}", &what[..5].to_lowercase());
            let (own, other) = (name("ours"), name("duckdb"));
            branch(&lake, &own).await?;
            branch(&lake, &other).await?;
            let began = Instant::now();
            on_branch(&engine, &own, &statement.replace("{in}", "")).await?;
            ours.push(began.elapsed());
            let attached = format!("round_{}_{round}", &what[..5]);
            duck.query(&server.attach(&other, &attached)?)?;
            // Warm-up: DuckDB's first requests to the catalog are not measured.
            duck.query(&format!("SELECT count(*) FROM {attached}.public.lineitem"))?;
            duck.query(&format!("SELECT count(*) FROM {attached}.public.changed"))?;
            let sql = statement.replace("{in}", &format!("{attached}.public."));
            reference.push(duck.query(&sql)?.0);
            let counts = "SELECT count(*) AS n, sum(l_quantity) AS q FROM lineitem";
            if on_branch(&engine, &own, counts).await? != on_branch(&engine, &other, counts).await?
            {
                return Err(format!("{what}: the rows differ").into());
            }
        }
        let reference = ("DuckDB 1.5.5 over Iceberg REST", median(reference));
        report.ratio(what, median(ours), reference, 1.0);
    }
    Ok(())
}

async fn load(lake: &Lake) -> Outcome<()> {
    let table: TableName = "lineitem".parse()?;
    let source = LineItemArrow::new(LineItemGenerator::new(1.0, 1, 1));
    let schema = arrow::array::RecordBatchReader::schema(&source);
    let mut transaction = lake.transaction("main", "bench").await?;
    let rows = futures::stream::iter(source).boxed();
    transaction.replace(&table, schema, Vec::new(), rows).await?;
    transaction.commit("load").await?;
    Ok(())
}

async fn branch(lake: &Lake, name: &str) -> Outcome<()> {
    let from = Some(RefSpec::main());
    let request = CreateRef { name: name.to_owned(), from, if_not_exists: false };
    lake.catalog().create_branch(request).await?;
    Ok(())
}

/// Runs a statement on a branch and returns its result as text.
async fn on_branch(engine: &Engine, branch: &str, sql: &str) -> Outcome<String> {
    let session = engine.session(SessionOptions::at(RefSpec::Name(branch.to_owned())))?;
    let batches: Vec<_> = session.execute(sql).await?.stream.try_collect().await?;
    Ok(format!("{batches:?}"))
}
