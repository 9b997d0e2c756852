//! Finds the tables that a statement refers to: rows registered in the session, system tables, and
//! tables and views of the lake at the session's ref or at the ref in the name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::sql::sqlparser::ast::Query;
use headwater_catalog::Error::NoCommitBefore;
use headwater_catalog::TableEntry;
use headwater_lake::CommitView;
use headwater_model::name::quoted;
use headwater_model::{AccessObject, Action, RefSpec, SYSTEM_NAMESPACE, TableName, nearest};
use headwater_sql::name_match::{NameMatch, equals_ignoring_case, find};
use headwater_sql::table_name::{ParsedTableName, RefKind};
use headwater_sql::table_references::ReferencedTable;
use headwater_sql_resolve::ResolvedTable;
use headwater_table_scan::{LakeTable, slices, view_schema, viewed};
use headwater_tables::LINEAGE;

use crate::error::{Error, Position, Result, SqlError};
use crate::planner::TableSources;
use crate::session::Session;
use crate::session_rights::{check_ref, name_as_written};
use crate::statement_result::RecordBatches;
use crate::view::{self, ViewStack};

/// Minimum table format version with row lineage.
const VERSION_OF_LINEAGE: u8 = 3;

/// Lookup of the tables of one statement, with the tables found so far.
pub(crate) struct TableLookup<'s> {
    session: &'s Session,
    view: &'s CommitView,
    views: HashMap<RefSpec, CommitView>,
    tables: HashMap<ParsedTableName, ResolvedTable>,
    sources: TableSources,
    lake_only: bool,
    /// If true, tables show their row lineage columns.
    lineage: bool,
    /// If true, the statement writes to the tables it looks up, so a view is an error.
    writes: bool,
    /// Namespace of unqualified names.
    namespace: String,
    /// The views that are being expanded.
    chain: ViewStack,
    /// Catalog states that the queries of the found views read.
    below: Vec<CommitView>,
}

/// A table to which a name refers.
struct LocatedTable {
    namespace: String,
    name: String,
    /// Number of columns at the end that `*` does not include.
    hidden: usize,
    provider: Arc<dyn TableProvider>,
}

impl<'s> TableLookup<'s> {
    /// Returns the catalog states that the statement reads. Garbage collection must keep their
    /// files while the statement runs.
    pub(crate) fn pinned_views(&self) -> Vec<CommitView> {
        self.views.values().chain([self.view]).chain(&self.below).cloned().collect()
    }

    /// Creates a lookup at a catalog state.
    pub(crate) fn new(session: &'s Session, view: &'s CommitView) -> Self {
        TableLookup {
            session,
            view,
            views: HashMap::new(),
            tables: HashMap::new(),
            sources: TableSources::new(),
            lake_only: false,
            lineage: false,
            writes: false,
            namespace: session.options.namespace.clone(),
            chain: ViewStack::default(),
            below: Vec::new(),
        }
    }

    /// Creates a lookup of the tables that a statement writes. The lookup ignores rows that are
    /// registered in the session under a name.
    pub(crate) fn of_lake(session: &'s Session, view: &'s CommitView) -> Self {
        TableLookup { lake_only: true, writes: true, ..TableLookup::new(session, view) }
    }

    /// Creates a lookup of the tables that a view's query reads. The lookup ignores rows that are
    /// registered in the session under a name.
    pub(crate) fn within(
        session: &'s Session,
        view: &'s CommitView,
        namespace: String,
        chain: ViewStack,
    ) -> Self {
        TableLookup { lake_only: true, namespace, chain, ..TableLookup::new(session, view) }
    }

    /// Enables the row lineage columns of the tables if the query uses one of these columns.
    pub(crate) fn for_query(mut self, query: &Query) -> Self {
        let text = query.to_string().to_ascii_lowercase();
        // A natural join would also join on the lineage columns, so these columns stay disabled for
        // such a query.
        self.lineage =
            LINEAGE.iter().any(|column| text.contains(column)) && !text.contains("natural");
        self
    }

    /// Returns the found tables: names and columns for name resolution, and table sources for the
    /// planner.
    pub(crate) fn finish(self) -> (HashMap<ParsedTableName, ResolvedTable>, TableSources) {
        (self.tables, self.sources)
    }

    /// Looks up every table of a query.
    pub(crate) async fn add_all(&mut self, mentions: &[ReferencedTable]) -> Result<()> {
        for mention in mentions {
            self.add(mention).await?;
        }
        Ok(())
    }

