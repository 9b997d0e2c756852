//! Row filters and column masks: list, create, drop; administrators only. Also contains checks for
//! operations outside SQL that would show hidden rows or values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_access::TableRestrictions;
use headwater_engine::{change_forbidden, restricted_tables};
use headwater_executors::table_access;
use headwater_lake::CommitView;
use headwater_model::{
    Action, CreateRestriction, Principal, Problem, RefSpec, Restriction, ResultExt, Table,
    TableName, Timestamp,
};
use headwater_pipelines::reading;

use crate::service::Components;

/// Operations on row filters and column masks.
#[derive(Clone)]
pub struct RestrictionOperations(pub(crate) Arc<Components>);

impl RestrictionOperations {
    /// Lists row filters and column masks by name.
    pub fn list(&self, principal: &Principal) -> Result<Vec<Restriction>, Problem> {
        self.0.administer(principal)?;
        Ok(self.0.restrictions().list())
    }

    /// Creates or replaces a row filter or column mask, which applies immediately, at every ref.
    ///
    /// Errors: the expression cannot be applied to the table at the ref.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateRestriction,
    ) -> Result<Restriction, Problem> {
        self.0.administer(principal)?;
        let CreateRestriction { name, table, column, using, to, replace, reference } = request;
        let new = Restriction {
            name,
            table,
            table_id: String::new(),
            column,
            using,
            columns: BTreeMap::new(),
            to,
            created: Timestamp::UNIX_EPOCH,
            by: String::new(),
        };
        let reference = reference.unwrap_or_else(RefSpec::main);
        let view = self.0.lake.view(&reference).await.or_problem()?;
        let checked = Box::pin(self.0.engine.check_restriction(&view, new)).await.or_problem()?;
        self.0.restrictions().set(principal, checked, replace).await.or_problem()
    }

    /// Drops a row filter or column mask.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.administer(principal)?;
        let known = self.0.restrictions().list().into_iter().find(|known| known.name == name);
        let is_mask = known.is_some_and(|known| known.column.is_some());
        self.0.restrictions().drop(principal, name, is_mask).await.or_problem()
    }
}

/// A table at a ref.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableAtRef<'a> {
    pub(crate) reference: &'a RefSpec,
    pub(crate) table: &'a TableName,
}

impl Components {
    /// Returns the row filters and column masks of the lake.
    pub(crate) fn restrictions(&self) -> TableRestrictions {
        TableRestrictions::new(&self.access)
    }

    /// Returns true if a row filter or column mask of a table applies to a principal.
    pub(crate) fn is_restricted(&self, principal: &Principal, table: &TableName, id: &str) -> bool {
        self.restrictions().on(principal, table, Some(id)).is_some()
    }

    /// Checks that no row filter or column mask of a table applies to a principal.
    ///
    /// Errors: `forbidden`, with the names of the restrictions.
    pub(crate) fn check_unrestricted(
        &self,
        principal: &Principal,
        action: Action,
        table: &TableName,
        id: Option<&str>,
    ) -> Result<(), Problem> {
        match self.restrictions().on(principal, table, id) {
            None => Ok(()),
            Some(restrictions) => Err(change_forbidden(action, table, &restrictions)),
        }
    }

    /// Like [`Components::check_unrestricted`], for a table at a ref. The name of a missing table
    /// is checked case-insensitively.
    pub(crate) async fn check_unrestricted_at(
        &self,
        principal: &Principal,
        action: Action,
        at: TableAtRef<'_>,
    ) -> Result<(), Problem> {
        if self.restrictions().digest(principal).is_none() {
            return Ok(());
        }
        let TableAtRef { reference, table } = at;
        let view = self.view_for(principal, reference).await?;
        let found = view.state().find(&table.namespace, &table.name).await.or_problem()?;
        let (name, id) = match &found {
            Some((_, entry)) if entry.is_view() => return Ok(()),
            Some((name, entry)) => (name, Some(entry.id.as_str())),
            None => (table, None),
        };
        let forbidden = self.check_unrestricted(principal, action, name, id);
        forbidden.map_err(|mut problem| {
            // Write the name as in the request: the error must not reveal the stored spelling.
            problem.message = problem.message.replace(&format!("`{name}`"), &format!("`{table}`"));
            problem
        })
    }

    /// Returns the tables at these refs in which a row filter or column mask applies to a
    /// principal.
    pub(crate) async fn restricted_at(
        &self,
        principal: &Principal,
        references: impl IntoIterator<Item = RefSpec>,
    ) -> Result<BTreeSet<TableName>, Problem> {
        let Some(access) = table_access(&self.access, principal, None) else {
            return Ok(BTreeSet::new());
        };
        if access.restriction_digest().is_none() {
            return Ok(BTreeSet::new());
        }
        let mut views: Vec<CommitView> = Vec::new();
        for reference in references {
            views.push(self.lake.view(&reference).await.or_problem()?);
        }
        restricted_tables(access.as_ref(), &views).await.or_problem()
    }

    /// Returns true if a principal may read all rows of a table, or the code if `table` is a
    /// function. `readable` contains tables that the principal may read by a grant or as their
    /// owner. `restricted` contains the tables in which the principal may not read all rows.
    pub(crate) fn reads_all(
        &self,
        principal: &Principal,
        readable: &BTreeSet<TableName>,
        restricted: &BTreeSet<TableName>,
        table: &TableName,
    ) -> bool {
        let is_function = table.function().is_some();
        let (action, object) = reading(table, is_function);
        let reads = readable.contains(table) || self.allows(principal, action, &object);
        if is_function {
            return reads;
        }
        reads
            && !restricted.contains(table)
            && self.restrictions().on(principal, table, None).is_none()
    }

    /// Removes values that depend on hidden rows from a table's description, if a row filter or
    /// column mask applies to the principal.
    pub(crate) fn visible_table(&self, principal: &Principal, table: Table) -> Table {
        if !self.is_restricted(principal, &table.name, &table.id) {
            return table;
        }
        Table {
            rows: 0,
            files: 0,
            bytes: 0,
            snapshot: None,
            metadata_location: String::new(),
            restricted: true,
            maintenance: None,
            ..table
        }
    }
}
