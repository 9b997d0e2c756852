//! Changes of tables by clients of Iceberg's REST catalog. Names must match exactly, including
//! case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_catalog::{CommitContents, NamespaceChange, TableEntry};
use headwater_model::{NameError, RefSpec, TableName};
use headwater_store::{RefChange, RefPrecondition, WriteBatch};
use headwater_table_rest::{NewTable, RestTables, TableCommit};
use headwater_tables::Table;

use super::pending_changes::PendingChange;
use super::{Transaction, created_state};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Changes that clients of Iceberg's REST catalog make in a transaction.
/// [`Transaction::iceberg_rest`] returns this type.
#[derive(Debug)]
pub struct RestChanges<'a> {
    pub(super) transaction: &'a mut Transaction,
}

impl RestChanges<'_> {
    /// Creates an empty table. Fails with `TableExists` if the table exists.
    pub async fn create_new(&mut self, name: &TableName, new: NewTable) -> Result<()> {
        self.transaction.check_free(name).await?;
        let table =
            RestTables::new(self.transaction.view.lake().tables()).create_new(name, new).await?;
        self.transaction.add_created(name, table, true)
    }

    /// Applies a commit request to a table, or creates the table. If another commit changes the
    /// table first, the request is applied to the new state, if its requirements still hold there.
    pub async fn apply(&mut self, name: &TableName, commit: TableCommit) -> Result<()> {
        self.transaction.prevent_sweep().await;
        self.transaction.load(name).await?;
        self.transaction.flush(name).await?;
        let Some(before) = self.transaction.pending(name)?.table().cloned() else {
            if !commit.creates() {
                return Err(self.transaction.view.not_found(name).await?);
            }
            self.transaction.check_free(name).await?;
            let table = RestTables::new(self.transaction.view.lake().tables())
                .create_from(name, &commit)
                .await?;
            return self.transaction.add_created(name, table, true);
        };
        let lake = self.transaction.view.lake().clone();
        let commit = commit.with_shown_column_id(lake.last_column_id(&before).await?, &before);
        if commit.is_empty() {
            return Ok(commit.check_on(&before)?);
        }
        let new_columns = commit.new_columns(&before);
        self.transaction.pending(name)?.add(PendingChange::Apply(Arc::new(commit)));
        self.transaction.flush(name).await?;
        let last = self.transaction.pending(name)?.table().map_or(0, Table::last_column_id);
        match lake.reserve_field_ids(&before, &new_columns, last).await? {
            Some(()) => Ok(()),
            None => Err(Error::FieldIdTaken { table: name.clone() }),
        }
    }

    /// Registers a table from a metadata file in the warehouse. If `overwritten` is true, an
    /// existing table is replaced. Fails if the branch has the same table under another name.
    pub async fn register(
        &mut self,
        name: &TableName,
        metadata_location: &str,
        overwritten: bool,
    ) -> Result<()> {
        self.transaction.prevent_sweep().await;
        self.transaction.load(name).await?;
        if overwritten && self.transaction.pending(name)?.table().is_some() {
            self.transaction.pending(name)?.add_applied(PendingChange::Drop, None);
        }
        self.transaction.check_free(name).await?;
        let table = RestTables::new(self.transaction.view.lake().tables())
            .register(metadata_location)
            .await?;
        self.transaction.check_folder_is_exclusive(&table).await?;
        self.transaction.add_created(name, table, false)
    }

    /// Drops the table with exactly this name.
    pub async fn drop_named(&mut self, name: &TableName) -> Result<()> {
        self.transaction.load(name).await?;
        self.transaction.drop(name, false).await
    }

    /// Sets and removes properties of a namespace.
    pub fn update_namespace(
        &mut self,
        name: &str,
        updates: BTreeMap<String, String>,
        removals: Vec<String>,
    ) {
        let name = name.to_owned();
        self.transaction.namespaces.push(NamespaceChange::Update { name, updates, removals });
    }

    /// Sets the idempotency key of the request that causes the commit. Only one commit can have a
    /// given key.
    pub fn request(&mut self, name: &str) {
        let now = self.transaction.view.lake().clock().now().timestamp_micros();
        let value = Some(bytes::Bytes::from(now.to_string()));
        let refs =
            vec![RefChange { name: request_ref(name), expected: RefPrecondition::Absent, value }];
        self.transaction.with.merge(WriteBatch { refs, ..WriteBatch::default() });
    }
}

impl Transaction {
    /// Renames a table, optionally into another namespace.
    pub async fn rename(&mut self, from: &TableName, to: &TableName) -> Result<()> {
        self.load(from).await?;
        self.flush(from).await?;
        let Some(table) = self.pending(from)?.table().cloned() else {
            return Err(self.view.not_found(from).await?);
        };
        self.check_free(to).await?;
        let owner = self.pending(from)?.owner().cloned();
        self.pending(from)?.add_applied(PendingChange::Drop, None);
        self.pending(to)?.add_new(PendingChange::Create, table, owner);
        Ok(())
    }

    /// Fails if a table that another engine registers is already on the branch under another name.
    pub(super) async fn check_registered(&self, head: &CommitContents) -> Result<()> {
        for name in &self.registered {
            let Some(table) = self.states.get(name) else { continue };
            let id = table.id();
            let tables = head.tables(None).await?;
            let is_double = |(other, entry): &&(TableName, TableEntry)| {
                other != name && entry.id == id && !self.tables.contains_key(other)
            };
            if let Some((other, _)) = tables.iter().find(is_double) {
                return Err(Error::TableTwice { table: name.clone(), other: other.clone() });
            }
        }
        Ok(())
    }

