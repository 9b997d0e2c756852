//! SQL statements. Each statement is one job with a schema and a stream of record batches as the
//! result. A request may contain several statements.
//!
//! The caller pulls the rows, so they are computed only as fast as they are read. Dropping the rows
//! stops the statement, which is recorded as cancelled with its usage so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_engine::{
    PreparedStatement, RecordBatches, Session, SessionOptions, SessionRights, StatementDescription,
    StatementResult,
};
use headwater_executors::{EVERY, RunningStatement, StatementRows, table_access};
use headwater_jobs::{NewJob, StatementLimits};
use headwater_model::{
    AccessObject, Action, DEFAULT_NAMESPACE, ErrorCode, JobId, JobKind, Namespace, PROPERTY_JOB,
    Principal, Problem, QueryRequest, RefSpec, ResultExt, SYSTEM_NAMESPACE, Usage,
};

use crate::async_query::AsyncQueries;
use crate::copy_to::CopyTarget;
use crate::service::Components;
use crate::sql_catalog::CatalogRef;
use crate::transaction::{OpenTransaction, Transactions};
use crate::{access_statement, copy_to, file_functions};

/// Maximum length of a statement's summary, in characters.
const SUMMARY_CHARACTERS_MAX: usize = 2_000;

/// Operations on SQL statements.
#[derive(Clone)]
pub struct Statements {
    components: Arc<Components>,
    transaction: Option<OpenTransaction>,
    rows: Option<RecordBatches>,
}

/// The name of the table with the rows that a client sent, for example for `COPY … FROM STDIN`.
pub const COPIED_ROWS: &str = "rows of the client";

/// A started statement.
pub struct StartedStatement {
    /// Id of the statement's job.
    pub job: JobId,
    /// The rows, or the error that ended the statement before its first row.
    pub rows: Result<StatementRows, Problem>,
}

impl Statements {
    pub(crate) fn new(components: Arc<Components>) -> Self {
        Statements { components, transaction: None, rows: None }
    }

    /// Returns the operations on transactions of several statements.
    pub fn transactions(&self) -> Transactions {
        Transactions(self.components.clone())
    }

    /// Returns the operations on asynchronous queries.
    pub fn async_queries(&self) -> AsyncQueries {
        AsyncQueries(self.components.clone())
    }

    /// Returns the operations on statements within a transaction. The requests must contain the
    /// transaction's ref.
    #[must_use]
    pub fn within(&self, transaction: Option<&OpenTransaction>) -> Self {
        Statements { transaction: transaction.cloned(), ..self.clone() }
    }

    /// Returns the operations on statements with rows from the client. Statements read these rows
    /// as the table [`COPIED_ROWS`].
    #[must_use]
    pub fn with_rows(&self, rows: Option<RecordBatches>) -> Self {
        Statements { rows, ..self.clone() }
    }

    /// Replaces the name of a transaction's hidden branch in an error.
    fn described(&self, problem: Problem) -> Problem {
        match &self.transaction {
            Some(transaction) => transaction.described(problem),
            None => problem,
        }
    }

    /// Returns the access checks of a statement; `None` for the owner of a lake without users.
    fn access(&self, principal: &Principal, job: Option<JobId>) -> Option<Arc<dyn SessionRights>> {
        let access = table_access(&self.components.access, principal, job)?;
        Some(match &self.transaction {
            Some(transaction) => transaction.access(access),
            None => access,
        })
    }

    /// Returns the ref and the database name that the catalog tables of a statement show.
    fn catalog_ref(&self, request: &QueryRequest) -> CatalogRef {
        let reference = request.reference.clone().unwrap_or_else(RefSpec::main);
        let database = match &self.transaction {
            Some(transaction) => transaction.database(),
            None => reference.to_string(),
        };
        CatalogRef { reference, database }
    }

