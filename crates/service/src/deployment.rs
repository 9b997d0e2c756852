//! Deployments: list, get, deploy, activate.

use std::sync::Arc;

use headwater_model::{
    DeployReport, DeployRequest, Deployment, ErrorCode, OrProblem, Principal, Problem,
};

use crate::service::Components;

/// Operations on deployments.
#[derive(Clone)]
pub struct Deployments(pub(crate) Arc<Components>);

impl Deployments {
    /// Lists the deployed versions of the project, the last deployed first.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<Deployment>, Problem> {
        self.0.administer(principal)?;
        self.0.deployer.versions().list().await.or_problem()
    }

    /// Returns a deployed version, by its id or a unique prefix of it.
    pub async fn get(&self, principal: &Principal, version: &str) -> Result<Deployment, Problem> {
        self.0.administer(principal)?;
        self.0.deployer.versions().get(version).await.or_problem()
    }

    /// Validates a project and activates it as a version: function calls and triggers then use it.
    /// A dry run only validates. A caller that disconnects does not interrupt the deployment.
    ///
    /// Errors: `invalid_project`, with every error of every file; the active version is unchanged.
    pub async fn deploy(
        &self,
        principal: &Principal,
        request: DeployRequest,
    ) -> Result<DeployReport, Problem> {
        self.0.administer(principal)?;
        if request.files.is_empty() {
            let problem = Problem::new(ErrorCode::InvalidArgument, "the project has no files");
            return Err(problem.with_hint("Send its files in `files`."));
        }
        let author = principal.author().to_owned();
        let components = self.0.clone();
        complete(async move {
            components.deployer.deploy(request.files, &author, request.dry_run).await
        })
        .await
    }

    /// Activates a version that was deployed before.
    pub async fn activate(
        &self,
        principal: &Principal,
        version: String,
    ) -> Result<DeployReport, Problem> {
        self.0.administer(principal)?;
        let components = self.0.clone();
        complete(async move { components.deployer.activate(&version).await }).await
    }
}

/// Completes a change although its caller may disconnect: memory and store must agree.
async fn complete(
    change: impl Future<Output = Result<DeployReport, Problem>> + Send + 'static,
) -> Result<DeployReport, Problem> {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        let message = format!("the deployment ended early: {error}");
        Err(Problem::new(ErrorCode::Internal, message))
    })
}
