//! SQL views: CREATE VIEW, DROP VIEW, and the expansion of views in queries.
//!
//! A view is read at the commit that the statement reads, or at the ref in its name. Its query
//! refers to tables and views of the lake at that commit; an unqualified name is in the namespace
//! where the view was created. Its columns are fixed at creation. Columns that the query returns in
//! addition are left out, and a missing column is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use headwater_catalog::TableEntry;
use headwater_lake::CommitView;
use headwater_model::{AccessObject, Action, CommitId, DEFAULT_NAMESPACE, TableName};
use headwater_sql::create_view::{CreateViewStatement, renamed};
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::parse::parse;
use headwater_sql::statement::SupportedStatement;
use headwater_sql::table_name::ParsedTableName;
use headwater_sql_resolve::resolve;
use headwater_table_scan::plain_schema;
use headwater_tables::{SqlView, ViewDefinition};

use crate::create_table::{distinct_names, nullable};
use crate::error::{Error, Result, SqlError};
use crate::plan_output;
use crate::planner;
use crate::python_function::functions_below;
use crate::session::{Session, plan_statement};
use crate::statement_result::StatementResult;
use crate::table_lookup::TableLookup;

/// SQL dialect of views that Headwater creates.
pub(crate) const DIALECT: &str = "headwater";

/// Supported dialects, in order of preference.
const DIALECTS: [&str; 2] = [DIALECT, "datafusion"];

/// Maximum nesting depth of views.
const DEPTH_MAX: usize = 16;

/// Maximum number of table references in an expanded view, including its nested views.
const RELATIONS_MAX: usize = 2_000;

/// Views that are being expanded.
#[derive(Debug, Clone, Default)]
pub(crate) struct ViewStack {
    /// The views, each with the commit at which it is read, outermost first.
    pub views: Vec<(CommitId, TableName)>,
    /// True if one of the views is read at another commit than the statement.
    pub is_elsewhere: bool,
}

/// Context in which the names in a view's query are resolved.
struct ViewContext<'s> {
    session: &'s Session,
    view: &'s CommitView,
    namespace: String,
    chain: ViewStack,
}

impl Session {
    /// Runs CREATE VIEW.
    pub(crate) async fn create_view(&self, new: CreateViewStatement) -> Result<StatementResult> {
        let CreateViewStatement { name, or_replace, if_not_exists, columns, mut sql } = new;
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let metrics = self.run().metrics;
        let (name, entry) = self.view_target(&name, &view, &[]).await?;
        // Check the rights on views, even if the name is new or is the name of a table.
        let known = entry.as_ref().filter(|entry| entry.is_view());
        let object = match known {
            Some(entry) => entry.object(&name),
            None => view.new_object(AccessObject::view(&name)).await?,
        };
        self.authorize(Action::Create, &object)?;
        let exists = known.is_some();
        if or_replace && exists {
            self.authorize(Action::Alter, &object)?;
        }
        if let Some(entry) = entry {
            let what = if entry.is_view() { "view" } else { "table" };
            if exists && if_not_exists {
                return plan_output::of_write(0, None, metrics);
            }
            if !exists || !or_replace {
                return Err(Error::AlreadyExists { what, name: name.to_string() });
            }
        }
        let chain = ViewStack { views: vec![(view.commit(), name.clone())], is_elsewhere: false };
        let namespace = self.options.namespace.clone();
        let within = ViewContext { session: self, view: &view, namespace, chain };
        let (_, mut schema, _) = within.plan(&sql).await?;
        if !columns.is_empty() {
            if columns.len() != schema.fields().len() {
                let (listed, given) = (columns.len(), schema.fields().len());
                let message = format!("the view lists {listed} columns, but the query has {given}");
                return Err(Error::invalid(message));
            }
            sql = renamed(&sql, &columns);
            schema = within.plan(&sql).await?.1;
        }
        distinct_names(&schema)?;
        let definition = ViewDefinition {
            schema: nullable(&schema),
            sql,
            dialect: DIALECT.to_owned(),
            namespace: within.namespace.clone(),
            engine: ("headwater".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        };
        transaction.views().create(&name, &definition, exists).await?;
        let verb = if exists { "replace" } else { "create" };
        self.finish_with(transaction, &format!("{verb} view {name}"), 0, &metrics).await
    }

    /// Runs DROP VIEW.
    pub(crate) async fn drop_views(
        &self,
        names: &[ObjectName],
        if_exists: bool,
    ) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let mut dropped = Vec::new();
        for name in names {
            match self.view_target(name, &view, &[Action::Drop]).await? {
                (name, Some(entry)) if entry.is_view() => {
                    transaction.views().drop(&name).await?;
                    dropped.push(name.to_string());
                }
                (_, None) if if_exists => {}
                (name, _) => return Err(view.no_view(&name).await?.into()),
            }
        }
        let metrics = self.run().metrics;
        self.finish_with(transaction, &format!("drop view {}", dropped.join(", ")), 0, &metrics)
            .await
    }
}

