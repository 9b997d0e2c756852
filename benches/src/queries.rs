//! Suites of queries on Headwater's Iceberg tables, compared with DataFusion and DuckDB on the same
//! Parquet files. The engines alternate for each query.

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::RecordBatchReader;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use headwater_engine::{Engine, EngineOptions, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{DEFAULT_NAMESPACE, RefSpec, TableName};

use crate::Outcome;
use crate::duckdb::DuckDb;
use crate::report::{Report, duration};
use crate::sample::median;

/// A query and its name.
pub struct Query {
    pub name: String,
    pub sql: String,
}

/// Three engines with the same tables.
pub struct Engines {
    headwater: Engine,
    datafusion: SessionContext,
    duckdb: DuckDb,
}

impl Engines {
    /// Opens the tables of a lake in all three engines. Headwater spills into `folder`.
    pub async fn open(
        lake: &Lake,
        tables: &[String],
        folder: &Path,
        mut duckdb: DuckDb,
    ) -> Outcome<Self> {
        let threads = std::thread::available_parallelism()?.get();
        let options = EngineOptions {
            memory_bytes: 12 << 30,
            query_memory_bytes: 12 << 30,
            spill_dir: folder.join("spill"),
            spill_bytes_max: 32 << 30,
            threads,
            resident_bytes_max: None,
        };
        let headwater = Engine::new(lake.clone(), options)?;
        let config = SessionConfig::new().with_target_partitions(threads);
        let datafusion = SessionContext::new_with_config(config);
        for name in tables {
            let files = data_files(lake, name).await?;
            let list: Vec<_> = files.iter().map(|file| format!("'{file}'")).collect();
            let list = list.join(", ");
            duckdb.query(&format!(
                "CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet([{list}])"
            ))?;
            let table = datafusion.read_parquet(files, ParquetReadOptions::default()).await?;
            datafusion.register_table(name, table.into_view())?;
        }
        Ok(Engines { headwater, datafusion, duckdb })
    }

    /// Runs every query `rounds` times in each engine and reports the geometric means of the ratios
    /// of medians. A number of rows that differs from DuckDB's is an error.
    pub async fn compare(
        &mut self,
        report: &mut Report,
        (suite, bound): (&str, Option<f64>),
        queries: &[Query],
        rounds: usize,
    ) -> Outcome<()> {
        let (mut to_datafusion, mut to_duckdb) = (Vec::new(), Vec::new());
        for Query { name, sql } in queries {
            let failed = |error| format!("{suite} {name}: {error}");
            let times = self.times(sql, rounds).await.map_err(failed)?;
            let [ours, datafusion, duckdb] = times.map(|times| median(times).as_secs_f64());
            to_datafusion.push(ours / datafusion);
            to_duckdb.push(ours / duckdb);
            let [a, b, c] = [ours, datafusion, duckdb]
                .map(|seconds| duration(Duration::from_secs_f64(seconds)));
            eprintln!("{name}  headwater {a:>10}  datafusion {b:>10}  duckdb {c:>10}");
        }
        let what = format!("{suite}, {} queries", queries.len());
        report.mean(&what, "DataFusion, same files", &to_datafusion, bound);
        report.mean(&what, "DuckDB 1.5.5, same files", &to_duckdb, None);
        Ok(())
    }

    async fn times(&mut self, sql: &str, rounds: usize) -> Outcome<[Vec<Duration>; 3]> {
        let mut times: [Vec<Duration>; 3] = Default::default();
        for round in 0..rounds {
            let mut rows = [0; 3];
            // The order of engines rotates, because later engines find warmer caches.
            for turn in 0..3 {
                let engine = (round + turn) % 3;
                let (time, count) = match engine {
                    0 => self.headwater(sql).await?,
                    1 => self.datafusion(sql).await?,
                    _ => self.duckdb.query(sql)?,
                };
                times[engine].push(time);
                rows[engine] = count;
            }
            if rows[0] != rows[2] {
                return Err(format!("{} rows, and {} in DuckDB", rows[0], rows[2]).into());
            }
        }
        Ok(times)
    }

    async fn headwater(&self, sql: &str) -> Outcome<(Duration, usize)> {
        let began = Instant::now();
        let session = self.headwater.session(SessionOptions::at(RefSpec::main()))?;
        let mut answer = session.execute(sql).await?;
        let mut rows = 0;
        while let Some(batch) = answer.stream.next().await {
            rows += batch?.num_rows();
        }
        Ok((began.elapsed(), rows))
    }

    async fn datafusion(&self, sql: &str) -> Outcome<(Duration, usize)> {
        let began = Instant::now();
        let mut stream = self.datafusion.sql(sql).await?.execute_stream().await?;
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch?.num_rows();
        }
        Ok((began.elapsed(), rows))
    }
}

/// Writes a table from record batches.
pub async fn load<S>(lake: &Lake, name: &str, source: S) -> Outcome<()>
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

/// Returns the paths of a table's data files.
async fn data_files(lake: &Lake, name: &str) -> Outcome<Vec<String>> {
    let view = lake.view(&RefSpec::main()).await?;
    let table = view.table(&TableName::new(DEFAULT_NAMESPACE, name)?).await?;
    let plan = lake.tables().plan(&table, None).await?;
    let path = |location: &str| location.trim_start_matches("file://").to_owned();
    Ok(plan.files().iter().map(|file| path(&file.location)).collect())
}
