//! The handle of the function runtime. The runtime builds environments, and runs functions as long
//! as the machine has free memory and processors for them.

use std::net::SocketAddr;
use std::sync::Arc;

use headwater_environments::{Environments, EnvironmentsOptions};
use headwater_metrics::{CallMetrics, InstanceCounts};
use headwater_sandbox::{ConnectionCap, Spawner};
use headwater_shared_memory::HugePageFs;
use headwater_telemetry::Telemetry;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::call_arrivals::CallArrivals;
use crate::call_registry::CallRegistry;
use crate::cpu_boost::CpuBoostLimiter;
use crate::idle_pause::IdlePauseTask;
use crate::instance_keys::InstanceKeys;
use crate::instance_start_durations::StartDurations;
use crate::preload_library::PreloadLibrary;
use crate::project_folders::{ProjectFolders, is_shareable};
use crate::provisioning::ProvisionedFunctions;
use crate::queue::Queue;
use crate::warm_instance::IdleInstance;
use crate::zygote::Zygotes;
use crate::{
    Environment, EnvironmentEvent, EnvironmentSpec, Error, FunctionsOptions, Isolation, Result,
    ZygoteReport, periodic_tasks,
};

/// A handle of the function runtime, which builds environments and runs functions. Clones share the
/// runtime. Dropping the last clone ends the spawner and all processes that the spawner started.
#[derive(Debug, Clone)]
pub struct Functions(pub(crate) Arc<FunctionsInner>);

#[derive(Debug)]
pub(crate) struct FunctionsInner {
    pub(crate) spawner: Arc<Spawner>,
    pub(crate) environments: Arc<Environments>,
    pub(crate) zygotes: Arc<Zygotes>,
    pub(crate) projects: Arc<ProjectFolders>,
    pub(crate) instance_keys: InstanceKeys,
    pub(crate) calls: CallRegistry,
    pub(crate) start_durations: StartDurations,
    pub(crate) provisioning: ProvisionedFunctions,
    pub(crate) arrivals: CallArrivals,
    pub(crate) metrics: CallMetrics,
    pub(crate) telemetry: Telemetry,
    pub(crate) cpu_boost: CpuBoostLimiter,
    pub(crate) idle_pause: IdlePauseTask,
    /// Cancels a token when the last handle is dropped.
    pub(crate) closing: DropGuard,
    pub(crate) isolation: Isolation,
    /// The file system with huge pages to which functions write their results, or the reason why
    /// results are in ordinary memory files.
    pub(crate) pages: std::result::Result<Arc<HugePageFs>, String>,
    pub(crate) nameservers: Option<Vec<SocketAddr>>,
    pub(crate) connections: Arc<ConnectionCap>,
    pub(crate) queue: Arc<Queue<IdleInstance>>,
}

impl Functions {
    /// Starts the function runtime and its spawner. On a host without support for sandboxes, the
    /// start succeeds but each call fails. In that case, [`Functions::warnings`] contains the
    /// reason.
    pub async fn start(options: FunctionsOptions) -> Result<Functions> {
        let own = options.own_dir.clone();
        std::fs::create_dir_all(&own).map_err(Error::io("create the functions' folder"))?;
        let spawner = Arc::new(Spawner::start(options.spawner.clone(), own.clone()).await?);
        let shares_folders = options.isolation == Isolation::Sandbox && is_shareable(&own);
        let mut projects = ProjectFolders::open(&own, shares_folders);
        projects.clones_mount = spawner.report().folder_mounts;
        let environments =
            Arc::new(Environments::open(environments_options(&options), spawner.clone())?);
        let library = PreloadLibrary::install(&options.tools_dir)?;
        let zygotes = Zygotes::new(spawner.clone(), options.zygotes.clone(), library);
        let pages = pages(options.isolation, spawner.report().separate_users);
        let connections = ConnectionCap::new(options.reachable_own, options.connections_max);
        let (concurrency, memory) = (options.concurrency, options.memory_bytes_total);
        let inner = Arc::new(FunctionsInner {
            spawner,
            environments,
            zygotes: Arc::new(zygotes),
            projects: Arc::new(projects),
            instance_keys: InstanceKeys::default(),
            calls: CallRegistry::default(),
            start_durations: StartDurations::default(),
            provisioning: ProvisionedFunctions::default(),
            arrivals: CallArrivals::default(),
            metrics: CallMetrics::default(),
            telemetry: options.telemetry.clone(),
            cpu_boost: CpuBoostLimiter::default(),
            idle_pause: IdlePauseTask::default(),
            closing: CancellationToken::new().drop_guard(),
            isolation: options.isolation,
            pages,
            nameservers: options.nameservers.clone(),
            connections: Arc::new(connections),
            queue: Queue::new(concurrency, memory, options.waiting_max),
        });
        periodic_tasks::start(&inner);
        Ok(Functions(inner))
    }

