//! Starts the jobs, the triggers, the engine and the function runtime. The engine and the function
//! runtime each get a share of the server's memory.

use std::sync::Arc;

use headwater_access::{Access, UserLimits};
use headwater_engine::{Engine, EngineOptions};
use headwater_executors::{CloudBuckets, CommitHistory, ProjectFileSettings, TriggerExecutor};
use headwater_functions::{Functions, FunctionsOptions, TableQuota, ZygoteOptions};
use headwater_jobs::{Jobs, JobsOptions, KindLimits};
use headwater_lake::{CloudSettings, Lake};
use headwater_model::{ErrorCode, JobKind, Problem};
use headwater_objects::Objects;
use headwater_queues::Queues;
use headwater_secrets::SecretStore;
use headwater_triggers::{CommitSource, Triggers, TriggersOptions};

use crate::config::ServiceConfig;
use crate::error::{Error, Result};

/// Maximum number of queued function calls.
const CALLS_WAITING_MAX: usize = 10_000;

/// Starts the runtime of functions.
pub async fn start_functions(config: &ServiceConfig) -> Result<Functions> {
    let options = FunctionsOptions {
        spawner: config.spawner.clone(),
        own_dir: config.lake_dir.join("functions"),
        // All lakes of this user share downloads and environments.
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
        zygotes: ZygoteOptions::default(),
        telemetry: config.telemetry.clone(),
    };
    let functions = Functions::start(options).await.map_err(|error| Error::component(&error))?;
    for warning in functions.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(functions)
}

/// Checks that the lake has a user if other machines can reach the server. Without a user, every
/// client that has the server's token would be the owner.
pub fn check_users(config: &ServiceConfig, access: &Access) -> Result<()> {
    let Some(address) = config.public_address.filter(|_| !access.has_users()) else {
        return Ok(());
    };
    let message = format!("`{address}` is not a loopback address, so the lake must have a user");
    let hint = "Create a user with `headwater user create NAME`, or listen on 127.0.0.1 or [::1].";
    let problem = Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint);
    Err(Error::Component(Box::new(problem)))
}

/// Opens the jobs of a lake, with the limits of its users.
pub async fn open_jobs(config: &ServiceConfig, lake: &Lake, access: &Access) -> Result<Jobs> {
    let (store, clock) = (lake.store().clone(), lake.clock().clone());
    let concurrency = config.runs_concurrency.max(1);
    let runs = KindLimits { concurrency, ..KindLimits::of(JobKind::Run) };
    let limits = [(JobKind::Run, runs)].into();
    let telemetry = config.telemetry.clone();
    let options = JobsOptions { limits, telemetry, ..JobsOptions::default() };
    let jobs = Jobs::open(store, clock, options).await;
    let jobs = jobs.map_err(|error| Error::component(&error))?;
    let access = access.clone();
    jobs.set_limits_of(Arc::new(move |user| UserLimits::of(&access).effective(user)));
    Ok(jobs)
}

/// Divisor of the server's memory: this part of it is the cache of columns that runs read.
const COLUMN_CACHE_SHARE: u64 = 32;

/// Default limit of the cache of decoded columns, in bytes, on a server with much memory.
const DECODED_CACHE_BYTES_MAX: u64 = 16 << 30;

/// Starts the SQL engine.
pub fn start_engine(config: &ServiceConfig, lake: &Lake) -> Result<Engine> {
    let memory_bytes = config.memory_bytes / 8 * 3;
    let decoded = (memory_bytes / 2).min(DECODED_CACHE_BYTES_MAX);
    let options = EngineOptions {
        memory_bytes,
        query_memory_bytes: memory_bytes,
        column_cache_bytes: config.memory_bytes / COLUMN_CACHE_SHARE,
        decoded_cache_bytes: config.decoded_cache_bytes.unwrap_or(decoded),
        resident_bytes_max: Some(config.memory_bytes),
        spill_dir: config.lake_dir.join("spill"),
        threads: config.threads,
        ..EngineOptions::default()
    };
    Engine::new(lake.clone(), options).map_err(|error| Error::component(&error))
}

/// Creates the memory and disk quota for rows of runs that are not yet in a table. The memory is an
/// eighth of the server's memory, minus the column cache. The limit on disk space equals the limit
/// for the spill files of queries.
pub fn row_quota(config: &ServiceConfig) -> TableQuota {
    let folder = config.lake_dir.join("spill").join("rows");
    let memory_bytes = config.memory_bytes / 8 - config.memory_bytes / COLUMN_CACHE_SHARE;
    TableQuota::new(memory_bytes, folder, EngineOptions::default().spill_bytes_max)
}

/// The stores and secrets that the sources of triggers read.
pub struct TriggerStores {
    pub objects: Objects,
    pub queues: Queues,
    pub secrets: SecretStore,
    /// Credentials for buckets of other object stores.
    pub cloud: CloudSettings,
}

impl TriggerStores {
    pub fn of(
        objects: &Objects,
        queues: &Queues,
        secrets: &SecretStore,
        config: &ServiceConfig,
    ) -> Self {
        let (objects, queues) = (objects.clone(), queues.clone());
        let cloud = config.warehouse.cloud.clone();
        TriggerStores { objects, queues, secrets: secrets.clone(), cloud }
    }
}

/// Loads the settings of the project. An error in the settings does not prevent the start.
pub async fn load_settings(config: &ServiceConfig, jobs: &Jobs) -> ProjectFileSettings {
    let settings = ProjectFileSettings::new(config.project_dir.clone(), jobs.clone());
    settings.refresh().await;
    settings
}

/// Starts the triggers. Returns `None` if they are disabled.
pub async fn start_triggers(
    lake: &Lake,
    jobs: &Jobs,
    inputs: TriggerStores,
    targets: Option<TriggerExecutor>,
) -> Result<Option<Triggers>> {
    let Some(targets) = targets else { return Ok(None) };
    let (store, clock) = (lake.store().clone(), lake.clock().clone());
    let commits: Arc<dyn CommitSource> = Arc::new(CommitHistory { lake: lake.clone() });
    let options = TriggersOptions {
        commits: Some(commits),
        objects: Some(inputs.objects),
        remote: Some(Arc::new(CloudBuckets::new(inputs.cloud))),
        queues: Some(inputs.queues),
        secrets: Some(inputs.secrets),
        ..TriggersOptions::new(store, clock, jobs.clone(), &targets.project)
    };
    let triggers = Triggers::start(options, Arc::new(targets)).await;
    triggers.map(Some).map_err(|error| Error::component(&error))
}
