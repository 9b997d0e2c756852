//! Sessions, which run statements at one ref for one author.
//!
//! A statement is parsed, checked, resolved, planned and run. It reads one commit: the head of the
//! ref when the statement starts. A write is one commit on the ref's branch.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::sql::sqlparser::ast::Statement;
use futures::{StreamExt, TryStreamExt};
use headwater_lake::{CommitView, TransactionSlot};
use headwater_model::{JobId, PROPERTY_JOB};
use headwater_sql::statement::{SourceQuery, SupportedStatement};
use headwater_sql::{IntoStatement, Parameter, PreparedStatement};
use headwater_sql_functions::{NotifyCallback, signal_function, with_functions};
use headwater_sql_python::{CallingStatement, StatementCalls};
use headwater_sql_resolve::{OutputNames, resolve};
use headwater_table_scan::{
    QueryColumns, RowSource, ScanEnvironment, column_sources, plain_schema, stored_table,
};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use crate::cast_error_position::locate;
use crate::clause_position;
use crate::datafusion_error::ResourceLimits;
use crate::engine::{Engine, planning_panicked};
use crate::error::Result;
use crate::options::SessionOptions;
use crate::plan_executor::{self, RunningPlan};
use crate::plan_output;
use crate::planner::{self, TableSources};
use crate::statement_result::{ExecutionMetrics, RecordBatches, StatementResult};
use crate::table_lookup::{TableLookup, registered};

/// A session at one ref, for one author.
pub struct Session {
    pub(crate) engine: Engine,
    pub(crate) options: SessionOptions,
    pub(crate) registered: RwLock<BTreeMap<String, Arc<dyn TableProvider>>>,
    pub(crate) shared: TransactionSlot,
    /// Functions that only statements of this session can call.
    functions: RwLock<Vec<Arc<ScalarUDF>>>,
    /// The metrics of the statement that started last.
    running: Mutex<Weak<ExecutionMetrics>>,
    /// The function calls of the most recent statement, including the calls in its views.
    calls: Mutex<Arc<StatementCalls>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Types of a statement's parameters and result.
#[derive(Debug, Clone)]
pub struct StatementDescription {
    /// The parameters, in the order of the text.
    pub parameters: Vec<ParameterDescription>,
    /// The columns of the result; `None` if the statement is not a query.
    pub columns: Option<SchemaRef>,
}

/// A parameter of a statement, with the type that the statement determines.
#[derive(Debug, Clone)]
pub struct ParameterDescription {
    /// The parameter in the statement.
    pub parameter: Parameter,
    /// The parameter's type, if the statement determines it.
    pub data_type: Option<DataType>,
}

/// State, memory and limits to plan and run one statement.
pub(crate) struct StatementContext {
    pub state: Arc<SessionState>,
    /// Runtime of the plan, with the statement's memory pool.
    pub runtime: Arc<RuntimeEnv>,
    pub metrics: Arc<ExecutionMetrics>,
    pub limits: ResourceLimits,
    /// If true, execution starts only when the first rows are requested.
    pub lazy: bool,
}

impl Session {
    pub(crate) fn new(engine: Engine, options: SessionOptions) -> Self {
        let calls = Mutex::new(calls_of(&options));
        Session {
            engine,
            options,
            calls,
            registered: RwLock::default(),
            shared: TransactionSlot::default(),
            functions: RwLock::default(),
            running: Mutex::default(),
        }
    }

    /// Registers rows in memory under a name. A statement that uses the name reads these rows
    /// instead of the lake's table.
    pub fn register(&self, name: &str, batches: &RecordBatches) -> Result<()> {
        let partitions = self.engine.template().config().target_partitions();
        let provider = registered(batches, partitions)
            .map_err(|error| self.engine.limits(None).explain(&error))?;
        self.registered.write().insert(name.to_owned(), provider);
        Ok(())
    }

    /// Registers rows stored outside the engine under a name, like [`Session::register`].
    pub fn register_stored(&self, name: &str, rows: Arc<dyn RowSource>) {
        self.registered.write().insert(name.to_owned(), stored_table(rows));
    }

    /// Adds an SQL function that sends a signal to a component outside the engine. Only this
    /// session can call the function.
    pub fn register_signal(&self, name: &str, signal: NotifyCallback) {
        self.functions.write().push(signal_function(name, signal));
    }

