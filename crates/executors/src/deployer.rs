//! The active version of the project, which function calls and triggers use.
//!
//! [`ActiveDeployment`] holds the parsed version. [`Deployer`] replaces the active version: a new
//! version is durable before it is active, and active before the deployment is acknowledged. A
//! rejected deployment changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_access::Access;
use headwater_deployments::{
    DeploymentStore, StandaloneTrigger, StandaloneTriggerStore, deploy_changes,
};
use headwater_engine::SessionRights;
use headwater_lake::Lake;
use headwater_model::{
    AccessObject, Action, Actor, DeployReport, Deployment, ErrorCode, MAIN_BRANCH, ObjectId,
    Problem, ProjectFiles, ResultExt, ToProblem, Trigger,
};
use headwater_objects::Objects;
use headwater_pipelines::{ParsedProject, Project, Runner, parse_project};
use headwater_secrets::SecretStore;
use headwater_triggers::{ConnectionPolicy, Triggers, check_trigger, check_upcoming};
use parking_lot::RwLock;

use crate::destination_delivery::{ProjectDestinations, connection_policy};
use crate::function_catalog::{FunctionCatalog, split_name};
use crate::project_files::read_project;
use crate::provisioner::{ProvisionerParts, provisioning_warning};
use crate::trigger_rights::{TargetProject, check_trigger_rights};

/// A parsed version of the project.
#[derive(Debug, Clone)]
pub struct ParsedDeployment {
    /// The hash of the version's files.
    pub id: ObjectId,
    /// The parsed project.
    pub project: Arc<Project>,
    /// The identity whose rights the version's triggers have.
    pub actor: Actor,
}

impl ParsedDeployment {
    /// Returns true if the project declares a trigger with this name.
    pub(crate) fn has_trigger(&self, name: &str) -> bool {
        self.project.triggers.iter().any(|trigger| trigger.name == name)
    }
}

/// The identity that deploys a version or creates a trigger.
pub struct DeployIdentity {
    /// The author of the deployment.
    pub author: String,
    /// The identity whose rights the triggers have.
    pub actor: Actor,
    /// The access decisions for this identity; `None` allows everything.
    pub access: Option<Arc<dyn SessionRights>>,
}

/// The active version, shared by its readers.
#[derive(Debug, Default)]
pub struct ActiveDeployment {
    state: RwLock<DeployedState>,
    /// The triggers that are created without a project, by name.
    standalone: RwLock<Arc<BTreeMap<String, StandaloneTrigger>>>,
}

#[derive(Debug, Default)]
enum DeployedState {
    #[default]
    Nothing,
    Active(ParsedDeployment),
    /// The version cannot be parsed by this release; an earlier release accepted it.
    Unreadable(Problem),
}

impl ActiveDeployment {
    /// Returns the active version, if one is deployed. Errors: the version cannot be read.
    pub fn version(&self) -> Result<Option<ParsedDeployment>, Problem> {
        match &*self.state.read() {
            DeployedState::Nothing => Ok(None),
            DeployedState::Active(version) => Ok(Some(version.clone())),
            DeployedState::Unreadable(problem) => Err(problem.clone()),
        }
    }

    /// Returns the active version. Errors: `deployment_not_found` if none is deployed.
    pub fn require(&self) -> Result<ParsedDeployment, Problem> {
        self.version()?.ok_or_else(nothing_deployed)
    }

    fn set(&self, state: DeployedState) {
        *self.state.write() = state;
    }

    /// Returns the triggers that are created without a project, by name.
    pub fn standalone(&self) -> Arc<BTreeMap<String, StandaloneTrigger>> {
        self.standalone.read().clone()
    }
}

/// The components that a [`Deployer`] needs for triggers.
pub struct TriggerDependencies {
    /// The triggers; `None` if they are disabled.
    pub triggers: Option<Triggers>,
    /// The buckets, which record changes for triggers.
    pub objects: Objects,
    /// The rights of users, which determine the servers that triggers may connect to.
    pub access: Access,
}