    /// Executes the statements of a request in order, each as a job, and returns the rows of the
    /// last statement. Parses all statements before the first statement starts. An error ends the
    /// request; earlier statements remain committed.
    ///
    /// Fails only if a job cannot start; the error of a statement is in [`StartedStatement::rows`].
    pub async fn start(
        &self,
        principal: &Principal,
        request: &QueryRequest,
    ) -> Result<StartedStatement, Problem> {
        self.components.authenticated(principal)?;
        let checked = self.check_namespace(principal, request).await;
        checked.map_err(|problem| self.described(self.components.conceal(principal, problem)))?;
        let script = match PreparedStatement::parse_script(&request.sql) {
            Ok(script) => script,
            Err(error) => {
                return self.start_one(principal, request, &request.sql, Err(error)).await;
            }
        };
        check_parameters(request, &script)?;
        let count = script.len();
        let mut started = None;
        for (index, statement) in script.into_iter().enumerate() {
            if let Some(StartedStatement { rows, job }) = started.take() {
                // Read and discard the rows of all statements except the last.
                if let Err(problem) = finish(rows).await {
                    let problem = in_script(problem, index, count);
                    return Ok(StartedStatement { job, rows: Err(problem) });
                }
            }
            let source = statement.source().to_owned();
            let bound = statement.bind(&request.parameters);
            started = Some(self.start_one(principal, request, &source, bound).await?);
        }
        let missing = || Problem::new(ErrorCode::Internal, "the script has no statement");
        let StartedStatement { rows, job } = started.ok_or_else(missing)?;
        let rows = rows.map_err(|problem| in_script(problem, count, count));
        Ok(StartedStatement { job, rows })
    }

    /// Returns the types of a statement's parameters and columns. `request` contains the ref and
    /// the default namespace.
    pub async fn describe(
        &self,
        principal: &Principal,
        request: &QueryRequest,
        statement: &PreparedStatement,
    ) -> Result<StatementDescription, Problem> {
        self.check_ref(principal, request).await?;
        if let Some(statement) = statement.access_statement() {
            let columns = access_statement::columns(statement);
            return Ok(StatementDescription { parameters: Vec::new(), columns });
        }
        let copy = statement.copy_to().map_err(headwater_engine::Error::from).or_problem()?;
        if let Some((query, _)) = copy {
            let described = Box::pin(self.describe(principal, request, &query)).await?;
            return Ok(StatementDescription { columns: Some(copy_to::columns()), ..described });
        }
        let author = principal.author().to_owned();
        let mut options = session_options(request, author, BTreeMap::new());
        options.access = self.access(principal, None);
        let session = self.components.engine.session(options).or_problem()?;
        let at = self.catalog_ref(request);
        self.components.add_catalogs(principal, &at, &session, statement.source()).await?;
        let statement = statement.clone();
        let described = file_functions::describe(&self.components, principal, &session, statement);
        let described = Box::pin(described).await;
        described.map_err(|problem| self.described(self.components.conceal(principal, problem)))
    }

    /// Executes a prepared statement whose parameters are bound, as a job. `request` contains the
    /// statement's ref and default namespace.
    pub async fn start_prepared(
        &self,
        principal: &Principal,
        request: &QueryRequest,
        statement: PreparedStatement,
    ) -> Result<StartedStatement, Problem> {
        self.components.authenticated(principal)?;
        let checked = self.check_namespace(principal, request).await;
        checked.map_err(|problem| self.described(self.components.conceal(principal, problem)))?;
        let source = statement.source().to_owned();
        self.start_one(principal, request, &source, Ok(statement)).await
    }

    async fn start_one(
        &self,
        principal: &Principal,
        request: &QueryRequest,
        source: &str,
        prepared: Result<PreparedStatement, headwater_engine::SqlError>,
    ) -> Result<StartedStatement, Problem> {
        let prepared = prepared.map_err(headwater_engine::Error::from);
        let new = new_job(request, source, principal);
        let (context, guard) = self.components.jobs.record(new).await.or_problem()?;
        let job = context.id();
        let limits = StatementLimits::of(request, context.has_day_limit());
        let mut running = RunningStatement::new(context, guard, limits);
        let answer = self.execute(principal, request, prepared, &mut running).await;
        let answer = answer.map_err(|problem| self.described(problem));
        let rows = match answer {
            Ok(answer) => Ok(StatementRows::new(running, answer, request.limit)),
            Err(problem) => {
                running.end(Err(problem.clone()));
                Err(problem)
            }
        };
        Ok(StartedStatement { job, rows })
    }

