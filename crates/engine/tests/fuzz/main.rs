//! Random programs that change rows and evolve the table. After each statement, the table is
//! compared with a plain model of SQL: rows, counts and bounds, filtered reads, and the previous
//! state of the table.
//!
//! The tests run a few hundred programs, the same programs each time. `cargo xtask soak` prints a
//! new seed and runs ten thousand programs from it. A failing program is printed with its seed.
//! `HEADWATER_SEED` runs only the program with that seed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and prints messages"
)]

mod evolution;
mod expression;
mod model;
mod program;
mod random;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use futures::TryStreamExt;
use headwater_engine::{Engine, EngineOptions, Error, SessionOptions, StatementResult};
use headwater_lake::{Lake, LakeOptions};
use headwater_model::{SystemClock, ToProblem};
use headwater_store::MemoryStore;
use headwater_tables::TablesOptions;
use object_store::memory::InMemory;

use self::model::{Model, Outcome, Row, Value};
use self::program::{Program, Statement};

struct Lakeside {
    engine: Engine,
}

impl Lakeside {
    async fn new() -> Self {
        let mut tables = TablesOptions::new("memory:///warehouse");
        // Small files with several row groups each, so that all boundaries are covered.
        tables.row_group_rows = 4;
        let options = LakeOptions {
            store: Arc::new(MemoryStore::new()),
            object_store: Arc::new(InMemory::new()),
            tables,
            clock: Arc::new(SystemClock),
        };
        let lake = Lake::open(options).await.unwrap();
        let options = EngineOptions { threads: 2, ..EngineOptions::default() };
        Lakeside { engine: Engine::new(lake, options).unwrap() }
    }

    async fn execute(&self, sql: &str) -> Result<StatementResult, Error> {
        self.engine.session(SessionOptions::default())?.execute(sql).await
    }