impl ViewContext<'_> {
    /// Plans the query of the view. Also returns the schema of its result and the catalog states
    /// that it reads.
    async fn plan(&self, sql: &str) -> Result<(LogicalPlan, SchemaRef, Vec<CommitView>)> {
        let source = match parse(sql)? {
            SupportedStatement::Query(source) => source,
            other => return Err(Error::unsupported(format!("{} in a view", other.name()))),
        };
        let (mut query, mentions) = source.into_parts(&planner::version_constant)?;
        let (namespace, chain) = (self.namespace.clone(), self.chain.clone());
        let mut lookup = TableLookup::within(self.session, self.view, namespace, chain);
        Box::pin(lookup.add_all(&mentions)).await?;
        let held = lookup.pinned_views();
        let (tables, sources) = lookup.finish();
        let run = self.session.run();
        let limits = run.limits;
        let state = self.session.with_functions(&run, &query, self.view, &self.namespace).await?;
        let work = move || {
            let names = resolve(&mut query, &tables, &planner::functions(&state))?;
            let plan = plan_statement(&state, &sources, Statement::Query(query), limits)?;
            check_breadth(&plan)?;
            let schema = plain_schema(plan.schema().as_arrow());
            let schema = plan_output::renamed(&names.of_relation(), &schema);
            Ok((plan, schema))
        };
        let (plan, schema) = self.session.compute(work).await?;
        Ok((plan, schema, held))
    }
}

/// Creates a table provider for a view, with the catalog states that its query reads.
pub(crate) async fn provider(
    session: &Session,
    view: &CommitView,
    (name, entry): (&TableName, &TableEntry),
    chain: &ViewStack,
) -> Result<(Arc<dyn TableProvider>, Vec<CommitView>)> {
    check_chain(chain, (view.commit(), name))?;
    let found = view.load_view(entry).await?;
    let sql = sql_of(name, &found)?;
    let mut chain = chain.clone();
    chain.views.push((view.commit(), name.clone()));
    let namespace = namespace_of(&found)?;
    let within = ViewContext { session, view, namespace, chain };
    let (plan, schema, held) = within.plan(&sql).await.map_err(|error| broken(name, error))?;
    let plan = fixed(name, plan, &schema, &found.schema())?;
    Ok((Arc::new(ViewTable::new(plan, Some(sql))), held))
}