    async fn execute(
        &self,
        principal: &Principal,
        request: &QueryRequest,
        prepared: headwater_engine::Result<PreparedStatement>,
        running: &mut RunningStatement,
    ) -> Result<StatementResult, Problem> {
        let author = principal.author().to_owned();
        let job = running.context.id();
        let properties = BTreeMap::from([(PROPERTY_JOB.to_owned(), job.to_string())]);
        let mut options = session_options(request, author, properties);
        options.rates = self.components.jobs.rate_card();
        options.access = self.access(principal, Some(job));
        let session = self.components.engine.session(options).or_problem()?;
        let prepared = prepared.or_problem()?;
        self.check_ref(principal, request).await?;
        let at = self.catalog_ref(request);
        self.components.add_catalogs(principal, &at, &session, prepared.source()).await?;
        if let Some(rows) = &self.rows {
            session.register(COPIED_ROWS, rows).or_problem()?;
        }
        let is_access = prepared.access_statement().is_some();
        let prepared = self.run_access_statement(principal, request, &session, prepared).await?;
        let copy = prepared.copy_to().map_err(headwater_engine::Error::from).or_problem()?;
        let (prepared, file) = copy.map_or((prepared, None), |(query, file)| (query, Some(file)));
        let target = match file {
            Some(file) => Some(CopyTarget::check(&self.components, principal, job, file).await?),
            None => None,
        };
        let registered =
            file_functions::register(&self.components, principal, &session, prepared, running);
        let prepared = tokio::select! {
            biased;
            prepared = registered => prepared?,
            problem = running.stopped(Usage::default) => return Err(problem),
        };
        running.check_limits()?;
        // The order matters (`biased`): a committed write succeeds, even if it is stopped now.
        let answer = tokio::select! {
            biased;
            answer = Box::pin(run(&session, prepared, is_access)) => {
                answer.or_problem().map_err(|problem| self.components.conceal(principal, problem))?
            }
            problem = running.stopped(|| session.usage()) => return Err(problem),
        };
        let metrics = answer.metrics.clone();
        running.metrics = Some(metrics.clone());
        match target {
            Some(target) => tokio::select! {
                biased;
                copied = target.write(answer) => copied,
                problem = running.stopped(|| metrics.usage()) => Err(problem),
            },
            None => Ok(answer),
        }
    }

    /// Executes a statement on roles and grants, and returns a query that reads the result. Returns
    /// any other kind of statement unchanged.
    async fn run_access_statement(
        &self,
        principal: &Principal,
        request: &QueryRequest,
        session: &Session,
        prepared: PreparedStatement,
    ) -> Result<PreparedStatement, Problem> {
        let Some(statement) = prepared.access_statement() else { return Ok(prepared) };
        if self.transaction.is_some() {
            let message = format!("{} is not supported in a transaction", statement.name());
            let hint = "Grants belong to no branch: run the statement outside the transaction.";
            return Err(Problem::new(ErrorCode::UnsupportedStatement, message).with_hint(hint));
        }
        self.components.engine.statements().started(statement.name());
        let rows =
            access_statement::execute(&self.components, principal, statement, request).await?;
        session.register(access_statement::RESULT, &rows).or_problem()?;
        let sql = format!("SELECT * FROM \"{}\"", access_statement::RESULT);
        PreparedStatement::parse(&sql).map_err(headwater_engine::Error::from).or_problem()
    }

