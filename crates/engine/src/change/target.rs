//! Target table of a statement that changes rows.

use headwater_lake::Transaction;
use headwater_model::{Action, TableName};
use headwater_sql::change::{AssignedColumn, TARGET};
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::statement::SourceQuery;
use headwater_sql::table_name::{ParsedTableName, span_start};
use headwater_sql_functions::FunctionMemoryExtension;
use headwater_sql_resolve::name_scope::column;
use headwater_sql_resolve::{ResolvedTable, resolve};
use headwater_table_scan::{LakeTable, bare_schema, can_match, whole_files};
use headwater_tables::{FileFilter, ScanPlan, Table};
use std::collections::HashMap;
use std::sync::Arc;

use crate::column_defaults::defaults_of;
use crate::datafusion_error::ResourceLimits;
use crate::error::{Error, Result, SqlError};
use crate::planner;
use crate::session::{Session, StatementContext, plan_statement};
use crate::table_lookup::TableLookup;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, lit};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Statement};

/// Value of the table property `write.<statement>.isolation-level` for snapshot isolation.
const SNAPSHOT_ISOLATION: &str = "snapshot";

/// Value of the table property `write.<statement>.mode` that selects delete files.
const MERGE_ON_READ: &str = "merge-on-read";

/// Column that is true if the change writes a new version of the row.
pub(super) const COMES: &str = "\0n";

/// Target table of a change.
pub(super) struct TargetTable {
    pub transaction: Transaction,
    pub name: TableName,
    /// Table state at the start of the transaction.
    pub table: Table,
    /// Scan plan of the table's data files.
    pub plan: ScanPlan,
    /// Table provider through which the query reads the target.
    provider: Arc<LakeTable>,
}

impl Session {
    /// Begins a transaction that changes a table of the session's branch. The session must have the
    /// rights to all `actions` on the table. These actions include `select`, because the number of
    /// changed rows reveals values.
    pub(super) async fn begin_change(
        &self,
        name: &ObjectName,
        actions: &[Action],
    ) -> Result<TargetTable> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let (table_name, exists) = self.target(name, &view, actions).await?;
        if !exists {
            return Err(self.no_such_table(name, &table_name, &view).await?);
        }
        // Even a MERGE that only inserts reveals which rows exist, because existing rows are not
        // inserted.
        if let Some(entry) = view.state().entry(&table_name).await? {
            self.check_change(&[Action::Update], &table_name, &entry)?;
        }
        let table = transaction.table(&table_name).await?;
        let plan = self.engine.lake().tables().plan(&table, None).await?;
        let scans = self.engine.scans().clone();
        let provider = Arc::new(LakeTable::with_positions(plan.clone(), scans));
        Ok(TargetTable { transaction, name: table_name, table, plan, provider })
    }

    /// Plans the query for the affected rows; `shape` transforms the logical plan.
    pub(super) async fn plan_change(
        &self,
        run: &StatementContext,
        target: &TargetTable,
        source: SourceQuery,
        shape: impl FnOnce(LogicalPlan) -> PlanResult<LogicalPlan> + Send + 'static,
    ) -> Result<AffectedRowsPlan> {
        let (mut query, mentions) = source.into_parts(&planner::version_constant)?;
        let view = self.view_to_read(&target.transaction);
        let mut lookup = TableLookup::new(self, &view);
        lookup.add_all(&mentions).await?;
        run.metrics.reads(lookup.pinned_views());
        let (mut tables, mut sources) = lookup.finish();
        let (written, found) = target.found();
        let reads_itself = tables
            .values()
            .any(|other| (&other.namespace, &other.name) == (&found.namespace, &found.name));
        let key = (found.source.clone(), found.label.clone());
        tables.insert(written, found);
        sources.insert(key, provider_as_source(Arc::clone(&target.provider) as _));
        let state = self.with_functions(run, &query, &view, &self.options.namespace).await?;
        let limits = run.limits;
        self.compute(move || {
            resolve(&mut query, &tables, &planner::functions(&state))?;
            let plan = plan_statement(&state, &sources, Statement::Query(query), limits)?;
            let functions = FunctionMemoryExtension::of(state.config_options());
            functions.set_planning(true);
            let plan = shape(plan).and_then(|plan| state.optimize(&plan));
            functions.set_planning(false);
            let plan = plan.map_err(|error| limits.explain(&error))?;
            Ok(AffectedRowsPlan { plan, reads_itself })
        })
        .await
    }
}

