//! The table that a statement changes, as the statement finds it.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use headwater_lake::Transaction;
use headwater_model::TableName;
use headwater_tables::{DataFile, Positions, ScanPlan, Table, Unseen};

use super::places::Places;
use crate::error::Result;
use crate::planner;
use crate::planning_error::Limits;
use crate::relations::Lookup;
use crate::scan::{LakeTable, can_match, whole_files};
use crate::session::{Run, Session, plan_statement};
use crate::sql::change::TARGET;
use crate::sql::resolve::{FoundTable, resolve};
use crate::sql::statement::Source;
use crate::sql::table_name::WrittenTable;

/// What a table must say of itself to be changed at another isolation level than serializable.
const SNAPSHOT_ISOLATION: &str = "snapshot";

type File = Arc<DataFile>;
type Files = Vec<File>;

/// A table that is being changed.
pub(super) struct Target {
    pub transaction: Transaction,
    pub name: TableName,
    /// The table as the transaction found it.
    pub table: Table,
    /// Its data files.
    pub plan: ScanPlan,
    /// What the query reads it through.
    provider: Arc<LakeTable>,
}

impl Session {
    /// Begins the change of a table of the session's branch.
    pub(super) async fn begin_change(&self, name: &ObjectName) -> Result<Target> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let (table_name, exists) = self.target(name, &view).await?;
        if !exists {
            return Err(self.no_such_table(name, &table_name, &view).await?);
        }
        let table = transaction.table(&table_name).await?;
        let plan = self.engine.lake().tables().plan(&table, None).await?;
        let scans = self.engine.scans().clone();
        let provider = Arc::new(LakeTable::with_places(&table, plan.clone(), scans));
        Ok(Target { transaction, name: table_name, table, plan, provider })
    }

    /// Plans the query that finds the rows that a change concerns.
    pub(super) async fn plan_change(
        &self,
        run: &Run,
        target: &Target,
        source: Source,
    ) -> Result<FoundRows> {
        let Source { mut query, mentions } = source;
        let view = self.view_to_read(&target.transaction);
        let mut lookup = Lookup::new(self, &view);
        lookup.add_all(&mentions).await?;
        let (mut tables, mut sources) = lookup.finish();
        let (written, found) = target.found();
        let reads_itself = tables
            .values()
            .any(|other| (&other.namespace, &other.name) == (&found.namespace, &found.name));
        let key = (found.source.clone(), found.label.clone());
        tables.insert(written, found);
        sources.insert(key, provider_as_source(Arc::clone(&target.provider) as _));
        let state = run.state.clone();
        let limits = run.limits;
        self.compute(move || {
            resolve(&mut query, &tables, &|name| planner::is_scalar(&state, name))?;
            let plan = plan_statement(&state, &sources, Statement::Query(query), limits)?;
            let plan = state.optimize(&plan).map_err(|error| limits.explain(&error))?;
            Ok(FoundRows { plan, reads_itself })
        })
        .await
    }
}

impl Target {
    /// The table as a query finds it.
    fn found(&self) -> (WrittenTable, FoundTable) {
        let written = WrittenTable { namespace: None, name: TARGET.to_owned(), reference: None };
        let schema = self.provider.schema();
        let found = FoundTable {
            source: self.source(),
            namespace: self.name.namespace.clone(),
            label: self.name.name.clone(),
            name: self.name.name.clone(),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
        };
        (written, found)
    }

    /// Files of which a plan concerns every row, by their numbers, found without reading any. They
    /// are left out when the plan is run.
    pub(super) fn settle(
        &self,
        found: &FoundRows,
        state: &SessionState,
        limits: Limits,
    ) -> Result<Vec<usize>> {
        let Some(filter) = condition(&found.plan) else { return Ok(Vec::new()) };
        let schema = self.provider.schema();
        let whole = whole_files(&self.plan, &schema, &filter, state)
            .map_err(|error| limits.explain(&error))?;
        let numbers = (0..whole.len()).filter(|file| whole[*file]).collect();
        self.provider.settle(whole);
        Ok(numbers)
    }

    /// The files that go, and those of them of which rows stay, with the rows that do not.
    pub(super) fn split(
        &self,
        whole: Vec<usize>,
        places: Places,
    ) -> (Files, Vec<(File, Positions)>) {
        let file = |number: usize| Arc::clone(&self.plan.files()[number]);
        let mut removed: Files = whole.into_iter().map(file).collect();
        let mut rest = Vec::new();
        for (number, positions) in places.0 {
            let file = file(number);
            removed.push(Arc::clone(&file));
            if positions.len() < file.rows {
                rest.push((file, positions));
            }
        }
        (removed, rest)
    }

    /// What rows that others add until the commit mean for this change, by the table's isolation
    /// level.
    pub(super) fn unseen(&self, found: &FoundRows, property: &str, run: &Run) -> Option<Unseen> {
        let level = self.table.properties().remove(property);
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

    /// The conditions that the optimiser found for the rows of the table itself.
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

    /// The namespace under which the planner knows the table.
    fn source(&self) -> String {
        format!("change {}", self.name.namespace)
    }
}

/// A plan that finds the rows that a change concerns, optimised so that it shows what the optimiser
/// found out.
pub(super) struct FoundRows {
    pub plan: LogicalPlan,
    /// Whether the query reads the table that it changes a second time.
    reads_itself: bool,
}

/// The condition of a plan that does nothing but filter one table.
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
                return conjunction(conditions.into_iter().map(unnormalize_col));
            }
            _ => return None,
        }
    }
}
