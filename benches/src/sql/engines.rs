//! Engines with the same tables: Headwater, and its references.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::ipc::writer::FileWriter;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{Engine, EngineOptions, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{DEFAULT_NAMESPACE, RefSpec, TableName};

use crate::Outcome;
use crate::python_engine::{DuckDbRelease, PythonEngine};
use crate::rest_server::RestServer;

/// Memory limit of all queries together and of one query, and size limit of the spill files.
const MEMORY_BYTES: u64 = 12 << 30;
const SPILL_BYTES_MAX: u64 = 32 << 30;

/// Reads of tables that a comparison measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Each query decodes its columns, as the first query of a table does.
    First,
    /// Queries find the columns that earlier queries decoded.
    Repeated,
}

impl Reads {
    /// Returns the memory limit of Headwater's cache of decoded columns.
    fn decoded_cache_bytes(self, memory_bytes: u64) -> u64 {
        match self {
            Reads::First => 0,
            Reads::Repeated => memory_bytes / 2,
        }
    }

    /// Returns the name of a suite with these reads.
    pub fn suite(self, name: String) -> String {
        match self {
            Reads::First => format!("{name}, first reads"),
            Reads::Repeated => name,
        }
    }
}

/// An engine that Headwater is compared with.
pub struct ComparedEngine {
    pub name: &'static str,
    engine: ReferenceEngine,
}

enum ReferenceEngine {
    DataFusion(Box<SessionContext>),
    Python { engine: PythonEngine, _server: Option<RestServer> },
}

impl ComparedEngine {
    /// Runs a query. Returns its time and the number of its rows.
    pub async fn run(&mut self, sql: &str) -> Outcome<(Duration, usize)> {
        let context = match &mut self.engine {
            ReferenceEngine::Python { engine, .. } => return engine.query(sql),
            ReferenceEngine::DataFusion(context) => context,
        };
        let began = Instant::now();
        let mut stream = context.sql(sql).await?.execute_stream().await?;
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch?.num_rows();
        }
        Ok((began.elapsed(), rows))
    }

    /// Returns the first difference between the engine's rows and the rows of an Arrow file.
    /// DataFusion's rows are not compared, because Headwater uses DataFusion's operators.
    pub fn difference(&mut self, sql: &str, answer: &Path) -> Outcome<Option<String>> {
        match &mut self.engine {
            ReferenceEngine::Python { engine, .. } => engine.difference(sql, answer),
            ReferenceEngine::DataFusion(_) => Ok(None),
        }
    }
}

/// Headwater and its references with the tables of one lake.
pub struct Engines {
    pub headwater: Headwater,
    pub references: Vec<ComparedEngine>,
}

impl Engines {
    /// Opens the tables of a lake in Headwater, DataFusion and DuckDB 2.0. The references read the
    /// lake's own Parquet files.
    pub async fn open(
        lake: &Lake,
        tables: &[String],
        folder: &Path,
        reads: Reads,
    ) -> Outcome<Self> {
        let threads = std::thread::available_parallelism()?.get();
        let headwater = Headwater::open(lake, folder, MEMORY_BYTES, reads)?;
        let files = data_files(lake, tables).await?;
        let config = SessionConfig::new().with_target_partitions(threads);
        let context = SessionContext::new_with_config(config);
        for (name, files) in &files {
            let table = context.read_parquet(files.clone(), ParquetReadOptions::default()).await?;
            context.register_table(name, table.into_view())?;
        }
        let mut duckdb = PythonEngine::duckdb(folder, DuckDbRelease::V2_0_1, threads)?;
        duckdb.open(&files)?;
        let references = vec![
            ComparedEngine {
                name: "DataFusion, same files",
                engine: ReferenceEngine::DataFusion(Box::new(context)),
            },
            python("DuckDB 2.0, same files", duckdb, None),
        ];
        Ok(Engines { headwater, references })
    }

    /// Adds DuckDB over Iceberg REST, and polars on the lake's files. DuckDB 1.5.5 is the last
    /// release with an Iceberg extension on PyPI.
    pub async fn add_clients(
        &mut self,
        lake: &Lake,
        tables: &[String],
        folder: &Path,
    ) -> Outcome<()> {
        let threads = std::thread::available_parallelism()?.get();
        let server = RestServer::start(folder)?;
        let mut duckdb = PythonEngine::duckdb(folder, DuckDbRelease::V1_5_5, threads)?;
        duckdb.load_iceberg()?;
        duckdb.query(&server.attach("main", "lake")?)?;
        duckdb.query("USE lake.public")?;
        self.references.push(python("DuckDB 1.5.5 over Iceberg REST", duckdb, Some(server)));
        let mut polars = PythonEngine::polars(folder, threads)?;
        polars.open(&data_files(lake, tables).await?)?;
        self.references.push(python("polars, same files", polars, None));
        Ok(())
    }
}

fn python(name: &'static str, engine: PythonEngine, server: Option<RestServer>) -> ComparedEngine {
    ComparedEngine { name, engine: ReferenceEngine::Python { engine, _server: server } }
}

/// Headwater's engine with a memory limit.
#[derive(Clone)]
pub struct Headwater(Engine);

impl Headwater {
    /// Opens a lake. The engine spills into `folder`. `memory_bytes` is the limit of all queries
    /// together and of one query.
    pub fn open(lake: &Lake, folder: &Path, memory_bytes: u64, reads: Reads) -> Outcome<Self> {
        let options = EngineOptions {
            memory_bytes,
            query_memory_bytes: memory_bytes,
            column_cache_bytes: 0,
            decoded_cache_bytes: reads.decoded_cache_bytes(memory_bytes),
            spill_dir: folder.join("spill"),
            spill_bytes_max: SPILL_BYTES_MAX,
            threads: std::thread::available_parallelism()?.get(),
            resident_bytes_max: None,
        };
        Ok(Headwater(Engine::new(lake.clone(), options)?))
    }

    /// Runs a query. Returns its time and the number of its rows.
    pub async fn run(&self, sql: &str) -> Outcome<(Duration, usize)> {
        let began = Instant::now();
        let session = self.0.session(SessionOptions::at(RefSpec::main()))?;
        let mut answer = session.execute(sql).await?;
        let mut rows = 0;
        while let Some(batch) = answer.stream.next().await {
            rows += batch?.num_rows();
        }
        Ok((began.elapsed(), rows))
    }

    /// Writes the rows of a query to an Arrow file in `folder`.
    pub async fn write_answer(&self, sql: &str, folder: &Path) -> Outcome<PathBuf> {
        let session = self.0.session(SessionOptions::at(RefSpec::main()))?;
        let answer = session.execute(sql).await?;
        let schema = answer.schema;
        let batches: Vec<RecordBatch> = answer.stream.try_collect().await?;
        let path = folder.join("answer.arrow");
        let mut writer = FileWriter::try_new(File::create(&path)?, &schema)?;
        for batch in &batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        Ok(path)
    }
}

/// Returns the paths of the data files of each table.
async fn data_files(lake: &Lake, tables: &[String]) -> Outcome<BTreeMap<String, Vec<String>>> {
    let view = lake.view(&RefSpec::main()).await?;
    let path = |location: &str| location.trim_start_matches("file://").to_owned();
    let mut files = BTreeMap::new();
    for name in tables {
        let table = view.table(&TableName::new(DEFAULT_NAMESPACE, name)?).await?;
        let plan = lake.tables().plan(&table, None).await?;
        let paths = plan.files().iter().map(|file| path(&file.location)).collect();
        files.insert(name.clone(), paths);
    }
    Ok(files)
}