impl TargetTable {
    /// Returns the name and the columns of the target for name resolution.
    fn found(&self) -> (ParsedTableName, ResolvedTable) {
        let written = ParsedTableName::unqualified(TARGET);
        let schema = self.provider.schema();
        let found = ResolvedTable {
            source: self.source(),
            namespace: self.name.namespace.clone(),
            label: self.name.name.clone(),
            name: self.name.name.clone(),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
            hidden: Vec::new(),
        };
        (written, found)
    }

    /// Returns the indexes of files in which every row matches the filter of the plan, according to
    /// the files' column bounds, and excludes these files from the scan. The change removes them as
    /// a whole.
    pub(super) fn skip_fully_matched_files(
        &self,
        found: &AffectedRowsPlan,
        state: &SessionState,
        limits: ResourceLimits,
    ) -> Result<Vec<usize>> {
        let Some(filter) = condition(&found.plan) else { return Ok(Vec::new()) };
        let schema = self.provider.schema();
        let whole = whole_files(&self.plan, &schema, &filter, state)
            .map_err(|error| limits.explain(&error))?;
        let numbers = (0..whole.len()).filter(|file| whole[*file]).collect();
        self.provider.skip_files(whole);
        Ok(numbers)
    }

    /// Returns the columns of the target, for statements that assign values to them.
    pub(super) fn columns(&self, alias: Option<Ident>) -> Result<TargetColumns> {
        let schema = bare_schema(&self.table.schema());
        Ok(TargetColumns {
            label: alias.unwrap_or_else(|| Ident::with_quote('"', &self.name.name)),
            table: self.name.clone(),
            names: schema.fields().iter().map(|field| field.name().clone()).collect(),
            schema,
            defaults: defaults_of(&self.table.schema())?,
        })
    }

    /// Returns a function that checks the files that concurrent commits have added. The returned
    /// function returns true if the files can contain rows that the change would have affected.
    /// Under snapshot isolation, concurrently added rows are ignored, and the result is `None`.
    pub(super) fn concurrent_row_check(
        &self,
        found: &AffectedRowsPlan,
        word: &str,
        run: &StatementContext,
    ) -> Option<FileFilter> {
        let level = self.property(word, "isolation-level");
        if level.is_some_and(|level| level.eq_ignore_ascii_case(SNAPSHOT_ISOLATION)) {
            return None;
        }
        if found.reads_itself {
            return Some(Arc::new(|_: &ScanPlan| true));
        }
        let filters = self.filters(&found.plan);
        let (schema, state) = (self.provider.schema(), run.state.clone());
        Some(Arc::new(move |added: &ScanPlan| can_match(added, &schema, &filters, state.as_ref())))
    }

    /// Returns true if the table is configured for merge-on-read, not copy-on-write.
    pub(super) fn merges_on_read(&self, word: &str) -> bool {
        let mode = self.property(word, "mode");
        mode.is_some_and(|mode| mode.eq_ignore_ascii_case(MERGE_ON_READ))
    }

    /// Returns the value of the table property `write.<word>.<key>`.
    fn property(&self, word: &str, key: &str) -> Option<String> {
        self.table.properties().remove(&format!("write.{word}.{key}"))
    }

