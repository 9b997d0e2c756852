//! The wiring: all components of a lake, and the order in which they start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_engine::{Engine, EngineOptions};
use headwater_functions::{Functions, FunctionsOptions, Room, ZygoteOptions};
use headwater_jobs::{Commits, Jobs, JobsOptions, Triggers, TriggersOptions};
use headwater_lake::Lake;
use headwater_model::{ErrorCode, JobKind, Problem, RefSpec};
use headwater_pipelines::{Given, Runner};
use tokio_util::sync::CancellationToken;

use crate::branch::Branches;
use crate::commit_history::CommitHistory;
use crate::deployment::{Deployed, Deployer};
use crate::executors::{Imports, Runs};
use crate::import::FileImports;
use crate::invocation::Invocations;
use crate::maintenance::{self, Maintenance};
use crate::metered_runtime::MeteredRuntime;
use crate::reference::Refs;
use crate::settings::Settings;
use crate::statement::Statements;
use crate::tag::Tags;
use crate::trigger_executor::TriggerExecutor;
use crate::{Error, Result, ServiceConfig, system_tables};

/// How many calls of functions may wait for their turn.
const CALLS_WAITING_MAX: usize = 10_000;

/// Every operation that a client can request, grouped by noun. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Components>);

impl Service {
    /// Opens the lake and starts its components.
    pub async fn start(config: ServiceConfig) -> Result<Self> {
        Ok(Service(Arc::new(Components::start(config).await?)))
    }

    /// Operations on branches.
    pub fn branches(&self) -> Branches {
        Branches(self.0.clone())
    }

    /// Operations on tags.
    pub fn tags(&self) -> Tags {
        Tags(self.0.clone())
    }

    /// Operations on refs.
    pub fn refs(&self) -> Refs {
        Refs(self.0.clone())
    }

    /// Operations on SQL statements.
    pub fn statements(&self) -> Statements {
        Statements(self.0.clone())
    }

    /// Operations on functions.
    pub fn invocations(&self) -> Invocations {
        Invocations(self.0.clone())
    }

    /// Operations on imports.
    pub fn imports(&self) -> FileImports {
        FileImports(self.0.clone())
    }

    /// The components, for operations that are not methods of the service yet.
    pub fn components(&self) -> &Components {
        &self.0
    }
}

/// The components of a running lake.
pub struct Components {
    /// Its configuration.
    pub config: ServiceConfig,
    /// The lake: tables and their branches.
    pub lake: Lake,
    /// The SQL engine.
    pub engine: Engine,
    /// The job queue.
    pub jobs: Jobs,
    /// The runner of projects.
    pub runner: Runner,
    /// The function runtime.
    pub functions: Functions,
    /// None for a server that is to leave triggers alone.
    pub triggers: Option<Triggers>,
    /// Settings of `headwater.toml` that the server applies: rate card and project name.
    pub settings: Settings,
    /// Ends what watches over tables; none where they are left alone.
    pub upkeep: Option<CancellationToken>,
    /// The version of the project that is in force.
    pub deployer: Deployer,
    /// The environments that calls were given.
    pub given: Given,
    /// Threads of operations that are recorded as jobs.
    pub(crate) operations: MeteredRuntime,
}

impl Components {
    /// Starts everything, from the ground up. The spawner comes first, while the process is still
    /// small; executors come last, since jobs that waited in the last process begin with them.
    pub async fn start(config: ServiceConfig) -> Result<Self> {
        let folder = &config.lake_dir;
        let functions = start_functions(&config).await?;
        clear_spill(&folder.join("spill"))?;
        let lake = Lake::open_folder(folder, config.warehouse.clone()).await;
        let lake = lake.map_err(|error| Error::component(&error))?;
        let engine = start_engine(&config, &lake)?;
        let jobs = Jobs::open(lake.store().clone(), lake.clock().clone(), JobsOptions::default())
            .await
            .map_err(|error| Error::component(&error))?;
        system_tables::register(&engine, &jobs, &lake);
        let runner = Runner::new(engine.clone(), functions.clone(), jobs.clone(), room(&config));
        quarantine_interrupted(&runner, &jobs).await;
        let imports = Imports { lake: lake.clone(), runtime: MeteredRuntime::default() };
        let deployed = Arc::new(Deployed::default());
        let actions =
            TriggerExecutor::new(&config, imports.clone(), runner.clone(), deployed.clone());
        let triggers = start_triggers(&lake, &jobs, actions).await?;
        let deployer = Deployer::new(lake.clone(), deployed, triggers.clone());
        deployer.load().await;
        let settings = Settings::new(config.project_dir.clone(), jobs.clone());
        settings.refresh().await;
        jobs.register(JobKind::Import, Arc::new(imports));
        jobs.register(JobKind::Run, Arc::new(Runs(runner.clone())));
        let keeper = Maintenance { lake: lake.clone(), runtime: MeteredRuntime::background() };
        jobs.register(JobKind::Upkeep, Arc::new(keeper));
        let upkeep = config
            .upkeep
            .then(|| maintenance::start(lake.clone(), jobs.clone(), config.remove_orphans));
        Ok(Components {
            config,
            lake,
            engine,
            jobs,
            runner,
            functions,
            triggers,
            settings,
            upkeep,
            deployer,
            given: Given::default(),
            operations: MeteredRuntime::default(),
        })
    }

