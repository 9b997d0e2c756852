//! Deployments: list, get, deploy, activate.

use std::sync::Arc;

use headwater_executors::{DeployIdentity, EVERY};
use headwater_model::{
    AccessObject, Action, Actor, DeployReport, DeployRequest, Deployment, ErrorCode, Identity,
    Principal, Problem, ResultExt,
};
use headwater_pipelines::Project;
use headwater_telemetry::with_current;

use crate::run::project_object;
use crate::service::Components;

/// Operations on deployments.
#[derive(Clone)]
pub struct Deployments(pub(crate) Arc<Components>);

impl Deployments {
    /// Lists the deployed versions of projects that the principal may deploy, most recently
    /// deployed first.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<Deployment>, Problem> {
        self.0.authenticated(principal)?;
        let mut versions = self.0.deployer.versions().list().await.or_problem()?;
        let allows =
            |name: &str| self.0.allows(principal, Action::Deploy, &AccessObject::project(name));
        versions.retain(|version| allows(&version.project));
        Ok(versions)
    }

    /// Returns a deployed version, by its id or by a unique prefix of the id.
    pub async fn get(&self, principal: &Principal, version: &str) -> Result<Deployment, Problem> {
        let found = self.0.deployer.versions().get(version).await.or_problem();
        let project = found.as_ref().map(|found| AccessObject::project(&found.project)).ok();
        // A hidden version gives the same error as a missing one.
        let project = project.filter(|it| self.0.allows(principal, Action::Deploy, it));
        let project = project.unwrap_or_else(|| AccessObject::project(EVERY));
        self.0.authorize(principal, Action::Deploy, &project)?;
        found
    }

    /// Checks `headwater.toml` if the user may deploy only some projects. Otherwise, an invalid
    /// file would give the project no name, and this user an error about missing rights.
    fn check_settings(
        &self,
        principal: &Principal,
        request: &DeployRequest,
    ) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let every = AccessObject::project(EVERY);
        if request.files.is_empty() || self.0.allows(principal, Action::Deploy, &every) {
            return Ok(());
        }
        Project::read_settings(&request.files).or_problem().map(drop)
    }

    /// Checks that a principal may replace the active version with a version of `project`. The
    /// principal needs the right to deploy both this project and the project of the active version.
    fn check_deploy(&self, principal: &Principal, project: &AccessObject) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Deploy, project)?;
        match self.0.deployer.deployed().version() {
            Ok(None) => Ok(()),
            Ok(Some(active)) => {
                let active = AccessObject::project(&active.project.name);
                self.0.authorize(principal, Action::Deploy, &active)
            }
            // The active project's name is unknown, so require the right to deploy all projects.
            Err(_) => self.0.authorize(principal, Action::Deploy, &AccessObject::project(EVERY)),
        }
    }

    /// Validates a project and activates it as a version, which function calls and triggers then
    /// use. A dry run only validates. A disconnect of the caller does not interrupt the deployment.
    ///
    /// Errors: `invalid_project`, with every error of every file; the active version is unchanged.
    pub async fn deploy(
        &self,
        principal: &Principal,
        request: DeployRequest,
    ) -> Result<DeployReport, Problem> {
        self.check_settings(principal, &request)?;
        self.check_deploy(principal, &project_object(&request.files))?;
        if request.files.is_empty() {
            let problem = Problem::new(ErrorCode::InvalidArgument, "the project has no files");
            return Err(problem.with_hint("Send the project's files in `files`."));
        }
        let by = DeployIdentity {
            author: principal.author().to_owned(),
            actor: Actor::of(principal).without_token(),
            access: self.0.table_access(principal),
        };
        let components = self.0.clone();
        complete(async move {
            let report = components.deployer.deploy(request.files, by, request.dry_run).await;
            components.provisioner.update();
            report
        })
        .await
    }

    /// Activates a version that was deployed before. Its triggers run with the rights of the user
    /// that deployed it, so only that user or an administrator may activate it.
    pub async fn activate(
        &self,
        principal: &Principal,
        version: String,
    ) -> Result<DeployReport, Problem> {
        let found = self.get(principal, &version).await?;
        self.check_deploy(principal, &AccessObject::project(&found.project))?;
        let actor = self.0.deployer.versions().actor(found.version).await.or_problem()?;
        if !is_account_of(principal, &actor) && !self.0.is_unlimited(principal) {
            return Err(deployed_by_another(&found));
        }
        let components = self.0.clone();
        complete(async move {
            let report = components.deployer.activate(&version).await;
            components.provisioner.update();
            report
        })
        .await
    }
}

/// Returns true if the actor that deployed a version has the account of the principal.
fn is_account_of(principal: &Principal, actor: &Actor) -> bool {
    match (principal.identity(), actor) {
        (Identity::User(user), Actor::User(other)) => {
            (&user.name, user.created) == (&other.name, other.created)
        }
        _ => false,
    }
}

fn deployed_by_another(version: &Deployment) -> Problem {
    let message = format!("version `{}` was deployed by another user", version.version.short());
    let hint = "Deploy the files of that version yourself: otherwise its triggers would have the \
                rights of the other user.";
    Problem::new(ErrorCode::Forbidden, message).with_hint(hint)
}

/// Completes a change even if its caller disconnects, so that memory and store stay consistent.
pub(crate) async fn complete<T: Send + 'static>(
    change: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(with_current(change)).await.unwrap_or_else(|error| {
        let message = format!("the change stopped before it finished: {error}");
        Err(Problem::new(ErrorCode::Internal, message))
    })
}