    /// Returns the filters that the optimiser pushed to scans of the target.
    fn filters(&self, plan: &LogicalPlan) -> Vec<Expr> {
        let mut filters = Vec::new();
        let mut stack = vec![plan];
        while let Some(node) = stack.pop() {
            if let LogicalPlan::TableScan(scan) = node
                && self.is_target(scan)
            {
                filters.extend(scan.filters.iter().cloned().map(unnormalize_col));
            }
            stack.extend(node.inputs());
        }
        filters
    }

    fn is_target(&self, scan: &TableScan) -> bool {
        scan.table_name.schema().is_some_and(|schema| schema == self.source())
    }

    /// Returns the internal namespace that the target has in the plan.
    fn source(&self) -> String {
        format!("change {}", self.name.namespace)
    }
}

/// Columns of the target table.
pub(super) struct TargetColumns {
    /// Name or alias of the table in the statement.
    pub label: Ident,
    pub table: TableName,
    pub names: Vec<String>,
    pub schema: SchemaRef,
    /// The defaults that are not null, as expressions, by column name.
    pub defaults: HashMap<String, Expr>,
}

impl TargetColumns {
    /// Returns the default of a column, or null.
    pub(super) fn default(&self, name: &str) -> Expr {
        self.defaults.get(name).cloned().unwrap_or_else(|| lit(ScalarValue::Null))
    }

    /// Returns the indexes of the assigned columns in the table. Fails if a column is assigned
    /// twice.
    pub(super) fn find_all(&self, assigned: &[AssignedColumn]) -> Result<Vec<usize>> {
        let mut found = Vec::with_capacity(assigned.len());
        for one in assigned {
            let place = self.find(one)?;
            if found.contains(&place) {
                return Err(Error::Sql(SqlError::Invalid {
                    message: format!("column `{}` is assigned to twice", self.names[place]),
                    hint: None,
                    position: span_start(one.column.span),
                }));
            }
            found.push(place);
        }
        Ok(found)
    }

    fn find(&self, assigned: &AssignedColumn) -> Result<usize> {
        let AssignedColumn { path, column: written, default: _ } = assigned;
        let at = span_start(written.span);
        let same = |part: &Ident, name: &str| equals_ignoring_case(&part.value, name);
        let named = match path.as_slice() {
            [] => true,
            [table] => same(table, &self.label.value) || same(table, &self.table.name),
            [namespace, table] => {
                same(namespace, &self.table.namespace) && same(table, &self.table.name)
            }
            _ => false,
        };
        if !named {
            return Err(Error::Sql(SqlError::Unsupported {
                what: "assigning to a part of a column".to_owned(),
                hint: Some("Assign the whole column, for example with `named_struct`.".to_owned()),
                position: at,
            }));
        }
        let names = self.names.iter().map(String::as_str);
        let spelling = column(&written.value, names, &[&self.label.value], at)?;
        let place = self.names.iter().position(|name| name == spelling);
        place.ok_or_else(|| Error::Internal {
            message: format!("the assigned column `{spelling}` is not in the target table"),
        })
    }
}

/// Optimized plan of the query that returns the affected rows.
pub(super) struct AffectedRowsPlan {
    pub plan: LogicalPlan,
    /// True if the query reads the target table a second time, for example in a subquery.
    reads_itself: bool,
}

/// Returns the filter of a plan that only scans and filters one table; `None` for other plans.
fn condition(mut plan: &LogicalPlan) -> Option<Expr> {
    loop {
        match plan {
            LogicalPlan::Projection(projection) => plan = &projection.input,
            LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
            _ => break,
        }
    }
    let mut conditions = Vec::new();
    loop {
        match plan {
            LogicalPlan::Filter(filter) => {
                conditions.push(filter.predicate.clone());
                plan = &filter.input;
            }
            LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                conditions.extend(scan.filters.iter().cloned());
                let all = conjunction(conditions.into_iter().map(unnormalize_col));
                return Some(all.unwrap_or_else(|| lit(true)));
            }
            _ => return None,
        }
    }
}
