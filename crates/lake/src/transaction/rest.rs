//! Changes that other engines ask for, through Iceberg's REST catalog. Names are taken as they are
//! written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_catalog::{NamespaceChange, State, TableEntry};
use headwater_model::{RefSpec, TableName};
use headwater_store::{Batch, Expected, RefChange};
use headwater_tables::{NewTable, Table, TableCommit};

use super::pending::Change;
use super::{Transaction, made};
use crate::error::{Error, Result};
use crate::lake::Lake;

impl Transaction {
    /// Makes a table without rows; `AlreadyExists` where the branch has it.
    pub async fn create_new(&mut self, name: &TableName, new: NewTable) -> Result<()> {
        self.check_free(name).await?;
        let table = self.view.lake().tables().create_new(name, new).await?;
        self.add_created(name, table, true)
    }

    /// Makes a change of a table, or makes the table where that is the change. Where others change the
    /// table first, it is made again on what they left, as long as all that it requires is still so.
    pub async fn apply(&mut self, name: &TableName, commit: TableCommit) -> Result<()> {
        self.hold_files().await;
        self.load(name).await?;
        self.flush(name).await?;
        let Some(before) = self.pending(name)?.table().cloned() else {
            if !commit.creates() {
                return Err(self.view.not_found(name).await?);
            }
            self.check_free(name).await?;
            let table = self.view.lake().tables().create_from(name, &commit).await?;
            return self.add_created(name, table, true);
        };
        let lake = self.view.lake().clone();
        let commit = commit.as_shown(lake.last_column_id(&before).await?, &before);
        if commit.is_empty() {
            return Ok(commit.check_on(&before)?);
        }
        let new_columns = commit.new_columns(&before);
        self.pending(name)?.add(Change::Apply(Arc::new(commit)));
        self.flush(name).await?;
        let last = self.pending(name)?.table().map_or(0, Table::last_column_id);
        match lake.take_columns(&before, &new_columns, last).await? {
            Some(()) => Ok(()),
            None => Err(Error::FieldIdTaken { table: name.clone() }),
        }
    }

