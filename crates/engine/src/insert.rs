//! INSERT INTO and INSERT OVERWRITE.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::{
    self as ast, Ident, Insert, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableObject,
};
use futures::StreamExt;
use headwater_lake::{BatchStream, CommitView};
use headwater_model::{AccessObject, Action, TableName, ToProblem};
use headwater_sql::change::is_default;
use headwater_sql::insert::InsertStatement;
use headwater_sql::number_literal::exact_columns;
use headwater_sql::table_name::{ParsedTableName, position, span_start};
use headwater_sql::table_references::ReferencedTable;
use headwater_sql::unsupported_clauses::spell;
use headwater_sql::values_subqueries::parts;
use headwater_sql_resolve::name_scope::column;
use headwater_sql_resolve::{ResolvedTable, resolve};
use headwater_table_scan::{bare_schema, plain_schema};

use crate::assignment_cast::mark_for_cast;
use crate::column_defaults::{InsertTargetTable, defaults_of, written};
use crate::datafusion_error::ResourceLimits;
use crate::error::{Error, Result, SqlError};
use crate::planner::{self, TableSources};
use crate::returning::{BufferedRows, ChangedTable, result_of};
use crate::session::{Session, plan_statement};
use crate::statement_result::StatementResult;
use crate::table_lookup::TableLookup;
use crate::write::{FirstStreamError, first, rows};

impl Session {
    /// Runs INSERT.
    pub(crate) async fn insert(&self, new: InsertStatement) -> Result<StatementResult> {
        let InsertStatement { table, mut columns, overwrite, returning, source, statement } = new;
        let (mut query, mentions) = source.into_parts(&planner::version_constant)?;
        let mut transaction = self.transaction().await?;
        let view = self.view_to_read(&transaction);
        let run = self.run();
        let metrics = Arc::clone(&run.metrics);
        let limits = run.limits;
        // The target is always a table of the lake at the branch's head. Registered tables and a
        // pinned catalog state are ignored.
        let head = transaction.view().clone();
        let (found, target_sources) = self.find_target(&table, &head).await?;
        let name = TableName { namespace: found.namespace.clone(), name: found.name.clone() };
        if overwrite {
            self.check_target(Action::Delete, &name, &head).await?;
        }
        if returning.is_some() {
            self.check_target(Action::Select, &name, &head).await?;
        }
        spell_columns(&mut columns, &found)?;
        let mut lookup = TableLookup::new(self, &view);
        lookup.add_all(&mentions).await?;
        metrics.reads(lookup.pinned_views());
        let (tables, mut sources) = lookup.finish();
        let into = InsertTarget::of(&found, target_sources, columns)?;
        into.shape(&mut query)?;
        let changed = ChangedTable { name: &name, schema: into.schema.clone(), view: &head };
        let returning = self.returning(returning, changed, &run).await?;
        let state = self.with_functions(&run, &query, &view, &self.options.namespace).await?;
        let plan = self
            .compute(move || {
                let (key, source) = into.source();
                sources.insert(key, source);
                let plan = |query: Query| {
                    let planning = RowPlanningContext {
                        tables: &tables,
                        sources: &sources,
                        state: &state,
                        limits,
                    };
                    into.plan(query.into(), statement.clone(), &planning)
                };
                let plans = parts(*query)?.into_iter().map(plan).collect::<Result<Vec<_>>>()?;
                planner::all_of(plans).map_err(|error| limits.explain(&error))
            })
            .await?;
        let running = self.start(run, plan).await?;
        let schema = plain_schema(&running.schema);
        let (mut rows, kept) = rows(running, schema, limits);
        if let Some(returning) = &returning {
            rows = buffered(rows, returning.rows.clone(), Arc::clone(&kept));
        }
        let (written, message) = if overwrite {
            let whole = !transaction.table(&name).await?.is_partitioned();
            let written = if whole {
                transaction.overwrite(&name, rows).await
            } else {
                transaction.overwrite_partitions(&name, rows).await
            };
            (written, format!("insert overwrite {name}"))
        } else {
            (transaction.append_rows(&name, rows).await, format!("insert into {name}"))
        };
        written.map_err(|error| first(&kept, error))?;
        let returned = self.returned(returning, &metrics).await?;
        let written = self.finish(transaction, &message, &metrics).await?;
        Ok(result_of(returned, written))
    }

