//! Tables of the Iceberg REST catalog: lists, loads, creates, registers, drops and renames them.
//! The file `commit.rs` has the commits of changes to existing tables.

use std::collections::BTreeMap;

use futures::FutureExt;
use headwater_engine::rename_forbidden;
use headwater_lake::{CommitView, Lake};
use headwater_model::{
    AccessObject, Action, ErrorCode, Principal, Problem, RefSpec, ResultExt, TableName, ToProblem,
};
use headwater_table_rest::RestTables;
use headwater_tables::Table;
use serde_json::Value;

use super::{ChangeError, ChangeRequest, ChangeResult, Iceberg, NewTable};
use crate::restriction::TableAtRef;

/// The state of a table with its largest column id, as a client loads it.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    table: Table,
    last_column_id: i32,
}

/// A request to register a table from an existing metadata file.
#[derive(Debug, Clone)]
pub struct RegisterTableRequest {
    /// Location of the metadata file in the warehouse.
    pub location: String,
    /// True to replace an existing table.
    pub overwrite: bool,
}

impl LoadedTable {
    async fn load(lake: &Lake, table: Table) -> Result<Self, Problem> {
        let last_column_id = lake.last_column_id(&table).await.or_problem()?;
        Ok(LoadedTable { table, last_column_id })
    }

    /// Returns the loaded table after a commit. Ignores an error while reading the largest column
    /// id, because the commit has succeeded.
    pub(super) async fn after_commit(lake: &Lake, table: Table) -> Self {
        let known = lake.last_column_id(&table).await;
        let last_column_id = known.unwrap_or(table.last_column_id());
        LoadedTable { table, last_column_id }
    }

    /// Returns the location of the metadata file. The file is immutable.
    pub fn metadata_location(&self) -> &str {
        self.table.metadata_location()
    }

    /// Returns the largest column id that the table has in any branch.
    pub fn last_column_id(&self) -> i32 {
        self.last_column_id
    }

    /// Returns the table's metadata, with all snapshots, or only those with an Iceberg ref.
    pub fn metadata_json(&self, only_named: bool) -> Result<Value, Problem> {
        self.table.metadata_json(only_named, Some(self.last_column_id)).or_problem()
    }

    /// Returns the table's state.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

impl Iceberg {
    /// Lists the names of a namespace's tables.
    pub async fn list_tables(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        namespace: &str,
    ) -> Result<Vec<String>, Problem> {
        let view = self.0.view_for(principal, reference).await?;
        self.0.entry_rights(principal).check_namespace(&view, namespace).await?;
        let mut tables = view.list(Some(namespace)).await.or_problem()?;
        tables
            .retain(|(name, entry)| self.0.allows(principal, Action::Select, &entry.object(name)));
        Ok(tables.into_iter().map(|(name, _)| name.name).collect())
    }

