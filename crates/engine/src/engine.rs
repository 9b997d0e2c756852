//! The engine of one lake, which holds the state shared by all sessions.
//!
//! An [`Engine`] holds the memory and spill limits, the caches of scans, the compute threads and a
//! template of DataFusion's session state. The template makes sessions cheap.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt};
use headwater_join_order::with_cost_based_rules;
use headwater_lake::Lake;
use headwater_metrics::StatementMetrics;
use headwater_sql_functions::{
    FunctionMemory, FunctionMemoryExtension, ResidentMemoryMonitor, StatementMemoryPool,
    TotalMemory, optimizer_rules,
};
use headwater_sql_python::{ConcurrencyLimitedRuntime, PythonRuntime};
use headwater_table_scan::{DecodedCache, ScanEnvironment};
use parking_lot::RwLock;
use tokio::task::JoinSet;

use crate::assignment_cast::MARK;
use crate::datafusion_error::ResourceLimits;
use crate::error::{Error, Result};
use crate::options::{EngineOptions, SessionOptions};
use crate::session::Session;
use crate::statement_result::BatchStream;
use crate::system::{SystemTable, own_tables};

/// Capacity of the Parquet footer cache, in bytes.
const FOOTER_CACHE_BYTES: usize = 256 << 20;

/// If the build side of a hash join has at most this many estimated bytes and rows, all threads
/// share one hash table.
const HASHED_WHOLE_BYTES_MAX: usize = 32 << 20;
const HASHED_WHOLE_ROWS_MAX: usize = 1 << 20;

/// Age after which an entry of the spill folder is assumed to belong to a killed process.
const STALE_AFTER: Duration = Duration::from_hours(24);

/// Stack size of a compute thread; planning recurses deeply. Untouched pages use no memory.
const STACK_BYTES: usize = 64 << 20;

/// Maximum number of concurrent calls of functions in Python. Each call blocks a thread.
const PYTHON_CALLS_MAX: usize = 512;

/// Maximum number of threads for other blocking work, such as reads of local files.
const BLOCKING_THREADS_MAX: usize = 512;

/// SQL engine over one lake; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    lake: Lake,
    options: EngineOptions,
    template: Arc<SessionState>,
    runtime: RuntimeEnv,
    scans: ScanEnvironment,
    total: Arc<TotalMemory>,
    /// Memory that results of SQL functions use, summed over all statements.
    functions: Arc<TotalMemory>,
    system: RwLock<BTreeMap<String, Arc<dyn SystemTable>>>,
    threads: ComputeThreads,
    /// The runtime of functions in Python, if the server has one.
    python: OnceLock<Arc<dyn PythonRuntime>>,
    resident: Option<ResidentMemoryMonitor>,
    statements: StatementMetrics,
}

/// Compute threads. They are shut down in the background, because the last clone of the engine may
/// be dropped on one of these threads.
struct ComputeThreads(Option<tokio::runtime::Runtime>);