impl TriggerDependencies {
    /// Creates handles to the triggers, the buckets and the rights of users.
    pub fn of(triggers: Option<&Triggers>, objects: &Objects, access: &Access) -> Self {
        let (triggers, objects) = (triggers.cloned(), objects.clone());
        TriggerDependencies { triggers, objects, access: access.clone() }
    }
}

/// Deploys projects: validates a version, stores it, and makes it the active version.
pub struct Deployer {
    versions: DeploymentStore,
    deployed: Arc<ActiveDeployment>,
    pub(crate) triggers: Option<Triggers>,
    objects: Objects,
    pub(crate) access: Access,
    pub(crate) lake: Lake,
    pub(crate) secrets: SecretStore,
    /// The functions that are deployed without a project.
    pub(crate) catalog: FunctionCatalog,
    /// The runner, which knows the Python versions of this host.
    runner: Runner,
    /// The triggers that are created without a project.
    pub(crate) standalone: StandaloneTriggerStore,
    /// A lock that is held while the active version or a standalone trigger is being replaced.
    pub(crate) activation: tokio::sync::Mutex<()>,
    /// True if the version or the standalone triggers changed, but the changes are not loaded yet.
    pub(crate) triggers_outdated: AtomicBool,
}

impl Deployer {
    /// Creates the deployer of a lake's project.
    pub fn new(
        lake: Lake,
        sources: TriggerDependencies,
        secrets: SecretStore,
        functions: &ProvisionerParts,
    ) -> Self {
        let ProvisionerParts { runner, catalog, deployed, .. } = functions.clone();
        let TriggerDependencies { triggers, objects, access } = sources;
        let versions = DeploymentStore::new(lake.store().clone(), lake.clock().clone());
        let standalone = StandaloneTriggerStore::new(lake.store().clone());
        let activation = tokio::sync::Mutex::default();
        let triggers_outdated = AtomicBool::new(false);
        Deployer {
            versions,
            deployed,
            triggers,
            objects,
            access,
            lake,
            secrets,
            catalog,
            runner,
            standalone,
            activation,
            triggers_outdated,
        }
    }

    /// Returns the shared active version.
    pub fn deployed(&self) -> &ActiveDeployment {
        &self.deployed
    }

    /// Returns the stored versions.
    pub fn versions(&self) -> &DeploymentStore {
        &self.versions
    }

    /// Returns true if triggers are enabled, and the active version declares a trigger or a client
    /// created one.
    pub fn has_triggers(&self) -> bool {
        let version = self.deployed.version().ok().flatten();
        let is_declared = version.is_some_and(|version| !version.project.triggers.is_empty());
        self.triggers.is_some() && (is_declared || !self.deployed.standalone().is_empty())
    }

    /// Loads the version that the store records as active, at the start of the server.
    pub async fn load(&self) {
        let _guard = self.activation.lock().await;
        self.load_stored().await;
        self.delete_removed().await;
    }

    async fn load_stored(&self) {
        let state = match self.stored().await {
            Ok(None) => DeployedState::Nothing,
            Ok(Some(version)) => DeployedState::Active(version),
            Err(problem) => {
                tracing::warn!("the deployed version cannot be read: {problem}");
                DeployedState::Unreadable(problem)
            }
        };
        self.deployed.set(state);
        self.triggers_outdated.store(true, Ordering::Relaxed);
        self.update_triggers().await;
    }

    async fn stored(&self) -> Result<Option<ParsedDeployment>, Problem> {
        let active = self.versions.active().await.map_err(|error| error.to_problem())?;
        let Some(id) = active else { return Ok(None) };
        let files = self.versions.files(id).await.map_err(|error| error.to_problem())?;
        let actor = self.versions.actor(id).await.map_err(|error| error.to_problem())?;
        // Accept missing functions: a function that a trigger calls may have been deleted since the
        // deployment.
        let project = parse(files, None).await?;
        Ok(Some(ParsedDeployment { id, project: Arc::new(project), actor }))
    }

