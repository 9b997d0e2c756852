//! The version of the project that is in force: calls of functions and triggers use it, whatever the
//! files of the working folder are by then.
//!
//! [`Deployed`] holds the version, parsed once. [`Deployer`] replaces it: a new version is durable
//! before it is in force, and in force before the deployment is acknowledged. A deployment that is
//! refused changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_jobs::Triggers;
use headwater_lake::Lake;
use headwater_model::{
    DeployReport, Deployment, ErrorCode, Fault, MAIN_BRANCH, ObjectId, Problem, Trigger,
};
use headwater_pipelines::{Deployments, Parsed, Project, deploy_changes};
use parking_lot::RwLock;

use crate::project_files::read_project;

/// A version of the project, parsed.
#[derive(Debug, Clone)]
pub struct Version {
    /// The hash of its files.
    pub id: ObjectId,
    /// The project.
    pub project: Arc<Project>,
}

/// The version in force.
#[derive(Debug, Default)]
pub struct Deployed {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    InForce(Version),
    /// A version that a former release accepted and this one cannot read.
    Unreadable(Problem),
}

impl Deployed {
    /// The version in force; none where nothing is deployed. Error: where it cannot be read.
    pub fn version(&self) -> Result<Option<Version>, Problem> {
        match &*self.state.read() {
            State::Nothing => Ok(None),
            State::InForce(version) => Ok(Some(version.clone())),
            State::Unreadable(problem) => Err(problem.clone()),
        }
    }

    /// The version in force. Error: `deployment_not_found` where nothing is deployed.
    pub fn require(&self) -> Result<Version, Problem> {
        self.version()?.ok_or_else(nothing_deployed)
    }

    fn set(&self, state: State) {
        *self.state.write() = state;
    }
}

/// Replaces the version in force.
pub struct Deployer {
    deployments: Deployments,
    deployed: Arc<Deployed>,
    triggers: Option<Triggers>,
    lake: Lake,
    /// Held while the version in force is replaced.
    switching: tokio::sync::Mutex<()>,
    /// Whether the triggers are still those of another version.
    is_behind: AtomicBool,
}

impl Deployer {
    /// A deployer for the project of a lake.
    pub fn new(lake: Lake, deployed: Arc<Deployed>, triggers: Option<Triggers>) -> Self {
        let deployments = Deployments::new(lake.store().clone(), lake.clock().clone());
        let switching = tokio::sync::Mutex::default();
        let is_behind = AtomicBool::new(false);
        Deployer { deployments, deployed, triggers, lake, switching, is_behind }
    }

    /// The version in force.
    pub fn deployed(&self) -> &Deployed {
        &self.deployed
    }

    /// The deployed versions.
    pub fn deployments(&self) -> &Deployments {
        &self.deployments
    }

    /// Whether the version in force has triggers that this server acts on.
    pub fn has_triggers(&self) -> bool {
        self.triggers.is_some()
            && matches!(self.deployed.version(), Ok(Some(version)) if !version.project.triggers.is_empty())
    }

    /// Puts in force what the store says is.
    pub async fn load(&self) {
        let _turn = self.switching.lock().await;
        self.load_stored().await;
    }

    async fn load_stored(&self) {
        let state = match self.stored().await {
            Ok(None) => State::Nothing,
            Ok(Some(version)) => State::InForce(version),
            Err(problem) => {
                tracing::warn!("the deployed version cannot be read: {problem}");
                State::Unreadable(problem)
            }
        };
        self.deployed.set(state);
        self.is_behind.store(true, Ordering::Relaxed);
        self.catch_up().await;
    }

    async fn stored(&self) -> Result<Option<Version>, Problem> {
        let active = self.deployments.active().await.map_err(|error| error.to_problem())?;
        let Some(id) = active else { return Ok(None) };
        let files = self.deployments.files(id).await.map_err(|error| error.to_problem())?;
        Ok(Some(Version { id, project: Arc::new(parse(files).await?) }))
    }

    /// Has triggers follow the version in force, where they do not; answers why they cannot.
    async fn catch_up(&self) -> Option<Problem> {
        if !self.is_behind.load(Ordering::Relaxed) {
            return None;
        }
        // Nothing is forgotten of triggers whose version cannot be read now.
        let Ok(version) = self.deployed.version() else { return None };
        let declared = version.map(|version| version.project.triggers.clone());
        if let (Some(triggers), Some(declared)) = (&self.triggers, declared)
            && let Err(error) = triggers.reload(declared).await
        {
            tracing::warn!(%error, "the triggers of the deployed version are not in force yet");
            return Some(error.to_problem());
        }
        self.is_behind.store(false, Ordering::Relaxed);
        None
    }