impl Drop for ComputeThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates an engine over a lake.
    pub fn new(lake: Lake, options: EngineOptions) -> Result<Engine> {
        let fail = |error: DataFusionError| limits(&options).explain(&error);
        let runtime = runtime(&options).map_err(fail)?;
        let total = Arc::new(TotalMemory::new(options.memory_bytes));
        let decoded = decoded_cache(&options, &total);
        let (tables, cache_bytes) = (lake.tables().clone(), options.column_cache_bytes);
        let scans = ScanEnvironment::new(&runtime, tables, cache_bytes, decoded).map_err(fail)?;
        let mut template = SessionStateBuilder::new()
            .with_config(config(&options))
            .with_default_features()
            .with_optimizer_rules(with_cost_based_rules(optimizer_rules()))
            .build();
        headwater_sql_functions::register(&mut template).map_err(fail)?;
        template.register_udf(Arc::clone(&MARK)).map_err(fail)?;
        headwater_sql_functions::limit_results(&mut template).map_err(fail)?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .max_blocking_threads(PYTHON_CALLS_MAX + BLOCKING_THREADS_MAX)
            .thread_name("headwater-engine")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| Error::Internal { message: error.to_string() })?;
        let functions = Arc::new(TotalMemory::new(options.memory_bytes));
        let watch =
            |limit| ResidentMemoryMonitor::start(limit, options.memory_bytes, Arc::clone(&total));
        let resident = options.resident_bytes_max.map(watch).transpose();
        let resident = resident.map_err(|error| Error::Internal { message: error.to_string() })?;
        let engine = Engine(Arc::new(EngineInner {
            lake,
            template: Arc::new(template),
            runtime,
            scans,
            total,
            functions,
            system: RwLock::default(),
            threads: ComputeThreads(Some(threads)),
            python: OnceLock::new(),
            resident,
            statements: StatementMetrics::default(),
            options,
        }));
        for table in own_tables() {
            engine.add_system_table(table);
        }
        Ok(engine)
    }

    /// Returns the statement metrics.
    pub fn statements(&self) -> &StatementMetrics {
        &self.0.statements
    }

    /// Returns the lake.
    pub fn lake(&self) -> &Lake {
        &self.0.lake
    }

    /// Adds a table to the namespace `system`. Replaces a table with the same name.
    pub fn add_system_table(&self, table: Arc<dyn SystemTable>) {
        self.0.system.write().insert(table.name().to_owned(), table);
    }

    /// Sets the runtime that executes functions in Python. Only the first call has an effect.
    pub fn set_python_runtime(&self, runtime: Arc<dyn PythonRuntime>) {
        let bounded: Arc<dyn PythonRuntime> =
            Arc::new(ConcurrencyLimitedRuntime::new(runtime, PYTHON_CALLS_MAX));
        self.0.python.get_or_init(|| bounded);
    }

    pub(crate) fn python_runtime(&self) -> Option<&Arc<dyn PythonRuntime>> {
        self.0.python.get()
    }

    /// Creates a session without any I/O: an unknown ref is an error of the first statement.
    pub fn session(&self, options: SessionOptions) -> Result<Session> {
        Ok(Session::new(self.clone(), options))
    }

    pub(crate) fn system_tables(&self) -> Vec<Arc<dyn SystemTable>> {
        self.0.system.read().values().cloned().collect()
    }

    /// Returns the caches and readers of scans, for plans that read tables.
    pub fn scans(&self) -> &ScanEnvironment {
        &self.0.scans
    }

    /// Returns the template of session states, for plans that are not executed and so need no
    /// memory pool of their own.
    pub(crate) fn template(&self) -> &Arc<SessionState> {
        &self.0.template
    }

    /// Returns the session state, runtime and memory pool of one statement. The state is a clone of
    /// the template, which has all functions: registering them again for each statement would be
    /// slow.
    pub(crate) fn statement(
        &self,
        memory_bytes: Option<u64>,
    ) -> (Arc<SessionState>, Arc<RuntimeEnv>, Arc<StatementMemoryPool>) {
        let (budget, runtime, pool) = self.memory(memory_bytes);
        let mut state = SessionState::clone(&self.0.template);
        state.config_mut().options_mut().extensions.insert(budget);
        state.mark_start_execution();
        (Arc::new(state), runtime, pool)
    }

    /// Returns the limits, runtime and memory pool of one statement.
    pub(crate) fn memory(
        &self,
        memory_bytes: Option<u64>,
    ) -> (FunctionMemoryExtension, Arc<RuntimeEnv>, Arc<StatementMemoryPool>) {
        let limit = self.memory_limit(memory_bytes);
        let functions = Arc::new(FunctionMemory::new(limit, Arc::clone(&self.0.functions)));
        let budget = FunctionMemoryExtension(Arc::clone(&functions));
        let pool = Arc::new(StatementMemoryPool::new(limit, Arc::clone(&self.0.total), functions));
        let mut runtime = self.0.runtime.clone();
        runtime.memory_pool = Arc::clone(&pool) as _;
        (budget, Arc::new(runtime), pool)
    }

    /// Returns the memory and spill limits of a statement, for error messages.
    pub(crate) fn limits(&self, memory_bytes: Option<u64>) -> ResourceLimits {
        let query_memory_bytes = self.memory_limit(memory_bytes);
        ResourceLimits { query_memory_bytes, ..limits(&self.0.options) }
    }

    /// Converts an error of a plan that ran with this memory limit; `None` means the engine's
    /// default.
    pub fn plan_error(&self, memory_bytes: Option<u64>, error: &DataFusionError) -> Error {
        self.limits(memory_bytes).explain(error)
    }

    /// Runs a plan with the memory limit of a statement; `None` means the engine's default.
    pub async fn run_plan(
        &self,
        plan: LogicalPlan,
        memory_bytes: Option<u64>,
    ) -> Result<BatchStream> {
        let session = self.session(SessionOptions { memory_bytes, ..SessionOptions::default() })?;
        let run = session.run();
        let limits = run.limits;
        let running = session.start(run, plan).await?;
        Ok(running.stream.map_err(move |error| limits.explain(&error)).boxed())
    }

    fn memory_limit(&self, memory_bytes: Option<u64>) -> u64 {
        let own = memory_bytes.unwrap_or(self.0.options.query_memory_bytes);
        own.min(self.0.options.memory_bytes)
    }

    /// Returns the monitor of resident memory, if a limit is set.
    pub(crate) fn resident(&self) -> Option<&ResidentMemoryMonitor> {
        self.0.resident.as_ref()
    }

    /// Returns the handle of the compute threads.
    pub(crate) fn threads(&self) -> Result<&tokio::runtime::Handle> {
        let stopped = || Error::Internal { message: "the engine has stopped".to_owned() };
        self.0.threads.0.as_ref().map(tokio::runtime::Runtime::handle).ok_or_else(stopped)
    }

    /// Runs tasks that plan many statements, and returns their results in the same order. Inside
    /// such a task, statements are planned on the task's thread. Other statements are planned on
    /// one of the engine's threads.
    pub async fn plan_all<T: Send + 'static>(
        &self,
        tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Result<Vec<T>> {
        let threads = self.threads()?;
        let mut running = JoinSet::new();
        for (index, task) in tasks.into_iter().enumerate() {
            running.spawn_on(async move { (index, task.await) }, threads);
        }
        let mut done = Vec::with_capacity(running.len());
        while let Some(ended) = running.join_next().await {
            done.push(ended.map_err(|_| planning_panicked())?);
        }
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }

    /// Returns the number of compute threads.
    pub fn thread_count(&self) -> usize {
        self.0.options.threads.max(1)
    }
}