    /// Loads the triggers of the active version and the standalone triggers, if the loaded triggers
    /// are outdated. Returns the problem if the load fails.
    pub(crate) async fn update_triggers(&self) -> Option<Problem> {
        if !self.triggers_outdated.load(Ordering::Relaxed) {
            return None;
        }
        // If the active version cannot be read, its triggers are unknown. So do not change the
        // triggers.
        let Ok(version) = self.deployed.version() else { return None };
        let standalone = match self.read_standalone(version.as_ref()).await {
            Ok(standalone) => standalone,
            Err(problem) => {
                tracing::warn!("the standalone triggers cannot be read: {problem}");
                return Some(problem);
            }
        };
        *self.deployed.standalone.write() = standalone.clone();
        let policy = |trigger: &Trigger| match (standalone.get(&trigger.name), &version) {
            (Some(created), _) => connection_policy(&self.access, &created.actor),
            (None, Some(version)) => connection_policy(&self.access, &version.actor),
            (None, None) => ConnectionPolicy::default(),
        };
        let mut all: Vec<Trigger> =
            version.as_ref().map(|version| version.project.triggers.clone()).unwrap_or_default();
        all.extend(standalone.values().map(|created| created.trigger.clone()));
        match &self.triggers {
            // Triggers are disabled on this server. The buckets still record changes, so that a
            // later server delivers them.
            None => self.objects.watch(headwater_triggers::bucket_filters(&all)),
            // There are no triggers to start, and none to stop.
            Some(triggers) if version.is_none() && all.is_empty() && triggers.list().is_empty() => {
            }
            Some(triggers) => {
                if let Err(error) = triggers.reload_for(all, &policy).await {
                    tracing::warn!(%error, "the changed triggers are not active yet");
                    return Some(error.to_problem());
                }
            }
        }
        self.triggers_outdated.store(false, Ordering::Relaxed);
        None
    }

    /// Reads the standalone triggers. Skips triggers whose name the version declares, and triggers
    /// that are invalid in this release.
    async fn read_standalone(
        &self,
        version: Option<&ParsedDeployment>,
    ) -> Result<Arc<BTreeMap<String, StandaloneTrigger>>, Problem> {
        let mut usable = BTreeMap::new();
        for created in self.standalone.list().await.or_problem()? {
            let name = created.trigger.name.clone();
            if created.removed || version.is_some_and(|version| version.has_trigger(&name)) {
                continue;
            }
            match check_trigger(&created.trigger) {
                Ok(()) => drop(usable.insert(name, created)),
                Err(error) => {
                    tracing::warn!(%error, "the standalone trigger `{name}` is not active");
                }
            }
        }
        Ok(Arc::new(usable))
    }

    /// Repeats a failed load of the active version's triggers. The load can fail because the disk
    /// is full, for example.
    pub async fn retry(&self) {
        if self.triggers_outdated.load(Ordering::Relaxed) {
            let _guard = self.activation.lock().await;
            self.update_triggers().await;
        }
    }

    /// Validates a project and, unless `dry_run`, activates it.
    ///
    /// Errors: `invalid_project`, with every error of every file; nothing is changed.
    pub async fn deploy(
        &self,
        files: ProjectFiles,
        by: DeployIdentity,
        dry_run: bool,
    ) -> Result<DeployReport, Problem> {
        let functions = self.catalog.names().await?;
        let project = parse(files, Some(functions.clone())).await?;
        check_functions(&project, &functions)?;
        self.runner.check_environments(&project).or_problem()?;
        check_triggers(&project, by.access.as_deref())?;
        self.check_schedules(&project)?;
        self.check_secrets(&project, by.access.as_deref()).await?;
        let destinations = ProjectDestinations { project: &project, functions: &functions };
        destinations.check(&self.access, &self.secrets, &by.actor).await?;
        let DeployIdentity { author, actor, .. } = by;
        let _guard = self.activation.lock().await;
        self.check_names(&project)?;
        let before = self.deployed.version().ok().flatten();
        let deployment = if dry_run {
            self.versions.preview(&project, &author)
        } else {
            let deployed = self.versions.deploy(&project, &author, actor.clone()).await;
            self.stored_or_reload(deployed).await?
        };
        let version =
            ParsedDeployment { id: deployment.version, project: Arc::new(project), actor };
        Ok(self.report(before, version, deployment, dry_run).await)
    }

