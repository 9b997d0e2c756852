//! The RETURNING clause: a select list over the rows that a statement writes or deletes.
//!
//! A [`Returning`] clause is planned before the statement writes, so that a mistake in the clause
//! prevents the write. Its result is computed before the commit, so that an error prevents the
//! commit.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::provider_as_source;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_lake::CommitView;
use headwater_model::{Action, TableName};
use headwater_sql::change::TARGET;
use headwater_sql::statement::{SourceQuery, SupportedStatement};
use headwater_sql::table_name::ParsedTableName;
use headwater_sql_resolve::{OutputNames, ResolvedTable, resolve};
use headwater_table_scan::{bare_schema, plain_schema};
use parking_lot::Mutex;

use crate::datafusion_error::ResourceLimits;
use crate::error::Result;
use crate::plan_output::renamed;
use crate::planner;
use crate::session::{Session, StatementContext, plan_statement};
use crate::statement_result::{ExecutionMetrics, RecordBatches, StatementResult};
use crate::table_lookup::{TableLookup, registered};

/// The internal namespace of the changed rows in the plan.
const NAMESPACE: &str = "returning";

/// Rows in memory, reserved in the memory pool of a statement.
#[derive(Debug, Clone)]
pub(crate) struct BufferedRows {
    buffer: Arc<Mutex<(Vec<RecordBatch>, MemoryReservation)>>,
    limits: ResourceLimits,
}

impl BufferedRows {
    fn new(run: &StatementContext) -> Self {
        let memory = MemoryConsumer::new("RETURNING").register(&run.runtime.memory_pool);
        BufferedRows { buffer: Arc::new(Mutex::new((Vec::new(), memory))), limits: run.limits }
    }

    /// Adds rows. Fails if the statement has not enough memory for the rows.
    pub(crate) fn add(&self, batch: &RecordBatch) -> Result<()> {
        let (batches, memory) = &mut *self.buffer.lock();
        let reserved = memory.try_grow(batch.get_array_memory_size());
        reserved.map_err(|error| self.limits.explain(&error))?;
        batches.push(batch.clone());
        Ok(())
    }

    fn batches(&self) -> Vec<RecordBatch> {
        self.buffer.lock().0.clone()
    }
}

/// The table whose rows a statement changes.
pub(crate) struct ChangedTable<'a> {
    pub name: &'a TableName,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// The catalog state that subqueries of the clause read.
    pub view: &'a CommitView,
}

/// A RETURNING clause, with the rows that it reads.
#[derive(Clone)]
pub(crate) struct Returning {
    query: SourceQuery,
    table: TableName,
    schema: SchemaRef,
    view: CommitView,
    /// The changed rows.
    pub rows: BufferedRows,
}

/// The result of a RETURNING clause.
pub(crate) struct ReturnedRows {
    schema: SchemaRef,
    rows: BufferedRows,
}

/// Returns the result of a statement after its commit: the rows of RETURNING or, without this
/// clause, the result of the write.
pub(crate) fn result_of(
    returned: Option<ReturnedRows>,
    written: StatementResult,
) -> StatementResult {
    let Some(ReturnedRows { schema, rows }) = returned else { return written };
    // Move `rows` into the stream, because it holds the memory reservation of the batches.
    let batches = rows.batches().into_iter().map(move |batch| {
        let _reserved = &rows;
        Ok(batch)
    });
    StatementResult { schema, stream: stream::iter(batches).boxed(), ..written }
}

impl Session {
    /// Plans the RETURNING clause of a statement; `None` if the statement has no such clause.
    pub(crate) async fn returning(
        &self,
        query: Option<SourceQuery>,
        changed: ChangedTable<'_>,
        run: &StatementContext,
    ) -> Result<Option<Returning>> {
        let Some(query) = query else { return Ok(None) };
        let ChangedTable { name, schema, view } = changed;
        let (table, view, rows) = (name.clone(), view.clone(), BufferedRows::new(run));
        let returning = Returning { query, table, schema: plain_schema(&schema), view, rows };
        self.plan_returning(run, &returning).await?;
        Ok(Some(returning))
    }