    /// Returns warnings about weak isolation on this host, for the caller to log at startup.
    /// Usually there are none.
    pub fn warnings(&self) -> Vec<String> {
        let report = self.0.spawner.report();
        let mut warnings = Vec::new();
        match (self.0.isolation, &report.sandbox_error) {
            (Isolation::Process, _) => warnings.push(
                "functions run without isolation: they have the rights of this user, can use the \
                 network, and can fill `/tmp`"
                    .to_owned(),
            ),
            (Isolation::Sandbox, Some(reason)) => {
                warnings.push(format!("Python functions cannot run on this host: {reason}"));
            }
            (Isolation::Sandbox, None) => {}
        }
        if !report.memory_limits {
            warnings.push(
                "control groups cannot limit memory on this host: usage is sampled, so functions \
                 can exceed their limit briefly; shared memory is not counted"
                    .to_owned(),
            );
        }
        if !report.cpu_limits {
            warnings.push("control groups cannot limit a function's CPU time on this host".into());
        }
        if !report.process_limits {
            warnings.push(
                "control groups cannot limit the number of a function's processes on this host"
                    .into(),
            );
        }
        warnings
    }

    /// Returns true if functions write their results to huge pages. The host must support huge
    /// pages, and the server must be allowed to mount a file system.
    pub fn uses_huge_pages(&self) -> bool {
        self.0.pages.is_ok()
    }

    /// Checks that this host can build an environment: that its Python version exists and its
    /// requirements are valid. Starts no process and downloads nothing.
    pub fn check_environment(&self, spec: &EnvironmentSpec) -> Result<()> {
        Ok(self.0.environments.check(spec)?)
    }

    /// Returns true if an environment is built, so that its functions start without a build.
    pub fn has_environment(&self, spec: &EnvironmentSpec) -> bool {
        self.0.environments.has(spec)
    }

    /// Returns the environment for a specification; `None` if it is not built.
    pub fn installed_environment(&self, spec: &EnvironmentSpec) -> Option<Arc<Environment>> {
        self.0.environments.installed(spec)
    }

    /// Returns the environment for a specification, and builds it if it does not exist.
    pub async fn environment(
        &self,
        spec: &EnvironmentSpec,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<Arc<Environment>> {
        Ok(self.0.environments.get(spec, on_progress).await?)
    }

    /// Returns true if this build of an environment still exists and was not replaced.
    pub fn is_current(&self, environment: &Environment) -> bool {
        self.0.environments.current_build(&environment.id).as_ref() == Some(&environment.build)
    }

    /// Returns the CPU time of all processes that the spawner started, as the kernel measures it,
    /// in microseconds; `None` without control groups.
    pub async fn kernel_cpu_us(&self) -> Option<u64> {
        self.0.spawner.total_cpu_us().await
    }

    /// Returns the metrics of calls, such as their durations.
    pub fn metrics(&self) -> &CallMetrics {
        &self.0.metrics
    }

    /// Returns the numbers of instances.
    pub fn instances(&self) -> InstanceCounts {
        self.0.queue.instances()
    }

    /// Returns the state of the zygotes.
    pub fn zygotes(&self) -> Vec<ZygoteReport> {
        self.0.zygotes.reports()
    }
}

fn environments_options(options: &FunctionsOptions) -> EnvironmentsOptions {
    EnvironmentsOptions {
        environments_dir: options.environments_dir.clone(),
        tools_dir: options.tools_dir.clone(),
        cache_dir: options.cache_dir.clone(),
        python_search: options.python_search.clone(),
    }
}

/// Creates the huge-page file system for results, or returns the reason why results must be in
/// memory files. If functions run as the server's user, results must be in memory files, because
/// functions could change the permissions of files in the file system.
fn pages(isolation: Isolation, users_apart: bool) -> std::result::Result<Arc<HugePageFs>, String> {
    match (isolation, users_apart) {
        (Isolation::Process, _) => Err("functions run without isolation".to_owned()),
        (Isolation::Sandbox, false) => {
            Err("the server does not run as root, and functions run as its user".to_owned())
        }
        (Isolation::Sandbox, true) => {
            let failed = |error| format!("a file system of huge pages cannot be mounted: {error}");
            HugePageFs::open().map(Arc::new).map_err(failed)
        }
    }
}

/// Returns the error for a host that cannot isolate functions.
pub(crate) fn unavailable(reason: &str) -> Error {
    let hint = "Allow user namespaces (`sysctl user.max_user_namespaces=15000`; on Ubuntu also \
                `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, run it \
                with `--privileged`), or accept weaker isolation with `--isolation process`.";
    Error::IsolationUnavailable { reason: reason.to_owned(), hint: hint.to_owned() }
}