/// Returns the error of a panic of the planner.
pub(crate) fn planning_panicked() -> Error {
    Error::Internal { message: "planning panicked".to_owned() }
}

/// Creates the cache of decoded columns, which uses a part of the memory that statements do not
/// use.
fn decoded_cache(options: &EngineOptions, total: &Arc<TotalMemory>) -> DecodedCache {
    let memory = Arc::downgrade(total);
    let unused = move || memory.upgrade().map_or(0, |total| total.unused());
    let cache = DecodedCache::new(options.decoded_cache_bytes, Box::new(unused));
    if cache.is_enabled() {
        let shrunk = cache.clone();
        total.set_cache(Box::new(move |bytes| shrunk.shrink_to(bytes)));
    }
    cache
}

fn limits(options: &EngineOptions) -> ResourceLimits {
    ResourceLimits {
        query_memory_bytes: options.query_memory_bytes,
        engine_memory_bytes: options.memory_bytes,
        spill_bytes: options.spill_bytes_max,
    }
}

fn runtime(options: &EngineOptions) -> Result<RuntimeEnv, DataFusionError> {
    let mode = if options.spill_dir.as_os_str().is_empty() {
        DiskManagerMode::Disabled
    } else {
        remove_stale(&options.spill_dir);
        DiskManagerMode::Directories(vec![options.spill_dir.clone()])
    };
    let disk = DiskManagerBuilder::default()
        .with_mode(mode)
        .with_max_temp_directory_size(options.spill_bytes_max);
    RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
        .build()
}

/// Removes spill folders of killed processes. Other processes may be using the folder, so only
/// entries older than [`STALE_AFTER`] are removed.
fn remove_stale(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with("datafusion-");
        let age = entry.metadata().and_then(|found| found.modified()).ok();
        let age = age.and_then(|modified| modified.elapsed().ok());
        if ours && age.is_some_and(|age| age > STALE_AFTER) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn config(options: &EngineOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(options.threads.max(1))
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let settings = config.options_mut();
    // Names are resolved before planning, so DataFusion must compare them exactly.
    settings.sql_parser.enable_ident_normalization = false;
    settings.sql_parser.collect_spans = true;
    // Without this setting, DataFusion drops the zone of TIMESTAMP WITH TIME ZONE.
    settings.execution.time_zone = Some("UTC".to_owned());
    settings.execution.parquet.pushdown_filters = false;
    // DataFusion drops field metadata in some operators, such as UNION. The schemas that this check
    // compares can therefore differ in correct plans.
    settings.execution.skip_physical_aggregate_schema_check = true;
    // Read a struct field where the query uses it. DataFusion's pushdown would move the extraction
    // to the scans, under names that can collide between two tables.
    settings.optimizer.enable_leaf_expression_pushdown = false;
    // All threads share the hash table of a small build side. The probe side is then not
    // repartitioned, and the dynamic filter covers all keys.
    settings.optimizer.hash_join_single_partition_threshold = HASHED_WHOLE_BYTES_MAX;
    settings.optimizer.hash_join_single_partition_threshold_rows = HASHED_WHOLE_ROWS_MAX;
    config
}