    /// Makes further statements write delete files instead of rewriting data files.
    async fn change_on_read(&self) {
        let key = |word: &str| (format!("write.{word}.mode"), "merge-on-read".to_owned());
        let properties = ["delete", "update", "merge"].map(key);
        let mut change = self.engine.lake().transaction("main", "ada").await.unwrap();
        change.set_properties(&"t".parse().unwrap(), properties.into()).await.unwrap();
        change.commit("on read").await.unwrap();
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Row>, Error> {
        let answer = self.execute(sql).await?;
        let batches: Vec<RecordBatch> = answer.stream.try_collect().await?;
        let mut rows: Vec<Row> = batches.iter().flat_map(rows_of).collect();
        rows.sort();
        Ok(rows)
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let row = |row| batch.columns().iter().map(|column| value_of(column, row)).collect();
    (0..batch.num_rows()).map(row).collect()
}

fn value_of(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int64 => Value::Number(column.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => Value::Number(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Struct(_) => {
            let fields = column.as_struct().columns().iter();
            Value::Struct(fields.map(|field| value_of(field, row)).collect())
        }
        _ => Value::Text(column.as_string::<i32>().value(row).to_owned()),
    }
}

/// Runs a program, and returns an error with the first difference.
async fn run(program: &Program) -> Result<(), String> {
    let lake = Lakeside::new().await;
    let mut model = Model::default();
    for (name, sql) in &program.tables {
        lake.execute(sql).await.map_err(|error| format!("{sql}\n  {error}"))?;
        model.make(name);
    }
    if program.on_read {
        lake.change_on_read().await;
    }
    let mut history = vec![model.clone()];
    for (index, statement) in program.statements.iter().enumerate() {
        let before = model.names.clone();
        let expected = model.apply(statement);
        for sql in statement.statements().iter().map(|sql| before.fill(sql)) {
            let fail = |what: String| format!("statement {index}: {sql}\n  {what}");
            if execute(&lake, &sql, &expected).await.map_err(fail)? {
                history.push(model.clone());
            }
        }
        let sql = before.fill(&statement.statements().join("; "));
        let fail = |what: String| format!("statement {index}: {sql}\n  {what}");
        check(&lake, program, statement, &history).await.map_err(fail)?;
    }
    Ok(())
}

/// Executes a statement and checks its result; returns true if it committed.
async fn execute(lake: &Lakeside, sql: &str, expected: &Outcome) -> Result<bool, String> {
    match (expected, lake.execute(sql).await) {
        (Outcome::MatchedTwice, Err(error)) if error.code().as_str() == "bad_row" => Ok(false),
        (Outcome::MatchedTwice, Err(error)) => Err(format!("{error}")),
        (Outcome::MatchedTwice, Ok(_)) => Err("a row matched twice was let through".to_owned()),
        (Outcome::Rows(_), Err(error)) => Err(format!("{error:?}")),
        (Outcome::Rows(count), Ok(answer)) => {
            let committed = answer.commit.is_some();
            let batches: Vec<RecordBatch> =
                answer.stream.try_collect().await.map_err(|error| error.to_string())?;
            let found = batches[0].column(0).as_primitive::<Int64Type>().value(0);
            if found != *count as i64 {
                return Err(format!("{found} rows were changed instead of {count}"));
            }
            Ok(committed)
        }
    }
}

/// Compares the table with the last state of the model.
async fn check(
    lake: &Lakeside,
    program: &Program,
    statement: &Statement,
    history: &[Model],
) -> Result<(), String> {
    let (columns, model) = (program.columns(), &history[history.len() - 1]);
    for table in ["t", "s"] {
        let sql = model.names.fill(&format!("SELECT {columns} FROM {table}"));
        compare(lake, &sql, model.rows(table)).await?;
    }
    let rows = model.rows("t");
    let sql = "SELECT count(*), count({n}), min({id}), max({id}), min({w}), max({n}) FROM t";
    compare(lake, &model.names.fill(sql), vec![bounds(&rows)]).await?;
    if let Some(filter) = statement.filter() {
        let kept = rows.iter().filter(|row| filter.holds(&model.scope(row)));
        let sql = format!("SELECT {columns} FROM t WHERE {}", filter.to_sql());
        compare(lake, &model.names.fill(&sql), kept.cloned().collect()).await?;
    }
    let back = history.len().min(3) - 1;
    let then = &history[history.len() - 1 - back];
    let sql = then.names.fill(&format!("SELECT {columns} FROM \"t~{back}\""));
    compare(lake, &sql, then.rows("t")).await
}

/// Returns the counts and bounds of rows.
fn bounds(rows: &[Row]) -> Row {
    let set = |column: usize| {
        let mut values: Vec<Value> = rows.iter().map(|row| row[column].clone()).collect();
        values.retain(|value| *value != Value::Null);
        values.sort();
        values
    };
    let first = |values: Vec<Value>| values.first().cloned().unwrap_or(Value::Null);
    let last = |values: Vec<Value>| values.last().cloned().unwrap_or(Value::Null);
    let count = |count: usize| Value::Number(count as i64);
    vec![
        count(rows.len()),
        count(set(1).len()),
        first(set(0)),
        last(set(0)),
        first(set(2)),
        last(set(1)),
    ]
}

async fn compare(lake: &Lakeside, sql: &str, mut expected: Vec<Row>) -> Result<(), String> {
    expected.sort();
    let found = lake.rows(sql).await.map_err(|error| format!("{sql}\n  {error:?}"))?;
    if found == expected {
        return Ok(());
    }
    let mut text = format!("{sql}\n");
    for row in &found {
        if !expected.contains(row) {
            let _ = writeln!(text, "  too much: {row:?}");
        }
    }
    for row in &expected {
        if !found.contains(row) {
            let _ = writeln!(text, "  missing:  {row:?}");
        }
    }
    let _ = writeln!(text, "  {} rows instead of {}", found.len(), expected.len());
    Err(text)
}

/// Runs the programs of some seeds, with one thread per CPU.
fn run_all(seeds: std::ops::Range<u64>) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let program = Program::random(seed);
                    if let Err(difference) = runtime.block_on(run(&program)) {
                        eprintln!("{program}");
                        panic!("seed {seed} differs:\n{difference}");
                    }
                }
            });
        }
    });
}

/// Seeds of programs that once failed.
const FOUND: [u64; 3] = [588, 1393, 17_953_478_304_313];

#[test]
fn random_programs_change_rows_as_the_model_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("HEADWATER_SEED") {
        run_all(seed..seed + 1);
        return;
    }
    for seed in FOUND {
        run_all(seed..seed + 1);
    }
    // The tests run the same programs each time; a soak uses a new seed.
    if std::env::var_os("HEADWATER_SOAK").is_none() {
        return run_all(0..200);
    }
    let first = number("HEADWATER_SEEDS_FROM").unwrap_or_default();
    eprintln!("programs of the seeds from {first}");
    run_all(first..first + 10_000);
}
