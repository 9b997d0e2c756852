//! The wiring: all components of a lake, and their start order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headwater_access::{Access, AuditRetentionSetting};
use headwater_connections::Connections;
use headwater_destinations::DestinationSender;
use headwater_engine::Engine;
use headwater_executors::{
    ActiveDeployment, BackfillExecutor, Deployer, FunctionCatalog, ImportExecutor, ImportRights,
    MaintenanceExecutor, MeteredThreadPool, ProjectFileSettings, Provisioner, ProvisionerParts,
    RunExecutor, TriggerDependencies, TriggerExecutor, UPLOADS_FOLDER, delete_interrupted_uploads,
    register_system_tables, start_maintenance,
};
use headwater_function_lake::LakeComponents;
use headwater_functions::{EnvironmentCache, Functions};
use headwater_jobs::MessageQueueMeter;
use headwater_lake::Lake;
use headwater_model::{ErrorCode, JobKind, ObjectId, Problem, RefSpec, ResultExt};
use headwater_objects::Objects;
use headwater_pipelines::Runner;
use headwater_query_results::QueryResults;
use headwater_secrets::{KeySource, SecretStore};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::access_control::AccessControl;
use crate::branch::Branches;
use crate::deployment::Deployments;
use crate::environment::Environments;
use crate::event_source_mapping::{EventSourceMappings, MappingWorkers};
use crate::iceberg::{ActiveChanges, Iceberg, ScanCache};
use crate::import::Imports;
use crate::invocation::Invocations;
use crate::job::Jobs;
use crate::maintenance::Maintenance;
use crate::namespace::Namespaces;
use crate::oidc_login::OidcAuthenticator;
use crate::reference::Refs;
use crate::run::Runs;
use crate::s3::BucketComponents;
use crate::secret::Secrets;
use crate::start::{
    TriggerStores, check_users, load_settings, open_jobs, row_quota, start_engine, start_functions,
    start_triggers,
};
use crate::statement::Statements;
use crate::table::Tables;
use crate::tag::Tags;
use crate::trigger::Triggers;
use crate::upload::Uploads;
use crate::view::Views;
use crate::{Error, Result, ServiceConfig, async_query, transaction};

/// Every operation that a client can request, grouped by noun. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Components>);

impl Service {
    /// Opens the lake and starts its components.
    pub async fn start(config: ServiceConfig) -> Result<Self> {
        let components = Arc::new(Box::pin(Components::start(config)).await?);
        EventSourceMappings::start(&components).await.map_err(|error| Error::component(&error))?;
        Ok(Service(components))
    }

    /// Returns the operations on branches.
    pub fn branches(&self) -> Branches {
        Branches(self.0.clone())
    }

    /// Returns the operations on tags.
    pub fn tags(&self) -> Tags {
        Tags(self.0.clone())
    }

    /// Returns the operations on refs.
    pub fn refs(&self) -> Refs {
        Refs(self.0.clone())
    }

    /// Returns the operations on namespaces.
    pub fn namespaces(&self) -> Namespaces {
        Namespaces(self.0.clone())
    }

    /// Returns the operations on tables.
    pub fn tables(&self) -> Tables {
        Tables(self.0.clone())
    }

    /// Returns the operations on SQL views.
    pub fn views(&self) -> Views {
        Views(self.0.clone())
    }

    /// Returns the operations on SQL statements.
    pub fn statements(&self) -> Statements {
        Statements::new(self.0.clone())
    }

    /// Returns the operations on functions.
    pub fn invocations(&self) -> Invocations {
        Invocations(self.0.clone())
    }

    /// Returns the operations on imports.
    pub fn imports(&self) -> Imports {
        Imports(self.0.clone())
    }

    /// Returns the operations on uploads.
    pub fn uploads(&self) -> Uploads {
        Uploads(self.0.clone())
    }

    /// Returns the operations on runs.
    pub fn runs(&self) -> Runs {
        Runs(self.0.clone())
    }

