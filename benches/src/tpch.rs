//! TPC-H, scale factor 1, 22 queries: through Headwater's Iceberg tables, DataFusion on the same Parquet
//! files, and DuckDB on them, taking turns query by query.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow::array::RecordBatchReader;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use headwater_engine::{Engine, EngineOptions, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{DEFAULT_NAMESPACE, RefSpec, TableName};
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
use crate::report::{Report, duration};
use crate::sample::median;

const SCALE: f64 = 1.0;
const ROUNDS: usize = 9;
const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// Adds the figures to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    load(&lake).await?;
    let threads = std::thread::available_parallelism()?.get();
    let engine = Engine::new(lake.clone(), options(folder.path().join("spill"), threads))?;
    let plain = plain_session(&lake, threads).await?;
    let mut duck = DuckDb::start(folder.path(), threads)?;
    duck_views(&lake, &mut duck).await?;
    let (mut to_plain, mut to_duck) = (Vec::new(), Vec::new());
    for (name, sql) in queries()? {
        let mut times: [Vec<Duration>; 3] = Default::default();
        for round in 0..ROUNDS {
            // Each is first as often as the others: the second finds warmer caches.
            for turn in 0..3 {
                let who = (round + turn) % 3;
                times[who].push(match who {
                    0 => ours(&engine, &sql).await?,
                    1 => theirs(&plain, &sql).await?,
                    _ => duck.query(&sql)?.0,
                });
            }
        }
        let [ours, plain, duck] = times.map(median).map(|time| time.as_secs_f64());
        to_plain.push(ours / plain);
        to_duck.push(ours / duck);
        let [a, b, c] = [ours, plain, duck].map(|time| duration(Duration::from_secs_f64(time)));
        eprintln!("{name}  headwater {a:>10}  datafusion {b:>10}  duckdb {c:>10}");
    }
    report.mean("TPC-H SF1, 22 queries", "DataFusion, same files", &to_plain, Some(1.05));
    report.mean("TPC-H SF1, 22 queries", "DuckDB 1.5.5, same files", &to_duck, None);
    Ok(())
}

fn options(spill_dir: PathBuf, threads: usize) -> EngineOptions {
    EngineOptions {
        memory_bytes: 12 << 30,
        query_memory_bytes: 12 << 30,
        spill_dir,
        spill_bytes_max: 32 << 30,
        threads,
        resident_bytes_max: None,
    }
}

fn queries() -> Outcome<Vec<(String, String)>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let read = |number: usize| {
        let name = format!("q{number:02}");
        let sql = std::fs::read_to_string(folder.join(format!("{name}.sql")))?;
        Ok((name, sql.trim_end().trim_end_matches(';').to_owned()))
    };
    (1..=22).map(read).collect()
}

async fn load(lake: &Lake) -> Outcome<()> {
    write(lake, "customer", CustomerArrow::new(CustomerGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "lineitem", LineItemArrow::new(LineItemGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "nation", NationArrow::new(NationGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "orders", OrderArrow::new(OrderGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "part", PartArrow::new(PartGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "partsupp", PartSuppArrow::new(PartSuppGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "region", RegionArrow::new(RegionGenerator::new(SCALE, 1, 1))).await?;
    write(lake, "supplier", SupplierArrow::new(SupplierGenerator::new(SCALE, 1, 1))).await
}

async fn write<S>(lake: &Lake, name: &str, source: S) -> Outcome<()>
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

async fn files(lake: &Lake, name: &str) -> Outcome<Vec<String>> {
    let view = lake.view(&RefSpec::main()).await?;
    let table = view.table(&TableName::new(DEFAULT_NAMESPACE, name)?).await?;
    let plan = lake.tables().plan(&table, None).await?;
    let path = |location: &str| location.trim_start_matches("file://").to_owned();
    Ok(plan.files().iter().map(|file| path(&file.location)).collect())
}

async fn plain_session(lake: &Lake, threads: usize) -> Outcome<SessionContext> {
    let config = SessionConfig::new().with_target_partitions(threads);
    let session = SessionContext::new_with_config(config);
    for name in TABLES {
        let files = files(lake, name).await?;
        let table = session.read_parquet(files, ParquetReadOptions::default()).await?;
        session.register_table(name, table.into_view())?;
    }
    Ok(session)
}

async fn duck_views(lake: &Lake, duck: &mut DuckDb) -> Outcome<()> {
    for name in TABLES {
        let files = files(lake, name).await?;
        let list: Vec<_> = files.iter().map(|file| format!("'{file}'")).collect();
        duck.query(&format!(
            "CREATE VIEW {name} AS SELECT * FROM read_parquet([{}])",
            list.join(", ")
        ))?;
    }
    Ok(())
}

async fn ours(engine: &Engine, sql: &str) -> Outcome<Duration> {
    let began = Instant::now();
    let session = engine.session(SessionOptions::at(RefSpec::main()))?;
    let mut answer = session.execute(sql).await?;
    while let Some(batch) = answer.stream.next().await {
        batch?;
    }
    Ok(began.elapsed())
}

async fn theirs(session: &SessionContext, sql: &str) -> Outcome<Duration> {
    let began = Instant::now();
    let mut stream = session.sql(sql).await?.execute_stream().await?;
    while let Some(batch) = stream.next().await {
        batch?;
    }
    Ok(began.elapsed())
}