/// Rejects a view whose expansion reads too many tables. The tables of a nested view count once for
/// each reference to the view.
fn check_breadth(plan: &LogicalPlan) -> Result<()> {
    let mut leaves = 0;
    let counted = plan.apply_with_subqueries(|node| {
        leaves += usize::from(node.inputs().is_empty());
        let enough = leaves > RELATIONS_MAX;
        Ok(if enough { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    counted.map_err(|error| Error::Internal { message: error.to_string() })?;
    if leaves <= RELATIONS_MAX {
        return Ok(());
    }
    let message = format!(
        "a view contains more than {RELATIONS_MAX} table references, including those of its views"
    );
    Err(Error::ViewChain { message })
}

fn check_chain(chain: &ViewStack, next: (CommitId, &TableName)) -> Result<()> {
    let names = || {
        let all = chain.views.iter().map(|(_, name)| name).chain([next.1]);
        all.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", which reads ")
    };
    if chain.views.iter().any(|(commit, name)| (*commit, name) == next) {
        return Err(Error::ViewChain { message: format!("a view reads itself: {}", names()) });
    }
    if chain.views.len() >= DEPTH_MAX {
        let message = format!("views are nested more than {DEPTH_MAX} levels deep");
        return Err(Error::ViewChain { message });
    }
    Ok(())
}

/// Returns the view's query in a supported dialect.
fn sql_of(name: &TableName, view: &SqlView) -> Result<String> {
    let all = view.representations();
    let of = |dialect: &&str| all.iter().find(|(known, _)| known.eq_ignore_ascii_case(dialect));
    if let Some((_, sql)) = DIALECTS.iter().find_map(of) {
        return Ok(sql.clone());
    }
    let known: Vec<String> = all.iter().map(|(dialect, _)| format!("`{dialect}`")).collect();
    Err(Error::Sql(SqlError::Unsupported {
        what: format!("view `{name}`, whose query is only in the dialect {},", known.join(" and ")),
        hint: Some(format!("Add a query in the dialect `{DIALECT}`.")),
        position: None,
    }))
}

/// Returns the namespace of unqualified names in a view's query.
fn namespace_of(view: &SqlView) -> Result<String> {
    match view.default_namespace().as_slice() {
        [] => Ok(DEFAULT_NAMESPACE.to_owned()),
        levels => Ok(headwater_model::name::namespace_of(levels)?),
    }
}

/// Wraps an error of a view's query. Positions in the view's text are removed, because they do not
/// apply to the statement.
fn broken(name: &TableName, error: Error) -> Error {
    use headwater_model::ToProblem;
    if matches!(error, Error::ViewChain { .. }) {
        return error;
    }
    let message = match error.position() {
        Some(position) => {
            let text = error.to_string();
            text.strip_suffix(&format!(" ({position})")).unwrap_or(&text).to_owned()
        }
        None => error.to_string(),
    };
    let (code, hint) = (error.code(), error.hint());
    Error::View { view: name.to_string(), message, code, hint }
}

/// Projects the result of a view's query to the columns that the view has had since its creation.
fn fixed(
    name: &TableName,
    plan: LogicalPlan,
    given: &Schema,
    declared: &Schema,
) -> Result<LogicalPlan> {
    let lost = |column: &str, how: &str| {
        let message = format!("the query of the view {how} column `{column}`");
        let code = headwater_model::ErrorCode::ColumnNotFound;
        let hint = "Restore the column, or replace the view with CREATE OR REPLACE VIEW.";
        Error::View { view: name.to_string(), message, code, hint: Some(hint.to_owned()) }
    };
    let mut columns = Vec::with_capacity(declared.fields().len());
    for field in declared.fields() {
        let column = field.name();
        let places = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let all = given.fields().iter().enumerate();
            all.filter(|(_, field)| fits(field.name())).map(|(place, _)| place).collect()
        };
        let mut found = places(&|name| name == column);
        if found.is_empty() {
            found = places(&|name| equals_ignoring_case(name, column));
        }
        let place = match found.as_slice() {
            [place] => *place,
            [] => return Err(lost(column, "no longer returns")),
            _ => return Err(lost(column, "has more than one")),
        };
        let (relation, own) = plan.schema().qualified_field(place);
        let own = Column::new(relation.cloned(), own.name());
        columns.push(Expr::Column(own).alias(column));
    }
    let built = LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build);
    built.map_err(|error| Error::Internal { message: error.to_string() })
}

/// Tables and views that a view depends on.
#[derive(Debug, Default)]
pub struct ViewDependencies {
    /// The tables, views and functions, including the view itself, in the catalog state at which
    /// the view is read.
    pub entries: BTreeMap<TableName, TableEntry>,
    /// True if the view also reads other refs or system tables, whose content does not depend on
    /// this catalog state.
    pub elsewhere: bool,
}

/// Returns the tables and views that a view depends on at one commit.
pub async fn tables_below(view: &CommitView, name: &TableName) -> Result<ViewDependencies> {
    let mut below = ViewDependencies::default();
    let mut waiting = vec![name.clone()];
    while let Some(name) = waiting.pop() {
        let Some(entry) = view.state().entry(&name).await? else { continue };
        let known = below.entries.insert(name.clone(), entry.clone());
        if known.is_some() || !entry.is_view() {
            continue;
        }
        let sql_view = view.load_view(&entry).await?;
        let namespace = namespace_of(&sql_view)?;
        let sql = sql_of(&name, &sql_view)?;
        below.entries.extend(functions_below(view, &namespace, &sql).await?);
        for table in crate::referenced_tables::parents(&sql)? {
            let namespace = table.namespace.unwrap_or_else(|| namespace.clone());
            match view.state().find(&namespace, &table.name).await? {
                Some((name, _)) if table.reference.is_none() => waiting.push(name),
                _ => below.elsewhere = true,
            }
        }
    }
    Ok(below)
}

/// Rejects a snapshot version of a view: views have no snapshots.
pub(crate) fn check_written(written: &ParsedTableName) -> Result<()> {
    match written.snapshot {
        Some(_) => Err(Error::unsupported("a snapshot of a view")),
        None => Ok(()),
    }
}