    /// Returns the operations on jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs(self.0.clone())
    }

    /// Returns the operations on deployments.
    pub fn deployments(&self) -> Deployments {
        Deployments(self.0.clone())
    }

    /// Returns the operations on triggers.
    pub fn triggers(&self) -> Triggers {
        Triggers(self.0.clone())
    }

    /// Returns the operations on the maintenance of tables.
    pub fn maintenance(&self) -> Maintenance {
        Maintenance(self.0.clone())
    }

    /// Returns the operations on Python environments.
    pub fn environments(&self) -> Environments {
        Environments(self.0.clone())
    }

    /// Returns the operations on secrets.
    pub fn secrets(&self) -> Secrets {
        Secrets(self.0.clone())
    }

    /// Returns the operations on the lake as an Iceberg REST catalog.
    pub fn iceberg(&self) -> Iceberg {
        Iceberg(self.0.clone())
    }

    /// Returns the operations on users and their rights.
    pub fn access_control(&self) -> AccessControl {
        AccessControl(self.0.clone())
    }

    /// Applies changed settings, retries deployments that could not be applied before, and deletes
    /// files that are no longer used.
    pub async fn refresh(&self) {
        self.0.settings.refresh().await;
        self.0.deployer.retry().await;
        self.0.refresh_access().await;
        if let Err(error) = self.0.catalog.store().remove_unused_pack_files().await {
            tracing::warn!("files of deleted functions cannot be removed: {error}");
        }
        self.0.buckets.collect_garbage().await;
        async_query::delete_expired(&self.0.results).await;
    }

    /// Sets the server's token, which authenticates the owner from now on.
    pub fn accept_owner_token(&self, token: &str) {
        *self.0.owner_token.write() = Some(ObjectId::of(token.as_bytes()));
    }

    pub(crate) fn shared(&self) -> &Arc<Components> {
        &self.0
    }

    /// Returns true while a job or an asynchronous query is running, or a trigger, a pending call
    /// or an event source mapping may start a job, or instances are provisioned.
    pub fn is_busy(&self) -> bool {
        let triggers = self.0.triggers.as_ref();
        self.0.jobs.monitor().running() > 0
            || self.0.results.running() > 0
            || self.0.deployer.has_triggers()
            || triggers.is_some_and(headwater_triggers::Triggers::has_calls)
            || self.0.mappings.is_active()
            || self.0.provisioner.is_active()
    }

    /// Stops the components that work without requests: triggers, event source mappings, automatic
    /// maintenance and provisioned instances. Also closes the queues.
    pub fn stop_background(&self) {
        if let Some(triggers) = &self.0.triggers {
            triggers.stop();
        }
        self.0.mappings.stop();
        self.0.provisioner.stop();
        self.0.queues.close();
        self.0.message_queue_meter.flush();
        if let Some(maintenance) = &self.0.auto_maintenance {
            maintenance.cancel();
        }
    }

    /// Rejects new jobs from now on; running jobs continue.
    pub fn close(&self) {
        self.0.jobs.close();
    }

    /// Waits until all jobs have ended, or interrupts them after a timeout. Then waits until the
    /// results of asynchronous queries are stored.
    pub async fn drain(&self, timeout: Duration) {
        self.0.jobs.drain(timeout).await;
        async_query::drain(&self.0.results).await;
        self.0.mappings.drain().await;
        self.0.refresh_access().await;
    }
}

/// The components of a running lake.
pub(crate) struct Components {
    /// The configuration with which the service was started.
    pub config: ServiceConfig,
    /// The lake: tables and their branches.
    pub lake: Lake,
    /// Users, roles, grants and credentials.
    pub access: Access,
    /// Logins at an OpenID provider, if one is configured.
    pub oidc: Option<OidcAuthenticator>,
    /// The access checks of imports.
    pub import_rights: ImportRights,
    /// SHA-256 of the server's token, which authenticates the owner.
    pub owner_token: RwLock<Option<ObjectId>>,
    /// The SQL engine, which plans and executes statements.
    pub engine: Engine,
    /// The job queue.
    pub jobs: headwater_jobs::Jobs,
    /// The runner of projects.
    pub runner: Runner,
    /// The function runtime.
    pub functions: Functions,
    /// The catalog of functions that are deployed without a project.
    pub catalog: FunctionCatalog,
    /// The triggers; `None` if the configuration disables them.
    pub triggers: Option<headwater_triggers::Triggers>,
    /// Settings of `headwater.toml` that apply without a deployment: rate card and project name.
    pub settings: ProjectFileSettings,
    /// A token that stops automatic maintenance; `None` if the configuration disables it.
    pub auto_maintenance: Option<CancellationToken>,
    /// The deployer of projects, which holds the active version.
    pub deployer: Deployer,
    /// The provisioned instances of deployed functions.
    pub provisioner: Provisioner,
    /// The secrets of functions.
    pub secrets: SecretStore,
    /// The buckets, and the access keys of their clients.
    pub buckets: BucketComponents,
    /// The message queues.
    pub queues: headwater_queues::Queues,
    /// Counts the requests of users to queues.
    pub message_queue_meter: MessageQueueMeter,
    /// The event source mappings of queues, and their workers.
    pub mappings: MappingWorkers,
    /// Cache of the Python environments that function calls use.
    pub given: Arc<EnvironmentCache>,
    /// Thread pool for operations that are recorded as jobs. It measures their processor time.
    pub operations: MeteredThreadPool,
    /// Scans planned for Iceberg REST clients.
    pub scans: ScanCache,
    /// Changes of Iceberg REST clients that are in progress.
    pub changes: ActiveChanges,
    /// The results of asynchronous queries.
    pub results: QueryResults,
    /// The open connections of clients.
    pub connections: Connections,
}