    /// Looks up one table.
    pub(crate) async fn add(&mut self, mention: &ReferencedTable) -> Result<()> {
        let written = &mention.table;
        if let Some(expected) = mention.expected {
            self.check_kind(written, expected).await?;
        }
        if self.tables.contains_key(written) {
            return Ok(());
        }
        let found = self.find(written, mention.position).await?;
        let label = written.labelled(&found.name);
        let schema = found.provider.schema();
        let mut columns: Vec<String> =
            schema.fields().iter().map(|field| field.name().clone()).collect();
        let hidden = columns.split_off(columns.len() - found.hidden);
        let source = self.source(&found.namespace);
        let key = (source.clone(), label.clone());
        self.sources.insert(key, provider_as_source(Arc::clone(&found.provider)));
        let LocatedTable { namespace, name, .. } = found;
        let found = ResolvedTable { source, namespace, label, name, columns, hidden };
        self.tables.insert(written.clone(), found);
        Ok(())
    }

    /// Returns the namespace that a table has in the plan. DataFusion compares scans only by name,
    /// and evaluates equal scalar subqueries once. Therefore, the names of tables in two catalog
    /// states differ in the plan.
    fn source(&self, namespace: &str) -> String {
        if self.chain.is_elsewhere {
            format!("{namespace}@{}", self.view.commit())
        } else {
            namespace.to_owned()
        }
    }

    async fn find(
        &mut self,
        written: &ParsedTableName,
        at: Option<Position>,
    ) -> Result<LocatedTable> {
        let default = self.namespace.clone();
        let namespace = written.namespace.clone().unwrap_or_else(|| default.clone());
        if equals_ignoring_case(&namespace, SYSTEM_NAMESPACE) {
            return self.system(written, at).await;
        }
        let (name, in_default) = (&written.name, namespace == default);
        // Rows are registered under the table name alone if they are in the session's default
        // namespace, otherwise under the namespace and the table name.
        let key = if in_default { name.clone() } else { format!("{namespace}.{name}") };
        let local = |exact: bool| {
            let fits = written.is_here() && !self.lake_only;
            fits.then(|| self.session.registered(&key, exact)).flatten()
        };
        if let Some(found) = local(true) {
            return Ok(found.at(namespace));
        }
        let without_case = local(false);
        let view = self.view_of(written).await?;
        let found = view.state().find(&namespace, &written.name).await?;
        if found.as_ref().is_none_or(|(name, _)| name.name == written.name)
            || without_case.is_none()
        {
            self.authorize(written, found.as_ref())?;
        }
        match found {
            Some((name, _)) if name.name != written.name && without_case.is_some() => {
                without_case.map(|found| found.at(namespace)).ok_or_else(|| unreachable(written))
            }
            Some((name, entry)) if entry.is_view() => {
                self.sql_view(written, &view, name, &entry).await
            }
            Some((name, entry)) => {
                let table = view.load(&entry).await?;
                let plan = view.lake().tables().plan(&table, written.snapshot).await?;
                let scans = self.session.scans();
                let restrictions = self.session.restrictions(&name, &entry.id);
                if let Some(restrictions) = restrictions.filter(|_| !self.writes) {
                    // The columns of row lineage are left out, because row ids would reveal the
                    // number of hidden rows.
                    let all = Arc::new(LakeTable::new(plan, scans));
                    let visible = self.session.restricted(restrictions, &name, &entry.id, all);
                    let provider = visible.await?;
                    return Ok(LocatedTable {
                        namespace: name.namespace,
                        name: name.name,
                        hidden: 0,
                        provider,
                    });
                }
                let lineage = self.lineage && table.format_version() >= VERSION_OF_LINEAGE;
                let (provider, hidden) = if lineage {
                    (LakeTable::with_lineage(plan, scans), LINEAGE.len())
                } else {
                    (LakeTable::new(plan, scans), 0)
                };
                let TableName { namespace, name } = name;
                Ok(LocatedTable { namespace, name, hidden, provider: Arc::new(provider) })
            }
            None => match without_case {
                Some(found) => Ok(found.at(namespace)),
                None => Err(self.missing(written, &namespace, &view, at).await?),
            },
        }
    }