    /// The branch that a request is to write to: `main` where it says nothing.
    pub async fn branch_to_write(&self, reference: Option<&RefSpec>) -> Result<String, Problem> {
        let main = RefSpec::main();
        let reference = reference.unwrap_or(&main);
        let resolved = self.lake.catalog().resolve(reference).await;
        let resolved = resolved.map_err(|error| headwater_model::Fault::to_problem(&error))?;
        resolved.branch.ok_or_else(|| {
            let message = format!("`{reference}` is no branch, and cannot be written to");
            Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Make a branch from it and write there.")
        })
    }

    /// Applies settings that have changed and deployments that could not be applied before.
    pub async fn refresh(&self) {
        self.settings.refresh().await;
        self.deployer.retry().await;
    }

    /// Returns true while a job runs or a deployed trigger may start one.
    pub fn is_busy(&self) -> bool {
        self.jobs.running() > 0 || self.deployer.has_triggers()
    }

    /// Stops triggers and maintenance, so that no new job starts by itself.
    pub fn stop_background(&self) {
        if let Some(triggers) = &self.triggers {
            triggers.stop();
        }
        if let Some(upkeep) = &self.upkeep {
            upkeep.cancel();
        }
    }
}

async fn start_functions(config: &ServiceConfig) -> Result<Functions> {
    let options = FunctionsOptions {
        spawner: config.spawner.clone(),
        own_dir: config.lake_dir.join("functions"),
        // What is fetched and put together once serves all lakes of this user.
        environments_dir: config.cache_dir.join("environments"),
        tools_dir: config.cache_dir.join("tools"),
        cache_dir: config.cache_dir.clone(),
        memory_bytes_total: config.memory_bytes / 2,
        concurrency: config.functions_concurrency,
        waiting_max: CALLS_WAITING_MAX,
        python_search: config.python_search.clone(),
        nameservers: None,
        reachable_own: Vec::new(),
        connections_max: None,
        isolation: config.isolation,
        arena: config.arena,
        zygotes: ZygoteOptions::default(),
    };
    let functions = Functions::start(options).await.map_err(|error| Error::component(&error))?;
    for warning in functions.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(functions)
}

fn start_engine(config: &ServiceConfig, lake: &Lake) -> Result<Engine> {
    let memory_bytes = config.memory_bytes / 8 * 3;
    let options = EngineOptions {
        memory_bytes,
        query_memory_bytes: memory_bytes,
        resident_bytes_max: Some(config.memory_bytes),
        spill_dir: config.lake_dir.join("spill"),
        threads: config.threads,
        ..EngineOptions::default()
    };
    Engine::new(lake.clone(), options).map_err(|error| Error::component(&error))
}

/// Where runs put the rows that are kept in no table. An eighth of the memory, beside the half of
/// the functions and what is left to queries; and as much of the disk as queries may spill.
fn room(config: &ServiceConfig) -> Room {
    let folder = config.lake_dir.join("spill").join("rows");
    Room::new(config.memory_bytes / 8, folder, EngineOptions::default().spill_bytes_max)
}

/// Removes what statements of a killed server had spilled.
fn clear_spill(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Folder { path: PathBuf::from(folder), source })
        }
        _ => Ok(()),
    }
}

/// Keeps the branches of runs that the last server did not live to see the end of, and marks them:
/// they are readable, and cannot be merged unchecked.
async fn quarantine_interrupted(runner: &Runner, jobs: &Jobs) {
    for id in jobs.interrupted() {
        if let Err(error) = runner.quarantine(*id).await {
            tracing::warn!("the branch of the interrupted run {id} cannot be marked: {error}");
        }
    }
}

async fn start_triggers(
    lake: &Lake,
    jobs: &Jobs,
    actions: Option<TriggerExecutor>,
) -> Result<Option<Triggers>> {
    let Some(actions) = actions else { return Ok(None) };
    let (store, clock) = (lake.store().clone(), lake.clock().clone());
    let commits: Arc<dyn Commits> = Arc::new(CommitHistory { lake: lake.clone() });
    let options = TriggersOptions {
        commits: Some(commits),
        ..TriggersOptions::new(store, clock, jobs.clone(), &actions.project)
    };
    let triggers = Triggers::start(options, Arc::new(actions)).await;
    triggers.map(Some).map_err(|error| Error::component(&error))
}