    /// Checks that no new one-time schedule is in the past. Accepts a time that the active version
    /// has for the same trigger or for a trigger that the project no longer declares, because the
    /// trigger may have fired at this time. Accepts all times if the active version cannot be read.
    fn check_schedules(&self, project: &Project) -> Result<(), Problem> {
        let Ok(active) = self.deployed.version() else { return Ok(()) };
        let declares = |name: &str| project.triggers.iter().any(|trigger| trigger.name == name);
        let now = self.lake.clock().now();
        for trigger in &project.triggers {
            let before = active.iter().flat_map(|version| &version.project.triggers);
            let replaced = before.filter(|it| it.name == trigger.name || !declares(&it.name));
            check_upcoming(trigger, replaced, now).or_problem().map_err(|problem| {
                let message = format!("{} ({})", problem.message, trigger.defined_at);
                Problem { message, ..problem }
            })?;
        }
        Ok(())
    }

    /// Checks that the secrets of functions and triggers exist, and that the principal may use the
    /// secrets of functions. [`check_triggers`] checks the rights to the secrets of triggers.
    async fn check_secrets(
        &self,
        project: &Project,
        access: Option<&dyn SessionRights>,
    ) -> Result<(), Problem> {
        let callables = project.callables.values();
        let names = callables.flat_map(|callable| callable.function.secrets.iter().cloned());
        let mut names: Vec<String> = names.collect();
        if let Some(access) = access {
            for name in &names {
                access.check(Action::Use, &AccessObject::secret(name))?;
            }
        }
        let of_triggers = project.triggers.iter().flat_map(Trigger::secrets).map(str::to_owned);
        names.extend(of_triggers);
        self.secrets.check(&names).await.or_problem()
    }

    /// Activates a version that was deployed before.
    pub async fn activate(&self, version: &str) -> Result<DeployReport, Problem> {
        let _guard = self.activation.lock().await;
        let found = self.versions.get(version).await.map_err(|error| error.to_problem())?;
        let files = self.versions.files(found.version).await;
        let project = parse(files.map_err(|error| error.to_problem())?, None).await?;
        self.check_names(&project)?;
        let before = self.deployed.version().ok().flatten();
        let actor = self.versions.actor(found.version).await;
        let actor = actor.map_err(|error| error.to_problem())?;
        self.stored_or_reload(self.versions.activate(found.version).await).await?;
        let version = ParsedDeployment { id: found.version, project: Arc::new(project), actor };
        Ok(self.report(before, version, Deployment { active: true, ..found }, false).await)
    }

    /// Reloads the active version after an error, because the new version may be stored despite the
    /// error.
    async fn stored_or_reload<T>(
        &self,
        outcome: headwater_deployments::Result<T>,
    ) -> Result<T, Problem> {
        match outcome {
            Ok(stored) => Ok(stored),
            Err(error) => {
                self.load_stored().await;
                Err(error.to_problem())
            }
        }
    }