    /// Computes the result of a RETURNING clause from the changed rows; `None` without a clause.
    /// `metrics` are the metrics of the statement.
    pub(crate) async fn returned(
        &self,
        returning: Option<Returning>,
        metrics: &Arc<ExecutionMetrics>,
    ) -> Result<Option<ReturnedRows>> {
        let Some(returning) = returning else { return Ok(None) };
        let run = self.next_run(metrics);
        let result = BufferedRows::new(&run);
        let (plan, names) = self.plan_returning(&run, &returning).await?;
        let answer = self.answer(run, plan, &names).await?;
        let (schema, mut stream) = (answer.schema, answer.stream);
        while let Some(batch) = stream.try_next().await? {
            result.add(&batch)?;
        }
        Ok(Some(ReturnedRows { schema, rows: result }))
    }

    /// Plans a RETURNING clause over the rows that the statement has changed and buffered so far.
    async fn plan_returning(
        &self,
        run: &StatementContext,
        returning: &Returning,
    ) -> Result<(LogicalPlan, OutputNames)> {
        let limits = run.limits;
        let query = returning.query.clone();
        let (mut query, mentions) = query.into_parts(&planner::version_constant)?;
        let mut lookup = TableLookup::new(self, &returning.view);
        lookup.add_all(&mentions).await?;
        run.metrics.reads(lookup.pinned_views());
        let (mut tables, mut sources) = lookup.finish();
        let batches = returning.rows.batches();
        // In the rows of an UPDATE, columns can be nullable although they are required in the
        // table.
        let schema = batches.first().map_or_else(|| returning.schema.clone(), RecordBatch::schema);
        let TableName { namespace, name } = returning.table.clone();
        let found = ResolvedTable {
            source: NAMESPACE.to_owned(),
            namespace,
            label: name.clone(),
            name,
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
            hidden: Vec::new(),
        };
        // Use one partition, so that the rows keep their order.
        let rows = registered(&RecordBatches { schema, batches }, 1);
        let rows = rows.map_err(|error| limits.explain(&error))?;
        sources.insert((found.source.clone(), found.label.clone()), provider_as_source(rows));
        tables.insert(ParsedTableName::unqualified(TARGET), found);
        let (view, namespace) = (&returning.view, &self.options.namespace);
        let state = self.with_functions(run, &query, view, namespace).await?;
        self.compute(move || {
            let names = resolve(&mut query, &tables, &planner::functions(&state))?;
            let plan = plan_statement(&state, &sources, Statement::Query(query), limits)?;
            Ok((plan, names))
        })
        .await
    }

    /// Returns the columns of the RETURNING clause of a statement; `None` if the statement has no
    /// such clause.
    pub(crate) async fn returning_columns(
        &self,
        command: SupportedStatement,
    ) -> Result<Option<SchemaRef>> {
        let (query, table) = match command {
            SupportedStatement::Insert(new) => (new.returning, new.table),
            SupportedStatement::Update(update) => (update.returning, update.table),
            SupportedStatement::Delete(delete) => (delete.returning, delete.table),
            _ => return Ok(None),
        };
        let Some(query) = query else { return Ok(None) };
        let (view, run) = (self.view().await?, self.run());
        let (name, schema) = self.table_to_return(&table, &view).await?;
        let changed = ChangedTable { name: &name, schema, view: &view };
        let Some(returning) = self.returning(Some(query), changed, &run).await? else {
            return Ok(None);
        };
        let (plan, names) = self.plan_returning(&run, &returning).await?;
        Ok(Some(renamed(&names, &plain_schema(plan.schema().as_arrow()))))
    }

    async fn table_to_return(
        &self,
        table: &ObjectName,
        view: &CommitView,
    ) -> Result<(TableName, SchemaRef)> {
        let (name, exists) = self.target(table, view, &[Action::Select]).await?;
        let Some(entry) = view.state().entry(&name).await?.filter(|_| exists) else {
            return Err(self.no_such_table(table, &name, view).await?);
        };
        let schema = view.load(&entry).await?.schema();
        Ok((name, bare_schema(&schema)))
    }
}
