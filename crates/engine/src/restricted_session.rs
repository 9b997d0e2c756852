//! Row filters and column masks in sessions: a restricted session reads only visible rows and
//! masked values of a table, and can change the table only by adding rows.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::provider_as_source;
use datafusion::sql::sqlparser::ast::Statement;
use headwater_catalog::TableEntry;
use headwater_lake::CommitView;
use headwater_model::{Action, ErrorCode, Problem, Restriction, Restrictions, TableName};
use headwater_restrictions::{RestrictedTable, RestrictionExpression, SOURCE, columns_used, query};
use headwater_sql::parse::parse;
use headwater_sql_resolve::{ResolvedTable, resolve};
use headwater_table_scan::LakeTable;
use headwater_tables::{ScanPlan, field_id};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::SessionOptions;
use crate::planner::{self, TableSources};
use crate::session::{Session, StatementContext, plan_statement};
use crate::session_rights::SessionRights;

/// Actions that are forbidden on a table with restrictions. INSERT is allowed, because it does not
/// change existing rows.
const CHANGES: [Action; 4] = [Action::Update, Action::Delete, Action::Alter, Action::Drop];

/// A subset of a table's data files.
#[derive(Debug, Clone)]
pub struct TableFileSubset {
    /// The name of the table.
    pub table: TableName,
    /// The table's id.
    pub id: String,
    /// The files to read, as a scan plan.
    pub files: ScanPlan,
}

impl Session {
    /// Returns the restrictions of a table that apply to this session.
    pub(crate) fn restrictions(&self, table: &TableName, id: &str) -> Option<Restrictions> {
        self.options.access.as_ref()?.restrictions(table, Some(id))
    }

    /// Returns a table provider that returns only visible rows and masked values. `id` is the
    /// table's id.
    pub(crate) async fn restricted(
        &self,
        restrictions: Restrictions,
        table: &TableName,
        id: &str,
        all: Arc<LakeTable>,
    ) -> Result<Arc<dyn TableProvider>> {
        let (id, label, run) = (id.to_owned(), table.to_string(), self.run());
        let named = label.clone();
        let planned = self
            .compute(move || plan(&run, &restrictions, &id, NamedLakeTable { label: &named, all }));
        planned.await.map_err(|error| denied(&label, &error.to_string()))
    }

    /// Checks that no row filter or column mask forbids these actions on an existing table. A
    /// session that could change hidden rows would learn their number or values.
    pub(crate) fn check_change(
        &self,
        actions: &[Action],
        table: &TableName,
        entry: &TableEntry,
    ) -> Result<()> {
        let changes = actions.iter().find(|action| CHANGES.contains(action));
        let access = self.options.access.as_ref();
        let restrictions = access.and_then(|access| access.change_restrictions(table, &entry.id));
        match (changes, restrictions) {
            (Some(action), Some(restrictions)) if !entry.is_view() => {
                Err(Error::Problem(change_forbidden(*action, table, &restrictions)))
            }
            _ => Ok(()),
        }
    }

    /// Checks that all row filters and column masks of a table still apply after a rename.
    pub(crate) fn check_rename(&self, table: &TableName, entry: &TableEntry) -> Result<()> {
        let Some(access) = &self.options.access else { return Ok(()) };
        match access.restriction_by_name(table, &entry.id) {
            Some(restriction) => Err(Error::Problem(rename_forbidden(table, &restriction))),
            None => Ok(()),
        }
    }

    /// Registers a name under which statements read only some data files of a table.
    pub async fn register_files(&self, name: &str, files: TableFileSubset) -> Result<()> {
        let TableFileSubset { table, id, files } = files;
        let all = Arc::new(LakeTable::new(files, self.scans()));
        let provider = match self.restrictions(&table, &id) {
            Some(restrictions) => self.restricted(restrictions, &table, &id, all).await?,
            None => all,
        };
        self.registered.write().insert(name.to_owned(), provider);
        Ok(())
    }
}

impl Engine {
    /// Checks a new restriction against its table in one state of the catalog. Returns the
    /// restriction with the table's id, the stored names of table and column, and the field ids of
    /// all columns used.
    pub async fn check_restriction(
        &self,
        view: &CommitView,
        new: Restriction,
    ) -> Result<Restriction> {
        let name = new.table.clone();
        let Some((table, entry)) = view.state().find(&name.namespace, &name.name).await? else {
            return Err(view.not_found(&name).await?.into());
        };
        if entry.is_view() {
            return Err(headwater_lake::Error::IsView { view: table }.into());
        }
        let state = view.load(&entry).await?;
        let files = view.lake().tables().plan(&state, None).await?;
        let all = Arc::new(LakeTable::new(files, self.scans().clone()));
        let expression = RestrictionExpression::parse(&new.using)?;
        let columns = columns_used(&expression, new.column.as_deref(), &columns_of(&all));
        let columns = columns
            .map_err(|column| Error::invalid(format!("`{table}` has no column `{column}`")))?;
        let checked = Restriction { table, table_id: entry.id.clone(), columns, ..new };
        let restrictions = Restrictions { all: vec![checked.clone()], ..Restrictions::default() };
        let session = self.session(SessionOptions::default())?;
        let (run, id) = (session.run(), checked.table_id.clone());
        let label = checked.table.to_string();
        session
            .compute(move || plan(&run, &restrictions, &id, NamedLakeTable { label: &label, all }))
            .await?;
        Ok(checked)
    }
}