    /// Fails if the folder of the table is also the folder of another table of the branch, contains
    /// it, or is inside it. Otherwise maintenance of one table could remove files of the other
    /// table.
    async fn check_folder_is_exclusive(&self, table: &Table) -> Result<()> {
        let location = table.location();
        let within = |one: &str, other: &str| {
            one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for (other, entry) in self.view.state().tables(None).await? {
            let Some((folder, _)) = entry.metadata_location.rsplit_once("/metadata/") else {
                continue;
            };
            let overlaps = within(folder, location) || within(location, folder);
            if overlaps && entry.id != table.id() {
                let reason = format!("`{location}` is the location of table `{other}`");
                return Err(headwater_tables::Error::Refused { reason }.into());
            }
        }
        Ok(())
    }

    /// Keeps the sweep from removing files until the transaction ends.
    pub(super) async fn prevent_sweep(&mut self) {
        if self.no_sweep.is_none() {
            self.no_sweep = Some(Arc::clone(self.view.lake().merging()).read_owned().await);
        }
    }

    /// Fails if the name is used by a table or view, or if its namespace does not exist.
    pub(super) async fn check_free(&mut self, name: &TableName) -> Result<()> {
        if name.function().is_some() {
            let reason = "only the names of functions end with `()`";
            let error = NameError { name: name.name.clone(), what: "table", reason };
            return Err(error.into());
        }
        let is_view = match self.has_view(name) {
            Some(known) => known,
            None => self.view.state().view(name).await?.is_some(),
        };
        if is_view {
            return Err(Error::ViewExists { view: name.clone() });
        }
        self.load(name).await?;
        if self.pending(name)?.table().is_some() {
            return Err(Error::TableExists { table: name.clone() });
        }
        self.check_namespace(name).await
    }

    /// Fails if the namespace of a table exists neither in the catalog nor in this transaction.
    pub(super) async fn check_namespace(&self, name: &TableName) -> Result<()> {
        if !self.creates_namespace(&name.namespace) {
            self.view.check_namespace(&name.namespace).await?;
        }
        Ok(())
    }

    /// Adds a created table. `stored` is true if this transaction wrote the metadata file. If the
    /// transaction fails, this file is removed.
    fn add_created(&mut self, name: &TableName, table: Table, stored: bool) -> Result<()> {
        self.registered.push(name.clone());
        if stored {
            self.staged.push_states([created_state(name, &table, true)]);
        }
        let creator = self.creator.clone();
        self.pending(name)?.add_new(PendingChange::Create, table, creator);
        Ok(())
    }
}

/// The time for which committed idempotency keys are kept.
pub const REQUESTS_KEPT: Duration = Duration::from_hours(7 * 24);

/// The prefix of the refs in the store that contain committed idempotency keys. The value of each
/// ref is the time of the commit.
const REQUESTS: &str = "request/";

/// Number of idempotency keys that are listed at a time.
const REQUESTS_AT_ONCE: usize = 500;

/// Returns the name of the ref that stores an idempotency key.
fn request_ref(name: &str) -> String {
    format!("{REQUESTS}{name}")
}

/// Parses the stored commit time of an idempotency key, in microseconds; 0 if the value is not a
/// number.
fn committed(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Number of recent commits that [`CommittedRestRequests::is_committed`] searches.
const RECENT_COMMITS: usize = 1_000;

/// The records of commits by REST clients, which show whether a repeated request is already
/// committed. [`Lake::iceberg_rest_requests`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct CommittedRestRequests<'a> {
    pub(crate) lake: &'a Lake,
}

impl CommittedRestRequests<'_> {
    /// Returns true if a recent commit of a branch has a property with this value. So a client that
    /// has lost the response can check if its change was committed.
    pub async fn is_committed(self, branch: &str, property: &str, value: &str) -> Result<bool> {
        let head = RefSpec::Name(branch.to_owned());
        let commits = self.lake.catalog().log(&head, RECENT_COMMITS, None).await?;
        let has = |known: &String| known == value;
        Ok(commits.iter().any(|commit| commit.properties.get(property).is_some_and(has)))
    }

    /// Returns true if the request with this idempotency key was committed; see
    /// [`RestChanges::request`].
    pub async fn is_done(self, name: &str) -> Result<bool> {
        Ok(self.lake.store().reference(&request_ref(name)).await?.is_some())
    }

    /// Deletes idempotency keys older than [`REQUESTS_KEPT`] and returns the number of deleted
    /// keys.
    pub async fn forget(self) -> Result<u64> {
        let before = (self.lake.clock().now() - REQUESTS_KEPT).timestamp_micros();
        let (mut after, mut forgotten) = (None, 0);
        loop {
            let page =
                self.lake.store().references(REQUESTS, after.as_deref(), REQUESTS_AT_ONCE).await?;
            let Some((last, _)) = page.last() else { return Ok(forgotten) };
            after = Some(last.clone());
            let old = page.into_iter().filter(|(_, value)| committed(value) < before);
            let forget = |(name, value)| RefChange {
                name,
                expected: RefPrecondition::Value(value),
                value: None,
            };
            let refs: Vec<RefChange> = old.map(forget).collect();
            if refs.is_empty() {
                continue;
            }
            forgotten += refs.len() as u64;
            self.lake.store().apply(WriteBatch { refs, ..WriteBatch::default() }).await?;
        }
    }
}