    /// Fails where a table that another engine brought is another's double.
    pub(super) async fn check_brought(&self, head: &State) -> Result<()> {
        for name in &self.brought {
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

    /// Makes a table of a metadata file that lies in the warehouse, in place of another where that is
    /// `overwritten`. Fails where the branch has the table under another name.
    pub async fn register(
        &mut self,
        name: &TableName,
        metadata_location: &str,
        overwritten: bool,
    ) -> Result<()> {
        self.hold_files().await;
        self.load(name).await?;
        if overwritten && self.pending(name)?.table().is_some() {
            self.pending(name)?.add_applied(Change::Drop, None);
        }
        self.check_free(name).await?;
        let table = self.view.lake().tables().register(metadata_location).await?;
        self.check_alone(&table).await?;
        self.add_created(name, table, false)
    }

    /// Fails where a table lies where another of the branch does: who removes files of one that it does not
    /// need would take the other's.
    async fn check_alone(&self, table: &Table) -> Result<()> {
        let location = table.location();
        let within = |one: &str, other: &str| {
            one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for (other, entry) in self.view.state().tables(None).await? {
            let Some((folder, _)) = entry.metadata_location.rsplit_once("/metadata/") else {
                continue;
            };
            let meet = within(folder, location) || within(location, folder);
            if meet && entry.id != table.id() {
                let reason = format!("`{location}` is the place of table `{other}`");
                return Err(headwater_tables::Error::Refused { reason }.into());
            }
        }
        Ok(())
    }

    /// Gives a table another name, in another namespace or in the same.
    pub async fn rename(&mut self, from: &TableName, to: &TableName) -> Result<()> {
        self.load(from).await?;
        self.flush(from).await?;
        let Some(table) = self.pending(from)?.table().cloned() else {
            return Err(self.view.not_found(from).await?);
        };
        self.check_free(to).await?;
        self.pending(from)?.add_applied(Change::Drop, None);
        self.pending(to)?.add_applied(Change::Create, Some(table));
        Ok(())
    }

    /// Removes the table of exactly that name.
    pub async fn drop_named(&mut self, name: &TableName) -> Result<()> {
        self.load(name).await?;
        self.drop(name, false).await
    }

    /// Sets properties of a namespace, and removes others.
    pub fn update_namespace(
        &mut self,
        name: &str,
        updates: BTreeMap<String, String>,
        removals: Vec<String>,
    ) {
        let name = name.to_owned();
        self.namespaces.push(NamespaceChange::Update { name, updates, removals });
    }

    /// Names the request that causes the commit. The same request never commits twice.
    pub fn request(&mut self, name: &str) {
        let now = self.view.lake().clock().now().timestamp_micros();
        let value = Some(bytes::Bytes::from(now.to_string()));
        let refs = vec![RefChange { name: request_ref(name), expected: Expected::Absent, value }];
        self.with.merge(Batch { refs, ..Batch::default() });
    }

    /// Sees to it that no file which is there now is removed before the end.
    pub(super) async fn hold_files(&mut self) {
        if self.unswept.is_none() {
            self.unswept = Some(Arc::clone(self.view.lake().merging()).read_owned().await);
        }
    }

    /// Fails where a table, or a view, has the name.
    pub(super) async fn check_free(&mut self, name: &TableName) -> Result<()> {
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
        if !self.makes_namespace(&name.namespace) {
            self.view.check_namespace(&name.namespace).await?;
        }
        Ok(())
    }

    /// Adds a table; where it was `stored` for this transaction, that is taken back with it.
    fn add_created(&mut self, name: &TableName, table: Table, stored: bool) -> Result<()> {
        self.brought.push(name.clone());
        if stored {
            self.staged.push_states([made(name, &table, true)]);
        }
        self.pending(name)?.add_applied(Change::Create, Some(table));
        Ok(())
    }
}

/// For how long it is remembered that a request was committed.
pub const REQUESTS_KEPT: Duration = Duration::from_hours(7 * 24);

/// Where the store keeps which requests were committed, and when.
const REQUESTS: &str = "request/";

/// How many of them are looked at at once.
const REQUESTS_AT_ONCE: usize = 500;

/// Where the store keeps that a request was committed.
fn request_ref(name: &str) -> String {
    format!("{REQUESTS}{name}")
}

/// When a request was committed; long ago where that was not kept.
fn committed(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Commits of a branch among which one that was just made is looked for.
const COMMITS_SINCE: usize = 1_000;

impl Lake {
    /// Whether one of a branch's last commits has a property of that value: of a change whose answer was
    /// lost, this tells whether it was made.
    pub async fn is_committed(&self, branch: &str, property: &str, value: &str) -> Result<bool> {
        let head = RefSpec::Name(branch.to_owned());
        let commits = self.catalog().log(&head, COMMITS_SINCE, None).await?;
        let has = |known: &String| known == value;
        Ok(commits.iter().any(|commit| commit.properties.get(property).is_some_and(has)))
    }

    /// Whether a request was committed, see [`Transaction::request`].
    pub async fn is_request_done(&self, name: &str) -> Result<bool> {
        Ok(self.store().reference(&request_ref(name)).await?.is_some())
    }

    /// Forgets requests that were committed more than [`REQUESTS_KEPT`] ago; how many.
    pub async fn forget_requests(&self) -> Result<u64> {
        let before = (self.clock().now() - REQUESTS_KEPT).timestamp_micros();
        let (mut after, mut forgotten) = (None, 0);
        loop {
            let page =
                self.store().references(REQUESTS, after.as_deref(), REQUESTS_AT_ONCE).await?;
            let Some((last, _)) = page.last() else { return Ok(forgotten) };
            after = Some(last.clone());
            let old = page.into_iter().filter(|(_, value)| committed(value) < before);
            let forget =
                |(name, value)| RefChange { name, expected: Expected::Value(value), value: None };
            let refs: Vec<RefChange> = old.map(forget).collect();
            if refs.is_empty() {
                continue;
            }
            forgotten += refs.len() as u64;
            self.store().apply(Batch { refs, ..Batch::default() }).await?;
        }
    }
}