    /// Tries again what a full disk, or the like, kept from being put in force.
    pub async fn retry(&self) {
        if self.is_behind.load(Ordering::Relaxed) {
            let _turn = self.switching.lock().await;
            self.catch_up().await;
        }
    }

    /// Validates a project and puts it in force, unless only validation is asked for.
    ///
    /// Error: `invalid_project`, with every error of every file; nothing changes then.
    pub async fn deploy(
        &self,
        files: BTreeMap<String, String>,
        author: &str,
        dry_run: bool,
    ) -> Result<DeployReport, Problem> {
        let project = parse(files).await?;
        let _turn = self.switching.lock().await;
        let before = self.deployed.version().ok().flatten();
        let deployment = if dry_run {
            self.deployments.preview(&project, author)
        } else {
            self.stored_or_reloaded(self.deployments.deploy(&project, author).await).await?
        };
        Ok(self.report(before, project, deployment, dry_run).await)
    }

    /// Puts a version in force that was deployed before.
    pub async fn activate(&self, version: &str) -> Result<DeployReport, Problem> {
        let _turn = self.switching.lock().await;
        let found = self.deployments.get(version).await.map_err(|error| error.to_problem())?;
        let files = self.deployments.files(found.version).await;
        let project = parse(files.map_err(|error| error.to_problem())?).await?;
        let before = self.deployed.version().ok().flatten();
        self.stored_or_reloaded(self.deployments.activate(found.version).await).await?;
        Ok(self.report(before, project, Deployment { active: true, ..found }, false).await)
    }

    /// After an error it is not known whether the store has the new version.
    async fn stored_or_reloaded<T>(
        &self,
        outcome: headwater_pipelines::Result<T>,
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
        before: Option<Version>,
        project: Project,
        deployment: Deployment,
        dry_run: bool,
    ) -> DeployReport {
        let changes = deploy_changes(before.as_ref().map(|before| &*before.project), &project);
        let (previous, project) = (before.map(|before| before.id), Arc::new(project));
        let mut warnings = Vec::new();
        if !dry_run {
            let version = Version { id: deployment.version, project: project.clone() };
            self.deployed.set(State::InForce(version));
            self.is_behind.store(true, Ordering::Relaxed);
            let behind = self.catch_up().await;
            warnings
                .extend(behind.map(|problem| format!("triggers are not in force yet: {problem}")));
        }
        for trigger in &project.triggers {
            if let Ok(Some(problem)) = missing_branch(&self.lake, trigger).await {
                warnings.push(problem.message);
            }
        }
        DeployReport { deployment, dry_run, previous, changes, warnings }
    }
}

/// The error where nothing is deployed.
pub fn nothing_deployed() -> Problem {
    let message = "no version of the project is deployed";
    Problem::new(ErrorCode::DeploymentNotFound, message).with_hint("Run `headwater deploy`.")
}

/// Why a trigger has no branch to work on; none where it has one.
pub async fn missing_branch(lake: &Lake, trigger: &Trigger) -> Result<Option<Problem>, Problem> {
    let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
    match lake.catalog().branch(branch).await {
        Ok(_) => Ok(None),
        Err(error) if error.code() == ErrorCode::RefNotFound => {
            let message = format!(
                "trigger `{}` works on branch `{branch}`, which does not exist",
                trigger.name
            );
            let hint = format!("Create it with `headwater branch create {branch}`.");
            Ok(Some(Problem::new(ErrorCode::RefNotFound, message).with_hint(hint)))
        }
        Err(error) => Err(error.to_problem()),
    }
}

/// Parses a whole project, away from the threads that answer requests.
async fn parse(files: BTreeMap<String, String>) -> Result<Project, Problem> {
    let parsed = move || {
        let parsed = Parsed::read(&files).map_err(|error| error.to_problem())?;
        parsed.into_whole().map_err(|error| error.to_problem())
    };
    tokio::task::spawn_blocking(parsed).await.map_err(|error| unread(&error))?
}

/// The project of the working folder, as far as its files can be read.
pub async fn parse_folder(folder: PathBuf) -> Result<Parsed, Problem> {
    let parsed = move || Parsed::read(&read_project(&folder)?).map_err(|error| error.to_problem());
    tokio::task::spawn_blocking(parsed).await.map_err(|error| unread(&error))?
}

fn unread(error: &tokio::task::JoinError) -> Problem {
    Problem::new(ErrorCode::Internal, format!("the project was not read: {error}"))
}