    /// Checks a right to the table that a statement inserts into, and its row filters and column
    /// masks if the action changes rows.
    async fn check_target(
        &self,
        action: Action,
        name: &TableName,
        head: &CommitView,
    ) -> Result<()> {
        match head.state().table(name).await? {
            Some(entry) => {
                self.authorize(action, &entry.object(name))?;
                self.check_change(&[action], name, &entry)
            }
            None => self.authorize(action, &AccessObject::table(name)),
        }
    }

    /// Looks up the table that a statement inserts into.
    async fn find_target(
        &self,
        table: &ObjectName,
        head: &CommitView,
    ) -> Result<(ResolvedTable, TableSources)> {
        let written = self.written(table)?;
        let mut target = TableLookup::of_lake(self, head);
        let mention =
            ReferencedTable { table: written.clone(), position: position(table), expected: None };
        target.add(&mention).await?;
        let (mut found, sources) = target.finish();
        let Some(found) = found.remove(&written) else {
            return Err(Error::Internal { message: format!("table `{written}` was not resolved") });
        };
        Ok((found, sources))
    }
}

/// Returns the rows unchanged, and also copies them to the buffer for RETURNING.
fn buffered(rows: BatchStream, returned: BufferedRows, kept: FirstStreamError) -> BatchStream {
    let buffer = move |batch: RecordBatch| match returned.add(&batch) {
        Ok(()) => Ok(batch),
        Err(error) => {
            let problem = error.to_problem();
            kept.lock().get_or_insert(error);
            Err(ArrowError::ExternalError(Box::new(problem)))
        }
    };
    rows.map(move |batch| batch.and_then(&buffer)).boxed()
}

/// Target of new rows.
struct InsertTarget {
    name: [String; 2],
    /// Table name in its stored spelling.
    table: String,
    schema: SchemaRef,
    /// The listed columns in their stored spelling; empty if the statement has no column list.
    listed: Vec<String>,
    /// The non-null defaults of omitted columns.
    defaults: HashMap<String, Expr>,
}

/// Tables and session state that planning the new rows needs.
struct RowPlanningContext<'a> {
    tables: &'a HashMap<ParsedTableName, ResolvedTable>,
    sources: &'a TableSources,
    state: &'a SessionState,
    limits: ResourceLimits,
}

impl InsertTarget {
    fn of(found: &ResolvedTable, sources: TableSources, columns: Vec<Ident>) -> Result<Self> {
        let lost =
            || Error::Internal { message: format!("no source was found for `{}`", found.name) };
        let source = sources.into_values().next().ok_or_else(lost)?;
        let listed: Vec<String> = columns.iter().map(|column| column.value.clone()).collect();
        for (index, column) in columns.iter().enumerate() {
            if listed[..index].contains(&column.value) {
                return Err(Error::Sql(SqlError::Invalid {
                    message: format!("there are two columns named `{}`", column.value),
                    hint: None,
                    position: span_start(column.span),
                }));
            }
        }
        let name = [["into ", &found.namespace].concat(), found.label.clone()];
        let defaults = defaults_of(&source.schema())?;
        let (table, schema) = (found.name.clone(), bare_schema(&source.schema()));
        Ok(InsertTarget { name, table, schema, listed, defaults })
    }

    /// Returns the columns to which the statement's values are assigned, in order.
    fn columns(&self) -> Vec<Field> {
        match self.listed.as_slice() {
            [] => self.schema.fields().iter().map(|field| field.as_ref().clone()).collect(),
            listed => {
                let field = |name: &String| self.schema.field_with_name(name).cloned();
                listed.iter().flat_map(field).collect()
            }
        }
    }

