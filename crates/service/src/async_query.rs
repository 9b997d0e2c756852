//! Asynchronous queries: start, get, read, cancel, delete.
//!
//! A query runs in a separate task, with the rights of the principal that sent it, like the
//! statements of `POST /v1/query`. Its rows are written to the lake's folder and deleted after the
//! retention time.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use headwater_model::{
    Actor, AsyncQuery, ErrorCode, Identity, Principal, Problem, QueryRequest, RefSpec, ResultExt,
    ToProblem,
};
use headwater_query_results::{QueryResults, ResultLimits, ResultRows, ResultWriter, interrupted};
use headwater_telemetry::with_current;
use parking_lot::Mutex;

use crate::service::Components;
use crate::statement::{StartedStatement, Statements, summary};
use crate::{Error, Result, ServiceConfig};

/// Name of the folder of results in the lake's folder.
const FOLDER: &str = "results";

/// Maximum time to wait for the end of a query in one request.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Maximum time to wait at shutdown until the results of ended queries are stored.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// Opens the stored query results of a lake.
pub(crate) async fn open(
    config: &ServiceConfig,
    lake: &headwater_lake::Lake,
) -> Result<QueryResults> {
    let (folder, clock) = (config.lake_dir.join(FOLDER), lake.clock().clone());
    let opened = run_blocking(move || QueryResults::open(folder, ResultLimits::default(), clock));
    opened.await.map_err(|error| Error::component(&error))
}

/// Deletes the results whose retention time is over.
pub(crate) async fn delete_expired(results: &QueryResults) {
    let results = results.clone();
    run_blocking(move || results.delete_expired()).await;
}

/// Waits until the results of all queries are stored. The jobs of the queries must have ended.
pub(crate) async fn drain(results: &QueryResults) {
    if tokio::time::timeout(DRAIN_MAX, results.all_ended()).await.is_err() {
        tracing::error!(
            "the server exits before the results of all asynchronous queries are stored"
        );
    }
}

/// Operations on asynchronous queries. Only the sender of a query and administrators may see it.
#[derive(Clone)]
pub struct AsyncQueries(pub(crate) Arc<Components>);

impl AsyncQueries {
    /// Starts a query that executes the statements of a request. Errors of the statements are in
    /// the query's state.
    ///
    /// Errors: `unauthenticated`; `too_busy` if too many queries are running; `disk_full`.
    pub async fn create(
        &self,
        principal: &Principal,
        request: QueryRequest,
    ) -> Result<AsyncQuery, Problem> {
        self.0.authenticated(principal)?;
        let (results, actor) = (self.0.results.clone(), Actor::of(principal));
        let (sql, author) = (summary(&request.sql), principal.author().to_owned());
        let reference = request.reference.clone().unwrap_or_else(RefSpec::main).to_string();
        let creating = run_blocking(move || results.create(actor, author, sql, reference));
        let writer = creating.await.or_problem()?;
        let id = writer.id().to_owned();
        // The jobs of the query belong to the trace of this request.
        let running = run(self.0.clone(), principal.clone(), request, writer).boxed();
        tokio::spawn(with_current(running));
        Ok(self.0.results.get(&id).or_problem()?.0)
    }

    /// Lists the queries that the principal may see, newest first.
    pub fn list(&self, principal: &Principal) -> Result<Vec<AsyncQuery>, Problem> {
        self.0.authenticated(principal)?;
        let all = self.0.is_unlimited(principal);
        let queries = self.0.results.list().into_iter();
        let seen = queries.filter(|(_, actor)| all || may_see_query(principal, actor));
        Ok(seen.map(|(query, _)| query).collect())
    }

    /// Returns a query. Waits for the end of the query, but at most `wait` and at most 60 seconds.
    ///
    /// Errors: `job_not_found`, even if the query belongs to another user.
    pub async fn get(
        &self,
        principal: &Principal,
        id: &str,
        wait: Duration,
    ) -> Result<AsyncQuery, Problem> {
        let query = self.find(principal, id)?;
        if query.status.is_final() || wait.is_zero() {
            return Ok(query);
        }
        self.0.results.wait(id, wait.min(WAIT_MAX)).await;
        self.find(principal, id)
    }