/// Returns the error of a change that a restriction forbids.
pub fn change_forbidden(action: Action, table: &TableName, restrictions: &Restrictions) -> Problem {
    let names: Vec<String> = restrictions.all.iter().map(ToString::to_string).collect();
    let user = &restrictions.user;
    let message = format!("user `{user}` may not {action} table `{table}`: {}", names.join(", "));
    Problem::new(ErrorCode::Forbidden, message).with_hint(
        "Use a user without restrictions. This user can only read the table and add rows to it.",
    )
}

/// Returns the error for renaming a table to which a restriction applies by name.
pub fn rename_forbidden(table: &TableName, restriction: &Restriction) -> Problem {
    let message = format!(
        "table `{table}` cannot be renamed: its {restriction} was created for an earlier table of \
         this name"
    );
    let kind = if restriction.column.is_some() { "COLUMN MASK" } else { "ROW FILTER" };
    Problem::new(ErrorCode::Forbidden, message)
        .with_hint(format!("Ask an administrator to run `CREATE OR REPLACE {kind}` first."))
}

/// A table without restrictions, with its name.
struct NamedLakeTable<'a> {
    label: &'a str,
    all: Arc<LakeTable>,
}

/// Plans a query that returns the visible rows of a table, with masked values.
fn plan(
    run: &StatementContext,
    restrictions: &Restrictions,
    id: &str,
    table: NamedLakeTable<'_>,
) -> Result<Arc<dyn TableProvider>> {
    let NamedLakeTable { label, all } = table;
    let columns = columns_of(&all);
    let visible = query(restrictions, id, &columns).map_err(Error::invalid)?;
    let source = parse(&visible.sql)?.into_query()?;
    let (mut query, mentions) = source.into_parts(&planner::version_constant)?;
    let found = ResolvedTable {
        source: SOURCE.to_owned(),
        namespace: SOURCE.to_owned(),
        label: SOURCE.to_owned(),
        name: SOURCE.to_owned(),
        columns: columns.into_iter().map(|(name, _)| name).collect(),
        hidden: Vec::new(),
    };
    let written = mentions.into_iter().map(|mention| mention.table);
    let tables: HashMap<_, _> = written.map(|table| (table, found.clone())).collect();
    let schema = all.schema();
    let key = (SOURCE.to_owned(), SOURCE.to_owned());
    let sources = TableSources::from([(key, provider_as_source(all))]);
    resolve(&mut query, &tables, &planner::functions(&run.state))?;
    let plan = plan_statement(&run.state, &sources, Statement::Query(query), run.limits)?;
    let table = RestrictedTable::new(&schema, &visible.masked, plan, label, conceal);
    Ok(Arc::new(table.map_err(|error| run.limits.explain(&error))?))
}

fn columns_of(table: &LakeTable) -> Vec<(String, Option<i32>)> {
    let schema = table.schema();
    let columns = schema.fields().iter();
    columns.map(|field| (field.name().clone(), field_id(field))).collect()
}

/// Returns the error of a table whose restrictions cannot be applied.
fn denied(table: &str, reason: &str) -> Error {
    let message = format!("`{table}` cannot be read: {reason}");
    let hint = "Ask an administrator to replace the row filter or column mask.";
    Error::Problem(Problem::new(ErrorCode::Forbidden, message).with_hint(hint))
}

/// Replaces an error whose message may contain hidden values of a restricted table. Storage errors
/// and exceeded limits are returned unchanged.
fn conceal(table: &str, error: DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)
        | DataFusionError::ParquetError(_)
        | DataFusionError::ExecutionJoin(_) => return error,
        DataFusionError::External(inner) if inner.is::<headwater_tables::Error>() => return error,
        _ => {}
    }
    tracing::warn!(table, %error, "a row filter or column mask failed");
    let reason = "a row filter or column mask failed for one of its rows";
    match denied(table, reason) {
        Error::Problem(problem) => DataFusionError::External(Box::new(problem)),
        other => DataFusionError::External(Box::new(other)),
    }
}

/// Returns the tables to which row filters or column masks apply in the catalog states `views`, by
/// name.
pub async fn restricted_tables(
    access: &dyn SessionRights,
    views: &[CommitView],
) -> Result<BTreeSet<TableName>> {
    let mut found = BTreeSet::new();
    for view in views {
        let entries = view.state().entries(None).await?.into_iter();
        let restricted = entries.filter(|(name, entry)| {
            !entry.is_view() && access.restrictions(name, Some(&entry.id)).is_some()
        });
        found.extend(restricted.map(|(name, _)| name));
    }
    Ok(found)
}