    /// Checks that the number of values equals the number of assigned columns.
    fn check_width(&self, given: usize, subject: &str) -> Result<()> {
        let listed = self.listed.len();
        let width = if listed == 0 { self.schema.fields().len() } else { listed };
        if given == width {
            return Ok(());
        }
        let count = |count, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (given, width) = (count(given, "value"), count(width, "column"));
        let message = if listed == 0 {
            format!("{subject} {given} for the {width} of `{}`", self.table)
        } else {
            format!("{subject} {given} for the {width} that the statement lists")
        };
        let hint =
            "Give each row a value for each column, or list the columns: INSERT INTO t (a, b) …";
        Err(Error::Sql(SqlError::Invalid { message, hint: Some(hint.to_owned()), position: None }))
    }

    /// Returns the table source for the planner, which uses only its columns.
    fn source(&self) -> ((String, String), Arc<dyn TableSource>) {
        let [namespace, label] = self.name.clone();
        let table = InsertTargetTable::new(SchemaRef::clone(&self.schema), self.defaults.clone());
        ((namespace, label), provider_as_source(Arc::new(table)))
    }

    /// Checks the number of values in each row of VALUES, and replaces each DEFAULT by the column's
    /// default. Converts literals for decimal columns to text, so that they keep all digits.
    fn shape(&self, query: &mut Query) -> Result<()> {
        let columns = self.columns();
        exact_columns(query, |index| {
            columns.get(index).is_some_and(|column| column.data_type().is_decimal())
        });
        let SetExpr::Values(values) = &mut *query.body else { return Ok(()) };
        let several = values.rows.len() > 1;
        for (index, row) in values.rows.iter_mut().enumerate() {
            let subject =
                if several { format!("row {} gives", index + 1) } else { "the row gives".into() };
            self.check_width(row.content.len(), &subject)?;
            for (value, column) in row.content.iter_mut().zip(&columns) {
                let given = std::mem::replace(value, ast::Expr::value(ast::Value::Null));
                *value = match self.defaults.get(column.name()) {
                    Some(default) if is_default(&given) => written(default)?,
                    None if is_default(&given) => continue,
                    _ => mark_for_cast(given, column.data_type()),
                };
            }
        }
        Ok(())
    }

    /// Plans the rows to insert, with a value for each column of the table, cast to the column's
    /// type.
    fn plan(
        &self,
        mut query: Box<Query>,
        mut insert: Insert,
        planning: &RowPlanningContext<'_>,
    ) -> Result<LogicalPlan> {
        let RowPlanningContext { tables, sources, state, limits } = *planning;
        resolve(&mut query, tables, &planner::functions(state))?;
        let plan = if matches!(*query.body, SetExpr::Values(_)) {
            // DataFusion assumes that all literals in VALUES have the types of the target columns.
            // This is wrong for a VALUES that is only a part of the query. So only an INSERT whose
            // whole query is a VALUES is planned as an INSERT.
            self.complete(&mut insert, query);
            let plan = plan_statement(state, sources, Statement::Insert(insert), limits)?;
            planner::rows_of(plan, &self.columns(), &self.table)
        } else {
            let plan = plan_statement(state, sources, Statement::Query(query), limits)?;
            self.check_width(plan.schema().fields().len(), "the query gives")?;
            let to = (self.table.as_str(), self.schema.as_ref());
            planner::cast_rows(plan, to, &self.listed, &self.defaults)
        };
        plan.map_err(|error| limits.explain(&error))
    }

    /// Adds the table name, the columns and the query to an INSERT statement, for the planner.
    fn complete(&self, insert: &mut Insert, query: Box<Query>) {
        let quoted = |value: &String| Ident::with_quote('"', value);
        let name = ObjectName::from(self.name.iter().map(quoted).collect::<Vec<_>>());
        insert.table = TableObject::TableName(name);
        let column = |name: &String| ObjectName(vec![ObjectNamePart::Identifier(quoted(name))]);
        insert.columns = self.listed.iter().map(column).collect();
        insert.source = Some(query);
    }
}

fn spell_columns(columns: &mut [Ident], table: &ResolvedTable) -> Result<()> {
    for written in columns {
        let names = table.columns.iter().map(String::as_str);
        let at = span_start(written.span);
        let spelling = column(&written.value, names, &[&table.label], at)?;
        spell(written, spelling);
    }
    Ok(())
}