    /// Checks that a principal may read at the ref of a request. In a transaction, checks the ref
    /// at its start, because the other refs are hidden.
    async fn check_ref(
        &self,
        principal: &Principal,
        request: &QueryRequest,
    ) -> Result<(), Problem> {
        let main = RefSpec::main();
        let reference = match &self.transaction {
            Some(transaction) => transaction.base(),
            None => request.reference.as_ref().unwrap_or(&main),
        };
        self.components.check_ref(principal, reference).await
    }

    /// Rejects an unknown namespace, even if the statement contains no unqualified names. Accepts
    /// any name from a principal that may not read all namespaces, because the error would reveal
    /// which namespaces exist.
    async fn check_namespace(
        &self,
        principal: &Principal,
        request: &QueryRequest,
    ) -> Result<(), Problem> {
        let namespace = request.namespace.as_deref().filter(|name| *name != SYSTEM_NAMESPACE);
        let Some(namespace) = namespace else { return Ok(()) };
        let all = AccessObject::namespace(EVERY);
        if !self.components.allows(principal, Action::Select, &all) {
            return Ok(());
        }
        self.check_ref(principal, request).await?;
        let main = RefSpec::main();
        let view = self.components.lake.view(request.reference.as_ref().unwrap_or(&main)).await;
        let view = view.or_problem()?;
        // SQL names are matched case-insensitively.
        let same = |known: &Namespace| known.name.eq_ignore_ascii_case(namespace);
        if view.namespaces().await.or_problem()?.iter().any(same) {
            return Ok(());
        }
        view.check_namespace(namespace).await.or_problem()
    }
}

/// Runs a statement. With `is_access`, this is the query for the result of a statement on roles,
/// which is already counted.
async fn run(
    session: &Session,
    prepared: PreparedStatement,
    is_access: bool,
) -> headwater_engine::Result<StatementResult> {
    if is_access { session.select_lazy(prepared).await } else { session.execute(prepared).await }
}

/// Reads and discards all rows of a statement.
async fn finish(rows: Result<StatementRows, Problem>) -> Result<(), Problem> {
    let mut rows = rows?;
    while rows.next().await?.is_some() {}
    Ok(())
}

/// Adds the number of the failed statement to an error, if the request has several statements.
fn in_script(mut problem: Problem, number: usize, count: usize) -> Problem {
    if count > 1 {
        problem.message = format!("statement {number} of {count}: {}", problem.message);
    }
    if number > 1 {
        let executed = "The statements before it were executed and are not rolled back.";
        problem.hint = Some(match problem.hint {
            Some(hint) => format!("{hint} {executed}"),
            None => executed.to_owned(),
        });
    }
    problem
}

/// Rejects parameter values in a request if no statement has a parameter of that name.
fn check_parameters(request: &QueryRequest, script: &[PreparedStatement]) -> Result<(), Problem> {
    let used = script.iter().flat_map(PreparedStatement::parameters);
    let is_used = |name: &str| used.clone().any(|one| one.name == name);
    let Some(name) = request.parameters.keys().find(|name| !is_used(name)) else { return Ok(()) };
    let message = format!("the statement has no parameter `${name}`");
    let hint = "Remove the parameter, or use it in the statement.";
    Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
}

fn new_job(request: &QueryRequest, source: &str, principal: &Principal) -> NewJob {
    let reference = request.reference.clone().unwrap_or_else(RefSpec::main);
    NewJob {
        reference: Some(reference.to_string()),
        ..NewJob::of(JobKind::Query, summary(source), principal)
    }
}

/// Returns the text of a statement in one line, truncated.
pub(crate) fn summary(source: &str) -> String {
    let words: Vec<_> = source.split_whitespace().collect();
    words.join(" ").chars().take(SUMMARY_CHARACTERS_MAX).collect()
}

fn session_options(
    request: &QueryRequest,
    author: String,
    properties: BTreeMap<String, String>,
) -> SessionOptions {
    SessionOptions {
        reference: request.reference.clone().unwrap_or_else(RefSpec::main),
        namespace: request.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        author,
        memory_bytes: request.memory_bytes_max,
        properties,
        snapshot_properties: BTreeMap::new(),
        ..SessionOptions::default()
    }
}