impl Components {
    /// Starts all components in the order of their dependencies. The spawner starts first, while
    /// the process is small. Executors are registered last, because this starts queued jobs.
    pub async fn start(config: ServiceConfig) -> Result<Self> {
        let folder = &config.lake_dir;
        let functions = start_functions(&config).await?;
        clear_folders(folder)?;
        let lake = open_lake(&config).await?;
        transaction::delete_interrupted(&lake).await;
        let access = open_access(&config, &lake).await?;
        let (oidc, queues) = (OidcAuthenticator::of(&config)?, open_queues(&lake).await?);
        let buckets = BucketComponents::open(&config, &lake)?;
        let (engine, secrets) = (start_engine(&config, &lake)?, secret_store(&lake, &config));
        let jobs = open_jobs(&config, &lake, &access).await?;
        register_system_tables(&engine, &jobs, &lake, &access);
        let (of_runs, quota) = (engine.clone(), row_quota(&config));
        let runner = Runner::new(of_runs, functions.clone(), jobs.clone(), secrets.clone(), quota);
        quarantine_interrupted(&runner, &jobs).await;
        let (objects, uploads) = (buckets.objects.clone(), folder.join(UPLOADS_FOLDER));
        let import_rights = import_rights(&config, &access, uploads, objects);
        let imports = import_executor(&lake, &import_rights);
        let parts = lake_parts(&lake, &engine, &buckets);
        let destinations = DestinationSender::new(parts, &queues, &secrets);
        let runs = RunExecutor::new(&runner, &lake, &access, &secrets, &destinations);
        let catalog = FunctionCatalog::new(&lake, &buckets.objects, folder);
        let deployed = Arc::<ActiveDeployment>::default();
        let given = Arc::<EnvironmentCache>::default();
        let targets = project_dir(&config).map(|project| TriggerExecutor {
            catalog: catalog.clone(),
            imports: imports.clone(),
            runs: runs.clone(),
            runner: runner.clone(),
            destinations,
            given: given.clone(),
            project,
            deployed: deployed.clone(),
        });
        let provisioned = ProvisionerParts::of(&runner, &given, &catalog, &deployed);
        let inputs = TriggerStores::of(&buckets.objects, &queues, &secrets, &config);
        let triggers = start_triggers(&lake, &jobs, inputs, targets).await?;
        let sources = TriggerDependencies::of(triggers.as_ref(), &buckets.objects, &access);
        let deployer = Deployer::new(lake.clone(), sources, secrets.clone(), &provisioned);
        deployer.load().await;
        let settings = load_settings(&config, &jobs).await;
        register_executors(&jobs, imports, runs, &lake).await;
        Ok(Components {
            message_queue_meter: MessageQueueMeter::start(jobs.clone()),
            results: async_query::open(&config, &lake).await?,
            auto_maintenance: auto_maintenance(&config, &lake, &jobs),
            mappings: MappingWorkers::open(&lake),
            config,
            lake,
            access,
            oidc,
            import_rights,
            owner_token: RwLock::default(),
            engine,
            jobs,
            runner,
            functions,
            catalog,
            triggers,
            settings,
            provisioner: Provisioner::start(provisioned),
            deployer,
            secrets,
            buckets,
            queues,
            given,
            operations: MeteredThreadPool::default(),
            scans: ScanCache::default(),
            changes: ActiveChanges::default(),
            connections: Connections::default(),
        })
    }

    /// Returns the components of the lake that functions can access.
    pub fn lake_parts(&self) -> LakeComponents {
        lake_parts(&self.lake, &self.engine, &self.buckets)
    }

    /// Returns true if the text is the server's token. Compares hashes, so that the duration of the
    /// comparison does not reveal the token.
    pub fn is_owner_token(&self, shown: &str) -> bool {
        *self.owner_token.read() == Some(ObjectId::of(shown.as_bytes()))
    }

    /// Reloads grants after changes by other processes, and stores pending audit events.
    async fn refresh_access(&self) {
        if let Err(error) = self.access.refresh().await {
            tracing::warn!("users and grants cannot be read: {error}");
        }
        if let Err(error) = self.access.audit().flush().await {
            tracing::warn!("audit events cannot be stored: {error}");
        }
        let kept = AuditRetentionSetting::of(&self.access).get().keep_seconds;
        let kept = self.config.audit_kept.unwrap_or(Duration::from_secs(kept));
        if let Err(error) = self.access.audit().expire(kept).await {
            tracing::warn!("old audit events cannot be deleted: {error}");
        }
    }