    /// Checks that the session may read or write a table or view. A name that does not exist is
    /// checked as a table.
    fn authorize(
        &self,
        written: &ParsedTableName,
        found: Option<&(TableName, TableEntry)>,
    ) -> Result<()> {
        let action = if self.writes { Action::Insert } else { Action::Select };
        let as_written = name_as_written(written, &self.namespace);
        match found {
            // A write to a view fails later, with an error that names the kind of the object.
            Some((name, entry)) if entry.is_view() && self.writes => {
                self.session.authorize_found(action, &AccessObject::table(name), &as_written)
            }
            Some((name, entry)) => {
                self.session.authorize_found(action, &entry.object(name), &as_written)
            }
            None => self.session.authorize(action, &AccessObject::table(&as_written)),
        }
    }

    /// Plans the query of a view, and returns the view as a table.
    async fn sql_view(
        &mut self,
        written: &ParsedTableName,
        at: &CommitView,
        name: TableName,
        entry: &TableEntry,
    ) -> Result<LocatedTable> {
        if self.writes {
            return Err(headwater_lake::Error::IsView { view: name }.into());
        }
        view::check_written(written)?;
        let is_elsewhere = self.chain.is_elsewhere || at.commit() != self.view.commit();
        let chain = ViewStack { is_elsewhere, ..self.chain.clone() };
        let reads = Box::pin(view::provider(self.session, at, (&name, entry), &chain));
        let (provider, held) = reads.await?;
        self.below.extend(held);
        Ok(LocatedTable { namespace: name.namespace, name: name.name, hidden: 0, provider })
    }

    async fn view_of(&mut self, written: &ParsedTableName) -> Result<CommitView> {
        let reference = match (&written.reference, &written.back) {
            (None, None) => return Ok(self.view.clone()),
            (Some(reference), _) => reference.clone(),
            (None, Some(back)) => {
                let here = RefSpec::Commit(self.view.commit().to_string());
                RefSpec::Before { of: Box::new(here), back: back.clone() }
            }
        };
        let view = if let Some(view) = self.views.get(&reference) {
            view.clone()
        } else {
            let lake = self.session.engine.lake();
            if let (Some(_), Some(access)) = (&written.reference, &self.session.options.access) {
                check_ref(lake, access.as_ref(), &reference).await.map_err(Error::Problem)?;
            }
            let view = lake.view(&reference).await;
            self.as_written(written, view)?
        };
        self.views.insert(reference, view.clone());
        Ok(view)
    }

    /// Rejects a name with a ref that is not of the kind that the statement requires, such as a tag
    /// in AT BRANCH.
    async fn check_kind(&mut self, written: &ParsedTableName, expected: RefKind) -> Result<()> {
        let view = self.view_of(written).await?;
        let is = if view.branch().is_some() { RefKind::Branch } else { RefKind::Tag };
        if expected == is {
            return Ok(());
        }
        let name = if expected == RefKind::Branch { "branch" } else { "tag" };
        let reference = written.reference.as_ref().map(ToString::to_string).unwrap_or_default();
        Err(Error::Sql(SqlError::Invalid {
            message: format!("`{reference}` is not a {name}"),
            hint: Some("Write AT REF, which takes a branch or a tag.".to_owned()),
            position: None,
        }))
    }

    /// Replaces the commit id, to which a name such as `t~1` was resolved, by the ref that the user
    /// wrote. The id is in the catalog state or in the error.
    fn as_written(
        &self,
        written: &ParsedTableName,
        view: headwater_lake::Result<CommitView>,
    ) -> Result<CommitView> {
        let (None, Some(back)) = (&written.reference, &written.back) else { return Ok(view?) };
        let here = self.view.spec();
        match view {
            Ok(view) => {
                let of = Box::new(here.clone());
                Ok(view.with_ref(RefSpec::Before { of, back: back.clone() }))
            }
            Err(headwater_lake::Error::Catalog(error)) => Err(match *error {
                NoCommitBefore { back, .. } => {
                    NoCommitBefore { reference: here.to_string(), back }.into()
                }
                other => other.into(),
            }),
            Err(other) => Err(other.into()),
        }
    }