    /// Registers a schema without rows under a name, for planning only.
    pub fn register_empty(&self, name: &str, schema: SchemaRef) -> Result<()> {
        self.register(name, &RecordBatches { schema, batches: Vec::new() })
    }

    /// Runs a statement. If the statement writes, its commit is durable on return.
    pub async fn execute(&self, statement: impl IntoStatement) -> Result<StatementResult> {
        let statement = statement.into_statement()?;
        let text = Arc::clone(statement.text());
        located(Box::pin(self.run_command(statement.command()?)).await, &text)
    }

    /// Runs a query like [`Session::execute`]; rejects other statements. The columns have the names
    /// of a table: columns without an alias have distinct names.
    pub async fn select(&self, statement: impl IntoStatement) -> Result<StatementResult> {
        let statement = statement.into_statement()?;
        let text = Arc::clone(statement.text());
        let source = statement.command()?.into_query()?;
        self.begin();
        self.engine.statements().started("SELECT");
        let answer = async {
            let (run, plan, names) = self.planned(source).await?;
            self.answer(run, plan, &names.of_relation()).await
        };
        located(Box::pin(answer).await, &text)
    }

    /// Plans a query like [`Session::select`]. Execution starts when the first rows are requested;
    /// until then, no memory is used.
    pub async fn select_lazy(&self, statement: impl IntoStatement) -> Result<StatementResult> {
        let statement = statement.into_statement()?;
        let text = Arc::clone(statement.text());
        self.begin();
        let (run, plan, names) = self.planned(statement.command()?.into_query()?).await?;
        let run = StatementContext { lazy: true, ..run };
        located(self.answer(run, plan, &names).await, &text)
    }

    /// Returns the caches and readers for the session's scans, with the column cache if the session
    /// uses it.
    pub(crate) fn scans(&self) -> ScanEnvironment {
        let scans = self.engine.scans();
        if self.options.caches_columns { scans.with_column_cache() } else { scans.clone() }
    }

    /// Plans a statement and returns the types of its parameters and of its result. Runs nothing.
    pub async fn describe(&self, statement: &PreparedStatement) -> Result<StatementDescription> {
        let parameter = |parameter: &Parameter| ParameterDescription {
            parameter: parameter.clone(),
            data_type: None,
        };
        let mut parameters: Vec<_> = statement.parameters().iter().map(parameter).collect();
        let source = match statement.clone().command()? {
            SupportedStatement::Query(source) => source,
            other => {
                let columns = self.returning_columns(other).await?;
                return Ok(StatementDescription { parameters, columns });
            }
        };
        let (run, plan, names) = self.planned(source).await?;
        let types = plan.get_parameter_types().map_err(|error| run.limits.explain(&error))?;
        for one in &mut parameters {
            one.data_type = types.get(&format!("${}", one.parameter.name)).cloned().flatten();
        }
        let columns = plan_output::renamed(&names, &plain_schema(plan.schema().as_arrow()));
        Ok(StatementDescription { parameters, columns: Some(columns) })
    }

    /// Plans a query and returns its columns. Runs nothing.
    pub async fn schema_of(&self, statement: impl IntoStatement) -> Result<SchemaRef> {
        Ok(self.columns_of(statement).await?.schema)
    }

    /// Plans a query and returns its columns, each with the table columns from which it is
    /// computed. The columns have the names of [`Session::select`]. Runs nothing.
    pub async fn columns_of(&self, statement: impl IntoStatement) -> Result<QueryColumns> {
        let source = statement.into_statement()?.command()?.into_query()?;
        let (plan, names) = self.plan(&self.planning_run(), source, &self.view().await?).await?;
        let schema = plain_schema(plan.schema().as_arrow());
        let schema = plan_output::renamed(&names.of_relation(), &schema);
        let sources = self.compute(move || Ok(column_sources(&plan))).await?;
        Ok(QueryColumns { schema, sources })
    }

