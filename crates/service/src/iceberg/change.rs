//! Changes through the Iceberg REST catalog. Each change is one job and one commit.
//!
//! A client that receives no response repeats its request with the same idempotency key. A request
//! that was already applied is not applied again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use headwater_jobs::{CommitDecision, NewJob};
use headwater_lake::{Transaction, set_creator};
use headwater_model::{
    AccessObject, Action, ErrorCode, JobId, JobKind, ObjectOwner, PROPERTY_JOB, Principal, Problem,
    RefSpec, ResultExt, ToProblem,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::Iceberg;
use super::commit::TableMap;
use crate::service::Components;

/// A client's request for a change.
#[derive(Debug, Clone)]
pub struct ChangeRequest {
    /// The branch to change.
    pub reference: RefSpec,
    /// A hash of the request, including its idempotency key. A repeated request has the same hash.
    pub digest: String,
    /// True if the client sent an idempotency key. The request is then recorded with its commit.
    pub has_key: bool,
    /// The commit message, if the client sent one.
    pub message: Option<String>,
}

/// The result of a change of the catalog, once the change is made.
type ChangeFuture<T> = BoxFuture<'static, Result<T, Problem>>;

/// The result of a change that a client requested.
pub type ChangeResult<T> = Result<T, ChangeError>;

/// The reason for a failed change.
#[derive(Debug, Clone)]
pub enum ChangeError {
    /// The change was not committed.
    Rejected(Problem),
    /// It is unknown whether the change was committed.
    Unknown(Problem),
}

impl<E: ToProblem> From<E> for ChangeError {
    fn from(error: E) -> Self {
        ChangeError::Rejected(error.to_problem())
    }
}

impl ChangeError {
    /// Returns the problem of either variant.
    pub fn problem(&self) -> &Problem {
        match self {
            ChangeError::Rejected(problem) | ChangeError::Unknown(problem) => problem,
        }
    }
}

/// The digests of the requests in progress, each with the lock that its request holds.
#[derive(Debug, Default)]
pub(crate) struct ActiveChanges(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl ActiveChanges {
    /// Waits until no other request with this digest is in progress. This request is in progress
    /// while the caller holds the returned guard.
    async fn wait_for(&self, digest: String) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut active = self.0.lock();
            active.retain(|_, lock| lock.strong_count() > 0);
            active.get(&digest).and_then(Weak::upgrade).unwrap_or_else(|| {
                let lock = Arc::default();
                active.insert(digest, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

impl ChangeRequest {
    /// Returns the message of the commit: the client's, or a default.
    fn message<'a>(&'a self, default: &'a str) -> &'a str {
        self.message.as_deref().unwrap_or(default)
    }
}

/// A change, executed within its job.
struct CatalogChange {
    components: Arc<Components>,
    request: ChangeRequest,
    description: String,
    author: String,
    creator: Option<ObjectOwner>,
    job: JobId,
    commit: CommitDecision,
}

impl Iceberg {
    /// Applies a change with a description such as `append to flights`. Returns `None` if the same
    /// request was already applied.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        description: String,
        apply: impl for<'a> FnOnce(&'a mut Transaction) -> BoxFuture<'a, Result<T, Problem>>
        + Send
        + 'static,
    ) -> ChangeResult<Option<T>> {
        self.run(principal, request, description, |change| {
            Box::pin(async move {
                let mut transaction = change.transaction().await?;
                let result = apply(&mut transaction).await?;
                change.commit.start()?;
                transaction.commit(change.message()).await.or_problem()?;
                Ok(result)
            })
        })
        .await
    }

    /// Applies a change like [`Iceberg::change`]. Returns the result of `apply`, and the states of
    /// the changed tables.
    pub(super) async fn change_tables(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        description: String,
        apply: impl for<'a> FnOnce(&'a mut Transaction) -> BoxFuture<'a, Result<TableMap, Problem>>
        + Send
        + 'static,
    ) -> ChangeResult<Option<TableMap>> {
        self.run(principal, request, description, |change| {
            Box::pin(async move {
                let mut transaction = change.transaction().await?;
                let mut states = apply(&mut transaction).await?;
                change.commit.start()?;
                states.extend(transaction.commit_states(change.message()).await.or_problem()?);
                Ok(states)
            })
        })
        .await
    }

    /// Runs a change as a job. Checks the right to write to the branch. The caller checks the
    /// rights on the table, view or namespace.
    async fn run<T: Send + 'static>(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        description: String,
        work: impl FnOnce(Arc<CatalogChange>) -> ChangeFuture<T> + Send + 'static,
    ) -> ChangeResult<Option<T>> {
        self.0.authorize(principal, Action::Write, &AccessObject::reference(&request.reference))?;
        let _lock = self.0.changes.wait_for(request.digest.clone()).await;
        if self.0.is_applied(request).await? {
            return Ok(None);
        }
        let (author, creator) = (principal.author().to_owned(), principal.as_object_owner());
        let new = new_job(request, &description, principal);
        let (context, guard) = self.0.jobs.record(new).await.or_problem()?;
        let (components, request, job) = (self.0.clone(), request.clone(), context.id());
        let commit = CommitDecision::default();
        let change =
            CatalogChange { components, request, description, author, creator, job, commit };
        let change = Arc::new(change);
        let running = change.clone();
        let outcome = self.0.run_in_job(&context, async move {
            let made = work(running.clone()).await;
            running.verify(made).await
        });
        let outcome = match outcome.await {
            Ok(outcome) => outcome,
            Err(problem) => change.stopped(problem).await,
        };
        let recorded = outcome.as_ref().map(|_| Value::Null);
        guard.finish(recorded.map_err(|error| error.problem().clone()));
        outcome
    }
}

fn new_job(request: &ChangeRequest, description: &str, principal: &Principal) -> NewJob {
    let reference = request.reference.to_string();
    let summary = request.message(&format!("{description} on {reference}")).to_owned();
    NewJob { reference: Some(reference), ..NewJob::of(JobKind::Commit, summary, principal) }
}

impl CatalogChange {
    /// Begins the transaction of the change.
    async fn transaction(&self) -> Result<Transaction, Problem> {
        let components = &self.components;
        let branch = components.branch_to_write(Some(&self.request.reference)).await?;
        let mut transaction =
            components.lake.transaction(&branch, &self.author).await.or_problem()?;
        set_creator(&mut transaction, self.creator.clone());
        if self.request.has_key {
            transaction.iceberg_rest().request(&self.request.digest);
        }
        transaction.property(PROPERTY_JOB, self.job.to_string());
        Ok(transaction)
    }

    fn message(&self) -> &str {
        self.request.message(&self.description)
    }

    /// Checks if a change was committed despite an error. Another attempt of the request may have
    /// committed it, or this attempt, if only the store's response was lost.
    async fn verify<R>(&self, made: Result<R, Problem>) -> ChangeResult<Option<R>> {
        let problem = match made {
            Ok(result) => return Ok(Some(result)),
            Err(problem) => problem,
        };
        if self.components.is_applied(&self.request).await.unwrap_or(false) {
            return Ok(None);
        }
        if !is_inconclusive(&problem) {
            return Err(ChangeError::Rejected(problem));
        }
        match self.is_committed().await {
            Ok(true) => Ok(None),
            Ok(false) => Err(ChangeError::Rejected(problem)),
            Err(_) => Err(ChangeError::Unknown(problem)),
        }
    }

    /// Returns the result of a change whose job was stopped. If its commit has started, it may
    /// still succeed, so the client must not delete the files of the commit: the result is then
    /// `Unknown`.
    async fn stopped<R>(&self, problem: Problem) -> ChangeResult<Option<R>> {
        if self.commit.prevent() {
            return Err(ChangeError::Rejected(problem));
        }
        let is_committed = self.is_committed().await.unwrap_or(false);
        if is_committed { Ok(None) } else { Err(ChangeError::Unknown(problem)) }
    }

    async fn is_committed(&self) -> Result<bool, Problem> {
        let branch = self.components.branch_to_write(Some(&self.request.reference)).await?;
        let requests = self.components.lake.iceberg_rest_requests();
        requests.is_committed(&branch, PROPERTY_JOB, &self.job.to_string()).await.or_problem()
    }
}

impl Components {
    /// Returns true if a request with an idempotency key was already applied.
    async fn is_applied(&self, request: &ChangeRequest) -> Result<bool, Problem> {
        if !request.has_key {
            return Ok(false);
        }
        self.lake.iceberg_rest_requests().is_done(&request.digest).await.or_problem()
    }
}

/// Returns true if a commit may have succeeded although it returned this error.
pub(super) fn is_inconclusive(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::TooBusy | ErrorCode::Unavailable)
        || problem.code.http_status() >= 500
}