    async fn system(
        &mut self,
        written: &ParsedTableName,
        at: Option<Position>,
    ) -> Result<LocatedTable> {
        let tables = self.session.engine.system_tables();
        let names = tables.iter().map(|table| table.name());
        let position = match find(&written.name, names.clone()) {
            NameMatch::One(name) => tables.iter().position(|table| table.name() == name),
            NameMatch::None | NameMatch::Many(_) => None,
        };
        let Some(table) = position.map(|index| Arc::clone(&tables[index])) else {
            let near = nearest(&written.name, names.clone());
            return Err(Error::SystemTableNotFound {
                table: written.name.clone(),
                near: near.map(|near| format!("{SYSTEM_NAMESPACE}.{near}")),
                known: names.map(str::to_owned).collect(),
                position: at,
            });
        };
        if !table.filters_by_permission() {
            self.session.authorize(table.action(), &AccessObject::lake())?;
        }
        if written.snapshot.is_some() {
            return Err(Error::unsupported("a snapshot of a system table"));
        }
        let view = self.view_of(written).await?;
        let access = self.session.options.access.as_deref();
        let batches = table.visible_batches(&view, access).await?;
        let batches = RecordBatches { schema: table.schema(), batches };
        let provider = registered(&batches, 1)
            .map_err(|error| self.session.engine.limits(None).explain(&error))?;
        let (namespace, name) = (SYSTEM_NAMESPACE.to_owned(), table.name().to_owned());
        Ok(LocatedTable { namespace, name, hidden: 0, provider })
    }

    /// Creates the error for a missing table, with the most similar name.
    async fn missing(
        &self,
        written: &ParsedTableName,
        namespace: &str,
        view: &CommitView,
        at: Option<Position>,
    ) -> Result<Error> {
        let reference = view.spec().to_string();
        let namespaces = view.namespaces().await?;
        if !namespaces.iter().any(|known| equals_ignoring_case(&known.name, namespace)) {
            let names = namespaces.iter().map(|known| known.name.as_str());
            return Ok(Error::NamespaceNotFound {
                namespace: namespace.to_owned(),
                near: nearest(namespace, names).filter(|_| self.session.suggests()),
                reference,
                position: at,
            });
        }
        let tables = view.state().entries(None).await?;
        let wanted = written.name.as_str();
        let here =
            tables.iter().filter(|(name, _)| equals_ignoring_case(&name.namespace, namespace));
        let mut names: Vec<String> = here.map(|(name, _)| name.name.clone()).collect();
        names.extend(self.session.registered.read().keys().cloned());
        // The user must be able to copy the suggestion to the statement, so it is unqualified only
        // in the default namespace.
        let default = &self.namespace;
        let spelled = |namespace: &str, name: &str| {
            if equals_ignoring_case(namespace, default) {
                quoted(name)
            } else {
                quoted(&format!("{namespace}.{name}"))
            }
        };
        let elsewhere = || {
            let same = tables.iter().find(|(name, _)| equals_ignoring_case(&name.name, wanted));
            same.map(|(name, _)| spelled(&name.namespace, &name.name))
        };
        let near = nearest(wanted, names.iter().map(String::as_str));
        Ok(Error::TableNotFound {
            table: written.to_string(),
            near: near
                .map(|near| spelled(namespace, &near))
                .or_else(elsewhere)
                .filter(|_| self.session.suggests()),
            reference,
            position: at,
        })
    }
}

/// Rows registered in the session under a name.
struct RegisteredRows {
    name: String,
    provider: Arc<dyn TableProvider>,
}

impl RegisteredRows {
    fn at(self, namespace: String) -> LocatedTable {
        let name = self.name.rsplit_once('.').map(|(_, name)| name.to_owned()).unwrap_or(self.name);
        LocatedTable { namespace, name, hidden: 0, provider: self.provider }
    }
}

impl Session {
    /// Returns the rows that the session has registered under a name. Unless `exact` is true, also
    /// finds a name that differs only in case.
    fn registered(&self, written: &str, exact: bool) -> Option<RegisteredRows> {
        let registered = self.registered.read();
        let name = match find(written, registered.keys().map(String::as_str)) {
            NameMatch::One(name) if name == written || !exact => name.to_owned(),
            _ => return None,
        };
        let provider = Arc::clone(registered.get(&name)?);
        Some(RegisteredRows { name, provider })
    }
}

fn unreachable(written: &ParsedTableName) -> Error {
    Error::Internal { message: format!("table `{written}` was resolved, but not registered") }
}

/// Creates an in-memory table with several partitions and view types for strings.
pub(crate) fn registered(
    batches: &RecordBatches,
    partitions: usize,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let schema = view_schema(&batches.schema);
    let mut parts: Vec<Vec<RecordBatch>> = vec![Vec::new(); partitions.max(1)];
    let mut count = 0;
    for batch in &batches.batches {
        for piece in slices(&viewed(batch, &schema)?) {
            let part = count % parts.len();
            parts[part].push(piece);
            count += 1;
        }
    }
    parts.truncate(count.max(1));
    Ok(Arc::new(MemTable::try_new(schema, parts)?))
}