    async fn run_command(&self, command: SupportedStatement) -> Result<StatementResult> {
        self.begin();
        self.engine.statements().started(command.name());
        match command {
            SupportedStatement::Query(source) => {
                let (run, plan, names) = self.planned(source).await?;
                self.answer(run, plan, &names).await
            }
            SupportedStatement::Explain { source, options } => {
                Box::pin(self.explain(source, options)).await
            }
            SupportedStatement::ExplainCost(source) => Box::pin(self.explain_cost(source)).await,
            SupportedStatement::ShowTables(namespace) => self.show_tables(namespace).await,
            SupportedStatement::Describe(table) => self.describe_table(&table).await,
            SupportedStatement::DescribeQuery(source) => self.describe_query(source).await,
            SupportedStatement::Summarize(source) => Box::pin(self.summarize(source)).await,
            SupportedStatement::CreateTable(table) => Box::pin(self.create_table(*table)).await,
            SupportedStatement::Insert(rows) => Box::pin(self.insert(*rows)).await,
            SupportedStatement::Delete(delete) => {
                self.retry_on_conflict(|| self.delete((*delete).clone())).await
            }
            SupportedStatement::Update(update) => {
                self.retry_on_conflict(|| self.update((*update).clone())).await
            }
            SupportedStatement::Merge(merge) => {
                self.retry_on_conflict(|| self.merge((*merge).clone())).await
            }
            SupportedStatement::Truncate(truncation) => self.truncate(truncation).await,
            SupportedStatement::Alter(change) => self.alter_table(change).await,
            SupportedStatement::Comment(comment) => self.comment(comment).await,
            SupportedStatement::CreateView(view) => Box::pin(self.create_view(*view)).await,
            SupportedStatement::DropViews { names, if_exists } => {
                self.drop_views(&names, if_exists).await
            }
            SupportedStatement::Function(statement) => {
                Box::pin(self.function_statement(statement)).await
            }
            SupportedStatement::ShowViews(namespace) => self.show_views(namespace).await,
            SupportedStatement::DropTables { names, if_exists } => {
                self.drop_tables(&names, if_exists).await
            }
            SupportedStatement::CreateNamespace { name, if_not_exists } => {
                self.create_namespace(&name, if_not_exists).await
            }
            SupportedStatement::DropNamespaces { names, if_exists } => {
                self.drop_namespaces(&names, if_exists).await
            }
        }
    }

    /// Creates the context of a new statement.
    pub(crate) fn run(&self) -> StatementContext {
        let own = self.options.access.as_ref().and_then(|access| access.limits().memory_bytes);
        let memory_bytes = self.options.memory_bytes.into_iter().chain(own).min();
        let (state, runtime, pool) = self.engine.statement(memory_bytes);
        let state = with_functions(state, &self.functions.read());
        let metrics = Arc::new(ExecutionMetrics::new(pool, self.calls()));
        *self.running.lock() = Arc::downgrade(&metrics);
        let limits = self.engine.limits(memory_bytes);
        StatementContext { state, runtime, metrics, limits, lazy: false }
    }

    /// Returns the function calls of the most recent statement.
    fn calls(&self) -> Arc<StatementCalls> {
        Arc::clone(&self.calls.lock())
    }

    /// Begins a new statement, with an empty record of function calls.
    fn begin(&self) {
        *self.calls.lock() = calls_of(&self.options);
    }

    /// Creates the context of a further query that a running statement executes. Both share the
    /// statement's metrics.
    pub(crate) fn next_run(&self, metrics: &Arc<ExecutionMetrics>) -> StatementContext {
        let run = self.run();
        *self.running.lock() = Arc::downgrade(metrics);
        StatementContext { metrics: Arc::clone(metrics), ..run }
    }

    /// Returns the context of a query that is planned and never executed. Shares the engine's
    /// session state, because a copy of the state would have to copy the map of all functions.
    fn planning_run(&self) -> StatementContext {
        let (_, runtime, pool) = self.engine.memory(None);
        StatementContext {
            state: Arc::clone(self.engine.template()),
            runtime,
            metrics: Arc::new(ExecutionMetrics::new(pool, self.calls())),
            limits: self.engine.limits(None),
            lazy: false,
        }
    }

    /// Returns the usage so far of the statement that was started last, even if it has not
    /// committed yet.
    pub fn usage(&self) -> headwater_model::Usage {
        self.running.lock().upgrade().map(|metrics| metrics.usage()).unwrap_or_default()
    }