    /// Returns the target branch of a write; `main` by default.
    pub async fn branch_to_write(&self, reference: Option<&RefSpec>) -> Result<String, Problem> {
        let main = RefSpec::main();
        let reference = reference.unwrap_or(&main);
        let resolved = self.lake.catalog().resolve(reference).await;
        resolved.or_problem()?.branch.ok_or_else(|| {
            let message = format!("`{reference}` is read-only, because it is not a branch");
            Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Create a branch from this ref and write there.")
        })
    }
}

fn lake_parts(lake: &Lake, engine: &Engine, buckets: &BucketComponents) -> LakeComponents {
    let objects = buckets.objects.clone();
    LakeComponents { lake: lake.clone(), engine: engine.clone(), objects }
}

fn import_executor(lake: &Lake, rights: &ImportRights) -> ImportExecutor {
    let (lake, rights) = (lake.clone(), rights.clone());
    ImportExecutor { lake, runtime: MeteredThreadPool::default(), rights }
}

async fn open_queues(lake: &Lake) -> Result<headwater_queues::Queues> {
    let opened = headwater_queues::Queues::open(lake.store().clone(), lake.clock().clone()).await;
    opened.map_err(|error| Error::component(&error))
}

/// Starts automatic maintenance, unless the configuration disables it.
fn auto_maintenance(
    config: &ServiceConfig,
    lake: &Lake,
    jobs: &headwater_jobs::Jobs,
) -> Option<CancellationToken> {
    let start = || start_maintenance(lake.clone(), jobs.clone(), config.remove_orphans);
    config.maintenance.then(start)
}

fn import_rights(
    config: &ServiceConfig,
    access: &Access,
    uploads: PathBuf,
    objects: Objects,
) -> ImportRights {
    let mut credentials = config.credentials.clone();
    if let KeySource::File(file) = &config.secret_key {
        credentials.push(file.clone());
    }
    let (access, lake_dir) = (access.clone(), config.lake_dir.clone());
    ImportRights { access, lake_dir, credentials, uploads, objects }
}

fn secret_store(lake: &Lake, config: &ServiceConfig) -> SecretStore {
    SecretStore::new(lake.store().clone(), lake.clock().clone(), config.secret_key.clone())
}

async fn open_lake(config: &ServiceConfig) -> Result<Lake> {
    let lake = Lake::open_folder(&config.lake_dir, config.warehouse.clone()).await;
    let lake = lake.map_err(|error| Error::component(&error))?;
    lake.telemetry().set_telemetry(config.telemetry.clone());
    Ok(lake)
}

async fn open_access(config: &ServiceConfig, lake: &Lake) -> Result<Access> {
    let access = Access::open(lake.store().clone(), lake.clock().clone()).await;
    let access = access.map_err(|error| Error::component(&error))?;
    check_users(config, &access).map(|()| access)
}

async fn register_executors(
    jobs: &headwater_jobs::Jobs,
    imports: ImportExecutor,
    runs: RunExecutor,
    lake: &Lake,
) {
    let (jobs_of, access) = (jobs.clone(), runs.access.clone());
    let backfills = BackfillExecutor { jobs: jobs_of, lake: lake.clone(), access };
    backfills.delete_interrupted().await;
    jobs.register(JobKind::Backfill, Arc::new(backfills));
    jobs.register(JobKind::Import, Arc::new(imports));
    jobs.register(JobKind::Run, Arc::new(runs));
    let maintenance =
        MaintenanceExecutor { lake: lake.clone(), runtime: MeteredThreadPool::background() };
    jobs.register(JobKind::Maintenance, Arc::new(maintenance));
}

/// Removes the spill files and interrupted uploads that a killed server left.
fn clear_folders(lake: &Path) -> Result<()> {
    delete_interrupted_uploads(&lake.join(UPLOADS_FOLDER));
    let path = lake.join("spill");
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Folder { path, source })
        }
        _ => Ok(()),
    }
}

/// Quarantines the branches of runs that were interrupted when the last server ended. A quarantined
/// branch can be read, but it can be merged only if the request waives the checks.
async fn quarantine_interrupted(runner: &Runner, jobs: &headwater_jobs::Jobs) {
    for id in jobs.interrupted() {
        if let Err(error) = runner.quarantine(*id).await {
            tracing::warn!("the branch of interrupted run {id} cannot be quarantined: {error}");
        }
    }
}

/// Returns the base folder for relative paths of triggers; `None` if triggers are disabled.
fn project_dir(config: &ServiceConfig) -> Option<PathBuf> {
    let around = || config.lake_dir.parent().map(Path::to_owned);
    config.project_dir.clone().or_else(around).filter(|_| config.triggers)
}