    /// Loads a table.
    pub async fn load_table(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<LoadedTable, Problem> {
        let (_pinned, _, location) = self.readable_table(principal, reference, name).await?;
        let table = self.0.lake.tables().load(&location).await.or_problem()?;
        LoadedTable::load(&self.0.lake, table).await
    }

    /// Returns the id of a table.
    pub async fn table_id(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<String, Problem> {
        let (_, id, _) = self.readable_table(principal, reference, name).await?;
        Ok(id)
    }

    /// Returns the state of a ref, and the id and the metadata file of a table there. Checks that
    /// the principal may read the table.
    async fn readable_table(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<(CommitView, String, String), Problem> {
        let object = AccessObject::table(name);
        let stored = self.0.authorize_at(principal, reference, [Action::Select], object).await?;
        let view = self.0.view_for(principal, reference).await?;
        stored.check_same(&view).await?;
        let Some(entry) = view.state().table(name).await.or_problem()? else {
            return Err(not_found(&view, name).await);
        };
        self.0.check_unrestricted(principal, Action::Select, name, Some(&entry.id))?;
        Ok((view, entry.id, entry.metadata_location))
    }

    /// Creates a table. Returns `None` if an earlier attempt of the request created it.
    pub async fn create_table(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &TableName,
        new: NewTable,
    ) -> ChangeResult<LoadedTable> {
        let (create, object) = ([Action::Create], AccessObject::table(name));
        self.0.authorize_at(principal, &request.reference, create, object).await?;
        let created = name.clone();
        let description = format!("create table {name}");
        let states = self.change_tables(principal, request, description, |transaction| {
            async move {
                transaction.iceberg_rest().create_new(&created, new).await.or_problem()?;
                Ok(BTreeMap::new())
            }
            .boxed()
        });
        let states = states.await;
        let states = states.map_err(|error| already_exists(error, name))?;
        self.loaded(principal, request, states, name).await
    }

    /// Returns the description of a table that a later commit will create.
    pub async fn stage_table(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
        new: NewTable,
    ) -> Result<Value, Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::reference(reference))?;
        let object = AccessObject::table(name);
        self.0.authorize_at(principal, reference, [Action::Create], object).await?;
        self.0.branch_to_write(Some(reference)).await?;
        let view = self.0.view_for(principal, reference).await?;
        view.check_namespace(&name.namespace).await.or_problem()?;
        if view.state().entry(name).await.or_problem()?.is_some() {
            return Err(exists(name));
        }
        RestTables::new(self.0.lake.tables()).describe_new(name, new).await.or_problem()
    }

    /// Creates a table from a metadata file in the warehouse. The metadata may refer to any file of
    /// the warehouse, so the principal needs all rights.
    pub async fn register_table(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &TableName,
        source: RegisterTableRequest,
    ) -> ChangeResult<LoadedTable> {
        self.0.administer(principal)?;
        let registered = name.clone();
        let description = format!("register table {name}");
        let states = self.change_tables(principal, request, description, move |transaction| {
            async move {
                let RegisterTableRequest { location, overwrite } = source;
                transaction
                    .iceberg_rest()
                    .register(&registered, &location, overwrite)
                    .await
                    .or_problem()?;
                Ok(BTreeMap::new())
            }
            .boxed()
        });
        let states = states.await?;
        self.loaded(principal, request, states, name).await
    }

    /// Drops a table from the branch. Other branches and commits that contain it keep its files.
    pub async fn drop_table(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &TableName,
    ) -> ChangeResult<()> {
        let (drop_it, object) = ([Action::Drop], AccessObject::table(name));
        let stored = self.0.authorize_at(principal, &request.reference, drop_it, object).await?;
        let at = TableAtRef { reference: &request.reference, table: name };
        self.0.check_unrestricted_at(principal, Action::Drop, at).await?;
        let dropped = name.clone();
        self.change(principal, request, format!("drop table {name}"), move |transaction| {
            async move {
                check_table(transaction.view(), &dropped).await?;
                stored.check_same(transaction.view()).await?;
                transaction.iceberg_rest().drop_named(&dropped).await.or_problem()
            }
            .boxed()
        })
        .await
        .map(drop)
    }

    /// Renames a table.
    pub async fn rename_table(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        from: TableName,
        to: TableName,
    ) -> ChangeResult<()> {
        let (rename, object) = ([Action::Select, Action::Alter], AccessObject::table(&from));
        let stored = self.0.authorize_at(principal, &request.reference, rename, object).await?;
        let (create, object) = ([Action::Create], AccessObject::table(&to));
        self.0.authorize_at(principal, &request.reference, create, object).await?;
        let at = TableAtRef { reference: &request.reference, table: &from };
        self.0.check_unrestricted_at(principal, Action::Alter, at).await?;
        let description = format!("rename table {from} to {to}");
        let restrictions = self.0.restrictions();
        self.change(principal, request, description, move |transaction| {
            async move {
                let id = check_table(transaction.view(), &from).await?;
                stored.check_same(transaction.view()).await?;
                if let Some(restriction) = restrictions.lost_by_rename(&from, &id) {
                    return Err(rename_forbidden(&from, &restriction));
                }
                transaction.rename(&from, &to).await.or_problem()
            }
            .boxed()
        })
        .await
        .map(drop)
    }

    /// Returns the table that a request created. If an earlier attempt created it, returns its
    /// current state.
    async fn loaded(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        states: Option<BTreeMap<TableName, Table>>,
        name: &TableName,
    ) -> ChangeResult<LoadedTable> {
        match states.and_then(|mut states| states.remove(name)) {
            Some(table) => Ok(LoadedTable::after_commit(&self.0.lake, table).await),
            None => Ok(self.load_table(principal, &request.reference, name).await?),
        }
    }
}

async fn check_table(view: &CommitView, name: &TableName) -> Result<String, Problem> {
    match view.state().table(name).await.or_problem()? {
        Some(entry) => Ok(entry.id.clone()),
        None => Err(not_found(view, name).await),
    }
}

/// Returns the error for a table that does not exist.
async fn not_found(view: &CommitView, name: &TableName) -> Problem {
    match view.state().view(name).await {
        Ok(Some(_)) => view_is_no_table(name),
        Ok(None) => view.not_found(name).await.map_or_else(|e| e.to_problem(), |e| e.to_problem()),
        Err(error) => error.to_problem(),
    }
}

/// Returns the error for a view's name in a request for a table: the table does not exist.
pub(super) fn view_is_no_table(name: &TableName) -> Problem {
    let message = format!("Table does not exist: {}", name.qualified());
    Problem::new(ErrorCode::TableNotFound, message)
}

fn exists(name: &TableName) -> Problem {
    Problem::new(ErrorCode::AlreadyExists, format!("`{name}` already exists"))
}

/// Converts the error of a change if another request created a table with this name meanwhile.
pub(super) fn already_exists(error: ChangeError, name: &TableName) -> ChangeError {
    match error {
        ChangeError::Rejected(problem) if problem.code == ErrorCode::CommitConflict => {
            ChangeError::Rejected(exists(name))
        }
        error => error,
    }
}