    /// Returns the catalog state that a statement reads.
    pub(crate) async fn view(&self) -> Result<CommitView> {
        match &self.options.view {
            Some(view) => Ok(view.clone()),
            None => Ok(self.engine.lake().view(&self.options.reference).await?),
        }
    }

    /// Plans a query at the session's ref, in a new context.
    pub(crate) async fn planned(
        &self,
        source: SourceQuery,
    ) -> Result<(StatementContext, LogicalPlan, OutputNames)> {
        let run = self.run();
        let (plan, names) = self.plan(&run, source, &self.view().await?).await?;
        Ok((run, plan, names))
    }

    /// Looks up the tables of a query, resolves its names and plans it. Also returns the names of
    /// the output columns.
    pub(crate) async fn plan(
        &self,
        run: &StatementContext,
        source: SourceQuery,
        view: &CommitView,
    ) -> Result<(LogicalPlan, OutputNames)> {
        let (mut query, mentions) = source.into_parts(&planner::version_constant)?;
        let mut lookup = TableLookup::new(self, view).for_query(&query);
        lookup.add_all(&mentions).await?;
        run.metrics.reads(lookup.pinned_views());
        let (tables, sources) = lookup.finish();
        let state = self.with_functions(run, &query, view, &self.options.namespace).await?;
        let limits = run.limits;
        self.compute(move || {
            let names = resolve(&mut query, &tables, &planner::functions(&state))?;
            let plan = plan_statement(&state, &sources, Statement::Query(query), limits)?;
            Ok((plan, names))
        })
        .await
    }

    /// Runs planning on the engine's threads, because these have large stacks, and network threads
    /// must not be blocked. A task of [`Engine::plan_all`] already runs on such a thread and stays
    /// there.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let threads = self.engine.threads()?;
        if Handle::try_current().is_ok_and(|current| current.id() == threads.id()) {
            return work();
        }
        threads.spawn(async move { work() }).await.map_err(|_| planning_panicked())?
    }

    /// Runs a plan and returns its result.
    pub(crate) async fn answer(
        &self,
        run: StatementContext,
        plan: LogicalPlan,
        names: &OutputNames,
    ) -> Result<StatementResult> {
        let metrics = Arc::clone(&run.metrics);
        let limits = run.limits;
        let running = self.start(run, plan).await?;
        Ok(plan_output::answer(running, names, metrics, limits))
    }

    /// Starts a plan on the engine's threads.
    pub(crate) async fn start(
        &self,
        run: StatementContext,
        plan: LogicalPlan,
    ) -> Result<RunningPlan> {
        let StatementContext { state, runtime, metrics, limits, lazy } = run;
        let statement = plan_executor::ExecutableStatement { state, runtime, plan, metrics, lazy };
        let threads = self.engine.threads()?;
        plan_executor::start(threads, statement, self.engine.resident())
            .await
            .map_err(|error| limits.explain(&error))
    }
}

/// Creates the record of the function calls of a new statement.
fn calls_of(options: &SessionOptions) -> Arc<StatementCalls> {
    let job = options.properties.get(PROPERTY_JOB).and_then(|job| job.parse().ok());
    let (author, instances) = (options.author.clone(), JobId::generate());
    let memory_bytes_max = options.access.as_ref().and_then(|it| it.limits().memory_bytes);
    let owner = CallingStatement { author, job, instances, memory_bytes_max };
    Arc::new(StatementCalls::new(owner))
}

/// Plans a statement whose names are resolved.
pub(crate) fn plan_statement(
    state: &SessionState,
    sources: &TableSources,
    statement: Statement,
    limits: ResourceLimits,
) -> Result<LogicalPlan> {
    planner::plan(state, sources, statement).map_err(|error| limits.explain(&error))
}

/// Adds the positions of constants and clauses to the errors of a result.
fn located(answer: Result<StatementResult>, sql: &Arc<str>) -> Result<StatementResult> {
    let sql = Arc::clone(sql);
    let placed = move |error| clause_position::locate(locate(error, &sql), &sql);
    let answer = answer.map_err(&placed)?;
    Ok(StatementResult { stream: answer.stream.map_err(placed).boxed(), ..answer })
}
