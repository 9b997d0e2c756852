//! Runs the scripts of `tests/sql`, each in a separate lake.
//!
//! Besides SQL, a script may contain these commands: `!branch dev` creates a branch of `main`, and
//! `!ref dev` switches to a ref. `!tag v1` creates a tag, and `!protect main` protects a branch.
//! `!namespace sales` sets the namespace of unqualified names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use headwater_engine::{Engine, EngineOptions, SessionOptions, StatementResult};
use headwater_lake::Lake;
use headwater_model::{CreateRef, Problem, RefSpec, ToProblem};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

struct Database {
    engine: Engine,
    options: SessionOptions,
}

/// Formats an error for comparison in scripts: code, message and hint.
#[derive(Debug)]
struct Shown(Problem);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        self.0.hint.iter().try_for_each(|hint| write!(f, " | {hint}"))
    }
}

impl std::error::Error for Shown {}

fn shown(error: impl ToProblem) -> Shown {
    Shown(error.to_problem())
}

impl Database {
    async fn open(folder: &Path) -> Database {
        let lake = Lake::open_local(&folder.join(".headwater")).await.unwrap();
        let options = EngineOptions {
            memory_bytes: 256 << 20,
            query_memory_bytes: 128 << 20,
            spill_dir: folder.join("spill"),
            spill_bytes_max: 1 << 30,
            threads: 2,
            ..EngineOptions::default()
        };
        let engine = Engine::new(lake, options).unwrap();
        Database { engine, options: SessionOptions::default() }
    }

    async fn control(&mut self, words: &[&str]) -> Result<(), Shown> {
        let catalog = self.engine.lake().catalog();
        let new = |name: &str| CreateRef {
            name: name.to_owned(),
            from: Some(self.options.reference.clone()),
            if_not_exists: false,
        };
        match words {
            ["branch", name] => catalog.create_branch(new(name)).await.map(drop).map_err(shown)?,
            ["tag", name] => catalog.tags().create(new(name)).await.map(drop).map_err(shown)?,
            ["protect", name] => {
                catalog.protect_branch(name, true).await.map(drop).map_err(shown)?;
            }
            ["ref", reference] => {
                self.options.reference = reference.parse::<RefSpec>().map_err(shown)?;
            }
            ["namespace", name] => (*name).clone_into(&mut self.options.namespace),
            other => panic!("`{other:?}` is not a directive"),
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Shown;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Shown> {
        if let Some(directive) = sql.strip_prefix('!') {
            self.control(&directive.split_whitespace().collect::<Vec<_>>()).await?;
            return Ok(DBOutput::StatementComplete(0));
        }
        let session = self.engine.session(self.options.clone()).map_err(shown)?;
        let StatementResult { schema, stream, .. } = session.execute(sql).await.map_err(shown)?;
        let batches: Vec<_> = stream.try_collect().await.map_err(shown)?;
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let formatters: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let value = |formatter: &ArrayFormatter<'_>| {
                    let text = formatter.value(row).to_string();
                    if text.is_empty() { "(empty)".to_owned() } else { text }
                };
                rows.push(formatters.iter().map(value).collect());
            }
        }
        let types = vec![DefaultColumnType::Any; schema.fields().len()];
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "headwater"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

async fn script(name: &str) {
    let file: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "sql", name].iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let mut runner = Runner::new(|| {
        let path = path.clone();
        async move { Ok(Database::open(&path).await) }
    });
    if let Err(error) = runner.run_file_async(&file).await {
        panic!("{}", error.display(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn select() {
    script("select.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_cost() {
    script("explain_cost.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names() {
    script("names.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refs() {
    script("refs.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables() {
    script("tables.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn insert() {
    script("insert.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_values() {
    script("text_values.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialects() {
    script("dialects.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialect_duckdb() {
    script("dialect_duckdb.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialect_postgres() {
    script("dialect_postgres.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialect_spark() {
    script("dialect_spark.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialect_others() {
    script("dialect_others.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn library() {
    script("sql_library.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers() {
    script("postgres_results.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn assigned() {
    script("column_assignment.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete() {
    script("delete.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update() {
    script("update.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn membership() {
    script("membership.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quantified() {
    script("quantified.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merge() {
    script("merge.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_travel() {
    script("time_travel.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alter() {
    script("alter.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overflow() {
    script("overflow.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps() {
    script("datafusion_errors.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_function() {
    script("create_function.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused() {
    script("unsupported_clauses.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums() {
    script("sums.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn system() {
    script("system.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views() {
    script("views.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors() {
    script("errors.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages() {
    script("messages.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layout() {
    script("layout.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_3() {
    script("version_3.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps() {
    script("timestamps.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nanoseconds() {
    script("nanoseconds.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transforms() {
    script("transforms.slt").await;
}

#[test]
fn every_script_is_run() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "sql"].iter().collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let run = format!("script(\"{name}\")");
        assert!(include_str!("sql.rs").contains(&run), "no test runs `{name}`");
    }
}