    /// Returns at most `limit` rows of a result, after the first `offset` rows.
    ///
    /// Errors: `job_not_found`; `precondition_failed` if the query has not ended; the error of the
    /// query if it did not succeed.
    pub async fn rows(
        &self,
        principal: &Principal,
        id: &str,
        offset: u64,
        limit: u64,
    ) -> Result<(AsyncQuery, ResultRows), Problem> {
        let query = self.find(principal, id)?;
        if let Some(problem) = query.error {
            return Err(problem);
        }
        let (results, id) = (self.0.results.clone(), query.id.clone());
        let rows = run_blocking(move || results.rows(&id, offset, limit)).await.or_problem()?;
        Ok((query, rows))
    }

    /// Cancels a query and returns its state. A query that has ended is unchanged.
    pub async fn cancel(&self, principal: &Principal, id: &str) -> Result<AsyncQuery, Problem> {
        self.find(principal, id)?;
        self.0.results.cancel(id);
        self.get(principal, id, WAIT_MAX).await
    }

    /// Deletes a query and its result. Cancels a running query first.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<(), Problem> {
        let query = self.cancel(principal, id).await?;
        let results = self.0.results.clone();
        run_blocking(move || results.delete(&query.id)).await;
        Ok(())
    }

    /// Returns a query that the principal may see.
    fn find(&self, principal: &Principal, id: &str) -> Result<AsyncQuery, Problem> {
        self.0.authenticated(principal)?;
        let (query, actor) = self.0.results.get(id).or_problem()?;
        if self.0.is_unlimited(principal) || may_see_query(principal, &actor) {
            return Ok(query);
        }
        let error = headwater_query_results::Error::QueryNotFound { id: id.to_owned() };
        Err(error.to_problem())
    }
}

/// Returns true if a principal may see the queries that `actor` sent. A token with scopes sees only
/// queries sent with the same scopes, because results of other queries can have rows that it may
/// not read.
fn may_see_query(principal: &Principal, actor: &Actor) -> bool {
    match (principal.identity(), actor) {
        (Identity::User(user), Actor::User(own)) => {
            (&user.name, user.created) == (&own.name, own.created)
                && (user.scopes.is_none() || user.scopes == own.scopes)
        }
        _ => false,
    }
}

/// Runs a query to its end and writes its rows.
async fn run(
    components: Arc<Components>,
    principal: Principal,
    request: QueryRequest,
    writer: ResultWriter,
) {
    let cancelled = writer.cancelled().clone();
    let writer = Arc::new(Mutex::new(writer));
    let outcome = tokio::select! {
        biased;
        outcome = fill(&components, &principal, &request, &writer) => {
            outcome.map_err(|problem| explain(&components, problem))
        }
        () = cancelled.cancelled() => {
            Err(Problem::new(ErrorCode::Cancelled, "the query was cancelled"))
        }
    };
    run_blocking(move || writer.lock().end(outcome)).await;
}

/// Converts the error that ended a query to the error that it reports. If the shutdown of the
/// server stopped the query, this is the error of an interrupted query.
fn explain(components: &Components, problem: Problem) -> Problem {
    if !components.jobs.is_closed()
        || !matches!(problem.code, ErrorCode::Cancelled | ErrorCode::Unavailable)
    {
        return problem;
    }
    let mut stopped = interrupted();
    stopped.causes.push(problem.message);
    stopped.causes.extend(problem.causes);
    stopped
}

async fn fill(
    components: &Arc<Components>,
    principal: &Principal,
    request: &QueryRequest,
    writer: &Arc<Mutex<ResultWriter>>,
) -> Result<(), Problem> {
    let statements = Statements::new(components.clone());
    let StartedStatement { job, rows } = Box::pin(statements.start(principal, request)).await?;
    let mut rows = rows?;
    let (schema, begun) = (rows.schema().clone(), writer.clone());
    let begun = run_blocking(move || begun.lock().begin(job, &schema)).await.or_problem();
    begun.map_err(|problem| rows.fail(problem))?;
    while let Some(batch) = rows.next().await? {
        let writer = writer.clone();
        let written = run_blocking(move || writer.lock().write(&batch)).await.or_problem();
        written.map_err(|problem| rows.fail(problem))?;
    }
    Ok(())
}

/// Runs blocking work on a thread of the blocking pool, and returns its result.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down. It has dropped the work, and will drop this future, too.
            Err(_) => std::future::pending().await,
        },
    }
}