    async fn report(
        &self,
        before: Option<ParsedDeployment>,
        version: ParsedDeployment,
        deployment: Deployment,
        dry_run: bool,
    ) -> DeployReport {
        let project = version.project.clone();
        let changes = deploy_changes(before.as_ref().map(|before| &*before.project), &project);
        let previous = before.map(|before| before.id);
        let callables = project.callables.values();
        let mut warnings: Vec<String> = callables.filter_map(provisioning_warning).collect();
        let principal = version.actor.principal();
        if !dry_run {
            self.deployed.set(DeployedState::Active(version));
            self.triggers_outdated.store(true, Ordering::Relaxed);
            let failed = self.update_triggers().await;
            warnings
                .extend(failed.map(|problem| format!("triggers are not active yet: {problem}")));
        }
        for trigger in &project.triggers {
            let branch = AccessObject::branch(trigger.branch.as_deref().unwrap_or(MAIN_BRANCH));
            if !self.access.decide(&principal, Action::Read, &branch).is_allowed() {
                continue;
            }
            if let Ok(Some(problem)) = missing_branch(&self.lake, trigger).await {
                warnings.push(problem.message);
            }
        }
        DeployReport { deployment, dry_run, previous, changes, warnings }
    }
}

/// Returns the problem of a trigger whose branch does not exist; `None` if the branch exists.
pub async fn missing_branch(lake: &Lake, trigger: &Trigger) -> Result<Option<Problem>, Problem> {
    let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
    match lake.catalog().branch(branch).await {
        Ok(_) => Ok(None),
        Err(error) if error.code() == ErrorCode::RefNotFound => {
            let name = &trigger.name;
            let message = format!("branch `{branch}` of trigger `{name}` does not exist");
            let hint = format!("Create the branch with `headwater branch create {branch}`.");
            Ok(Some(Problem::new(ErrorCode::RefNotFound, message).with_hint(hint)))
        }
        Err(error) => Err(error.to_problem()),
    }
}

/// Returns the error if nothing is deployed.
pub fn nothing_deployed() -> Problem {
    let message = "no version of the project is deployed";
    Problem::new(ErrorCode::DeploymentNotFound, message).with_hint("Run `headwater deploy`.")
}

/// Checks that the functions of a project and the functions without a project have different names.
fn check_functions(project: &Project, functions: &[String]) -> Result<(), Problem> {
    if let Some(name) = functions.iter().find(|name| project.callables.contains_key(*name)) {
        let message = format!(
            "the project defines function `{name}`, but a function with this name was deployed \
             with `headwater function deploy`"
        );
        let hint =
            format!("Rename the function of the project, or run `headwater function rm {name}`.");
        return Err(Problem::new(ErrorCode::AlreadyExists, message).with_hint(hint));
    }
    Ok(())
}

/// Checks that the identity has the rights to the sources and targets of the triggers.
fn check_triggers(project: &Project, access: Option<&dyn SessionRights>) -> Result<(), Problem> {
    let Some(access) = access else { return Ok(()) };
    let check = |trigger| check_trigger_rights(trigger, TargetProject::Declares(project), access);
    project.triggers.iter().try_for_each(check)
}

/// Parses a whole project on a blocking thread. Triggers may call the functions of the project and
/// the functions in `functions`. If `functions` is `None`, the project is already deployed:
/// triggers may call any function, and handlers are not checked.
async fn parse(files: ProjectFiles, functions: Option<Vec<String>>) -> Result<Project, Problem> {
    let parsed = move || {
        let mut parsed = parse_project(&files).map_err(|error| error.to_problem())?;
        if functions.is_some() {
            parsed = parsed.with_deployment_errors();
        }
        let exists = |name: &str| {
            let (name, _) = split_name(name);
            functions.as_ref().is_none_or(|functions| functions.iter().any(|one| one == name))
        };
        parsed.into_whole(exists).map_err(|error| error.to_problem())
    };
    tokio::task::spawn_blocking(parsed).await.map_err(|error| unread(&error))?
}

/// Parses the project in a folder. Errors: a file cannot be read; `invalid_project`.
pub async fn parse_folder(folder: PathBuf) -> Result<ParsedProject, Problem> {
    let parsed = move || parse_project(&read_project(&folder)?).map_err(|error| error.to_problem());
    tokio::task::spawn_blocking(parsed).await.map_err(|error| unread(&error))?
}

fn unread(error: &tokio::task::JoinError) -> Problem {
    Problem::new(ErrorCode::Internal, format!("reading the project failed: {error}"))
}
