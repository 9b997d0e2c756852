//! The commit of a transaction: a compare-and-swap of the branch, with a rebase and retry on
//! conflict.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use headwater_catalog::{
    CommitContents, CommitRequest, EVENT_SCOPE, EntryKind, TableChange, TableEntry,
};
use headwater_model::{Commit, ObjectOwner, PROPERTY_EVENT, TableName, ToProblem};
use headwater_store::{JournalAppend, UniqueKey, WriteBatch};
use headwater_table_merge::{MergeInputs, RowBudget, TableMergeResult, merge, only_compacted};
use headwater_tables::Table;
use headwater_telemetry::SpanTimer;

use super::Transaction;
use super::discard_guard::{NewTableState, UncommittedFiles, discard_states};
use super::group_commit::SmallAppend;
use super::pending_changes::{AppliedChanges, ApplyContext, PendingChanges};
use crate::error::{Error, Result};
use crate::imported_files::IMPORTS_KEY;
use crate::lake::Lake;

/// Maximum number of retries after commits of other writers.
const ATTEMPTS_MAX: u32 = 200;

/// Maximum waiting time before a retry.
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// Maximum number of tables in the span of a commit.
const SPAN_TABLES_MAX: usize = 50;

/// Adds a journal entry that is stored atomically with the transaction's commit.
pub fn add_entry(transaction: &mut Transaction, journal: &str, key: &str, value: Bytes) {
    transaction.with.entries.push(JournalAppend::put(journal, key, value));
}

/// Sets the owner of the tables, views, functions and namespaces that the transaction creates after
/// this call.
pub fn set_creator(transaction: &mut Transaction, creator: Option<ObjectOwner>) {
    transaction.creator = creator;
}

/// The metrics and the span of a commit that a caller requested. A conflict is counted once for
/// each caller, not for the shared commit of a group of appends.
struct CommitSpan {
    lake: Lake,
    span: Option<SpanTimer>,
}

impl CommitSpan {
    fn begin(transaction: &Transaction) -> Self {
        let lake = transaction.view.lake().clone();
        let mut span = lake.begin_span(&transaction.properties, "commit");
        if let Some(span) = &mut span {
            let changed = transaction.tables.iter();
            let changed = changed.filter(|(_, pending)| !pending.is_unchanged());
            let changed = changed.map(|(name, _)| name).chain(transaction.views.keys());
            let small = transaction.small.as_ref().map(SmallAppend::name);
            let names = changed.chain(small).take(SPAN_TABLES_MAX).map(TableName::to_string);
            span.set("headwater.branch", transaction.branch.clone());
            span.set("headwater.tables", names.collect::<Vec<_>>().join(", "));
        }
        CommitSpan { lake, span }
    }

    /// Ends the span and counts a conflict. `result` is the id of the commit, if there is one.
    fn end(self, result: std::result::Result<Option<String>, &Error>) {
        if result.as_ref().is_err_and(|error| error.is_stale()) {
            self.lake.metrics().conflicted();
        }
        let Some(mut span) = self.span else { return };
        match result {
            Ok(id) => {
                if let Some(id) = id {
                    span.set("headwater.commit.id", id);
                }
                span.end(None);
            }
            Err(error) => span.end(Some(error.code().to_string())),
        }
    }
}

impl Transaction {
    /// Commits all changes durably. Returns `None` if there are no changes. Fails with
    /// `CommitConflict` if another commit changed the same table and the changes cannot be rebased.
    /// After an error the branch is unchanged.
    pub async fn commit(self, message: &str) -> Result<Option<Commit>> {
        if self.is_empty() {
            return Ok(None);
        }
        let commit = CommitSpan::begin(&self);
        // A boxed future, so that the futures of all callers do not contain this future.
        let result = self.commit_changes(message).boxed().await;
        let id = result.as_ref().map(|commit| commit.as_ref().map(|commit| commit.id.to_string()));
        commit.end(id);
        result
    }

    async fn commit_changes(mut self, message: &str) -> Result<Option<Commit>> {
        if let Some(small) = self.small.take() {
            if self.is_groupable() {
                return self.commit_small(small, message).await.map(Some);
            }
            // The transaction has further changes, so the small append cannot use group commit. It
            // is applied like the other changes.
            self.append(&small.name().clone(), small.rows()).await?;
        }
        self.commit_whole(message).await.map(Some)
    }

    /// Commits all changes directly, without group commit.
    pub(super) async fn commit_whole(mut self, message: &str) -> Result<Commit> {
        let result = self.commit_with_locks(message).await;
        self.staged.discard().await;
        result
    }

    /// Does the same as [`Transaction::commit`]. The caller must hold the commit locks of all
    /// tables.
    pub(super) async fn commit_locked(mut self, message: &str) -> Result<Commit> {
        let lake = self.view.lake().clone();
        let result = self.attempts(&lake, message).await;
        self.staged.discard().await;
        result
    }

    /// Does the same as [`Transaction::commit`], and returns the new states of the changed tables.
    pub async fn commit_states(mut self, message: &str) -> Result<BTreeMap<TableName, Table>> {
        if self.is_empty() {
            return Ok(BTreeMap::new());
        }
        if let Some(small) = self.small.take() {
            self.append(&small.name().clone(), small.rows()).await?;
        }
        let commit = CommitSpan::begin(&self);
        let result = self.commit_with_locks(message).boxed().await;
        commit.end(result.as_ref().map(|commit| Some(commit.id.to_string())));
        self.staged.discard().await;
        result.map(|_| self.states)
    }

    async fn commit_with_locks(&mut self, message: &str) -> Result<Commit> {
        let lake = self.view.lake().clone();
        // The locks are taken in the order of the names, to prevent deadlocks.
        let names = self.tables.iter().filter(|(_, pending)| !pending.is_unchanged());
        let locks: Vec<_> = names.map(|(name, _)| lake.commit_lock(&self.branch, name)).collect();
        let mut guards = Vec::new();
        for lock in &locks {
            guards.push(lock.lock().await);
        }
        self.attempts(&lake, message).await
    }

    async fn attempts(&mut self, lake: &Lake, message: &str) -> Result<Commit> {
        let mut attempt = 0;
        loop {
            match Box::pin(self.attempt(lake, message)).await {
                Err(Error::Catalog(error))
                    if attempt < ATTEMPTS_MAX && is_table_conflict(&error) =>
                {
                    attempt += 1;
                    lake.metrics().retried();
                    tokio::time::sleep(backoff(attempt)).await;
                }
                other => {
                    if other.is_ok() {
                        lake.metrics().committed();
                    }
                    return other;
                }
            }
        }
    }

    async fn attempt(&mut self, lake: &Lake, message: &str) -> Result<Commit> {
        self.staged.discard_rebased().await;
        self.states.clear();
        let head = lake.catalog().branch(&self.branch).await?;
        let state = lake.catalog().state(head.commit).await?;
        let mut with = self.with.clone();
        let mut changes = Vec::new();
        let names: Vec<TableName> = self.tables.keys().cloned().collect();
        for name in names {
            if let Some(change) = self.change(lake, &state, &name, &mut with).await? {
                changes.push(change);
            }
        }
        changes.extend(self.view_changes(&state).await?);
        self.check_registered(&state).await?;
        let request = self.commit_request(changes, with, message);
        // From here on, a commit may refer to the files, even if this future is dropped or the
        // response is lost. So the files are removed only if the catalog reports that the commit
        // failed.
        let written = self.staged.release();
        match lake.catalog().commit(request).await {
            Ok(commit) => {
                if self.direct {
                    lake.changed().add(&self.branch, self.tables.keys());
                }
                discard_states(lake.tables(), written.superseded()).await;
                Ok(commit)
            }
            Err(error) => {
                self.restore_uncommitted(&error, written);
                Err(error.into())
            }
        }
    }

    /// Returns the change of one table's entry from the branch's head to the result of this
    /// transaction.
    async fn change(
        &mut self,
        lake: &Lake,
        head: &CommitContents,
        name: &TableName,
        with: &mut WriteBatch,
    ) -> Result<Option<TableChange>> {
        let found = head.table(name).await?;
        let snapshot_properties = self.snapshot_properties.clone();
        let snapshot_properties = &snapshot_properties;
        let context = ApplyContext { lake, name, snapshot_properties, is_rebase: false };
        let pending = self.pending(name)?;
        if pending.is_unchanged() {
            return Ok(None);
        }
        // If another commit has created a view with this name, a retry cannot succeed.
        let view = head.view(name).await?;
        if view.is_some() && view != self.view.state().view(name).await? {
            let (table, branch) = (name.clone(), self.branch.clone());
            return Err(Error::CommitConflict { table, branch });
        }
        let pending = self.pending(name)?;
        if found.as_ref() == pending.entry() {
            let mut applied = pending.apply_remaining(&context).await?;
            let made = std::mem::take(&mut applied.made);
            let (change, objects) = to_change(name, found, pending, &applied);
            with.objects.extend(objects);
            let state = applied.table.clone();
            pending.set_applied(applied);
            self.staged.push_states(made);
            self.states.extend(state.map(|state| (name.clone(), state)));
            return Ok(change);
        }
        let branch = self.branch.clone();
        let conflict = || Error::CommitConflict { table: name.clone(), branch: branch.clone() };
        let pending = self.tables.get(name).ok_or_else(conflict)?;
        let newer = match (&found, pending.entry()) {
            (Some(found), Some(entry)) if found.id == entry.id => found,
            _ => return Err(conflict()),
        };
        if pending.can_rebase() {
            let table = lake.tables().load(&newer.metadata_location).await?;
            let context = ApplyContext { is_rebase: true, ..context };
            match pending.rebase(&context, table).await {
                Err(Error::Tables(error)) if is_schema_change(&error) => {}
                other => {
                    let applied = other?;
                    let (change, objects) = to_change(name, found, pending, &applied);
                    with.objects.extend(objects);
                    self.states.extend(applied.table.map(|state| (name.clone(), state)));
                    self.staged.push_states(applied.made);
                    return Ok(change);
                }
            }
        }
        let merged = Box::pin(self.merge_with_maintenance(lake, name, newer, with)).await?;
        merged.ok_or_else(conflict)
    }

    /// Rebases this transaction's changes to a table on concurrent maintenance. Returns `None` if
    /// the other commits contain other changes, or if this transaction conflicts with the
    /// maintenance.
    async fn merge_with_maintenance(
        &mut self,
        lake: &Lake,
        name: &TableName,
        found: &TableEntry,
        with: &mut WriteBatch,
    ) -> Result<Option<Option<TableChange>>> {
        let pending = self.pending(name)?;
        let Some(entry) = pending.entry().filter(|_| !pending.yields_to_maintenance()) else {
            return Ok(None);
        };
        let base = lake.tables().load(&entry.metadata_location).await?;
        let newer = &lake.tables().load(&found.metadata_location).await?;
        if !only_compacted(lake.tables(), &base, newer, pending.ignores_appends()).await {
            return Ok(None);
        }
        self.flush(name).await?;
        let pending = self.pending(name)?;
        let (operation, owner) = (pending.operation(), pending.owner().cloned());
        let objects = pending.objects().to_vec();
        let Some(changed) = pending.table().cloned() else {
            let (table, from) = (name.clone(), Some(found.clone()));
            return Ok(Some(Some(TableChange { table, from, to: None })));
        };
        let mut budget = RowBudget::new(lake.tables(), 0);
        let inputs = MergeInputs::new(&base, newer, &changed);
        let merge = match merge(lake.tables(), inputs, &mut budget).await? {
            TableMergeResult::Ours => return Ok(Some(None)),
            TableMergeResult::Conflicts(_) => return Ok(None),
            TableMergeResult::Both(merge) => merge,
        };
        let Some(merge) = merge.into_continuation() else { return Ok(Some(None)) };
        let [base_imports, new_imports, own_imports] =
            [&base, newer, &changed].map(|table| table.summary().remove(IMPORTS_KEY));
        let imports = match (new_imports == base_imports, own_imports == base_imports) {
            (_, true) => new_imports,
            (true, false) => own_imports,
            (false, false) => return Ok(None),
        };
        let mut summary = merge.kept_summary();
        let properties = changed.summary().into_iter();
        summary.extend(properties.filter(|(key, _)| self.snapshot_properties.contains_key(key)));
        summary.extend(imports.map(|imports| (IMPORTS_KEY.to_owned(), imports)));
        let made = merge.commit(lake.tables(), summary).await?;
        with.objects.extend(objects);
        let to = Some(to_entry(&made.table, operation, owner));
        for staged in made.staged {
            self.staged.push(staged);
        }
        self.states.insert(name.clone(), made.table.clone());
        let (state, before) = (made.table, Some(newer.clone()));
        let name_of = name.clone();
        let made = NewTableState { name: name_of, state, before, rebased: true, foreign: false };
        self.staged.push_states([made]);
        let (table, from) = (name.clone(), Some(found.clone()));
        Ok(Some((from != to).then_some(TableChange { table, from, to })))
    }

    fn commit_request(
        &self,
        changes: Vec<TableChange>,
        mut with: WriteBatch,
        message: &str,
    ) -> CommitRequest {
        let mut properties = self.properties.clone();
        if let Some(event) = &self.event {
            properties.insert(PROPERTY_EVENT.to_owned(), event.clone());
            with.unique.push(UniqueKey { scope: EVENT_SCOPE.to_owned(), key: event.clone() });
        }
        CommitRequest {
            branch: self.branch.clone(),
            changes,
            namespaces: self.namespaces.clone(),
            author: self.author.clone(),
            message: message.to_owned(),
            properties,
            direct: self.direct,
            with,
        }
    }

    fn restore_uncommitted(&mut self, error: &headwater_catalog::Error, written: UncommittedFiles) {
        // After an ambiguous error, such as a disk failure, the commit may have succeeded.
        if !error.code().has_unknown_outcome() {
            self.staged.restore(written);
        }
    }

    /// Applies the pending changes of a table, without a commit.
    pub(super) async fn flush(&mut self, name: &TableName) -> Result<()> {
        let lake = self.view.lake().clone();
        let snapshot_properties = self.snapshot_properties.clone();
        let (lake, snapshot_properties) = (&lake, &snapshot_properties);
        let context = ApplyContext { lake, name, snapshot_properties, is_rebase: false };
        let pending = self.pending(name)?;
        let mut applied = pending.apply_remaining(&context).await?;
        let made = std::mem::take(&mut applied.made);
        pending.set_applied(applied);
        self.staged.push_states(made);
        Ok(())
    }
}

fn to_change(
    name: &TableName,
    from: Option<TableEntry>,
    pending: &PendingChanges,
    applied: &AppliedChanges,
) -> (Option<TableChange>, Vec<bytes::Bytes>) {
    let owner = || pending.owner().cloned();
    let to = applied.table.as_ref().map(|table| to_entry(table, pending.operation(), owner()));
    let table = name.clone();
    let change = (from != to).then_some(TableChange { table, from, to });
    (change, applied.objects.clone())
}

fn to_entry(table: &Table, operation: &str, owner: Option<ObjectOwner>) -> TableEntry {
    TableEntry {
        kind: EntryKind::Table,
        id: table.id(),
        metadata_location: table.metadata_location().to_owned(),
        snapshot: table.snapshot_id(),
        operation: operation.to_owned(),
        owner,
    }
}

/// Returns true if a table of this transaction changed concurrently. Changes of other tables need
/// no retry here, because the catalog has already retried.
fn is_table_conflict(error: &headwater_catalog::Error) -> bool {
    matches!(error, headwater_catalog::Error::TableChanged { .. })
}

/// Returns true if a rebase failed with this error because another commit changed the schema or the
/// partition spec.
fn is_schema_change(error: &headwater_tables::Error) -> bool {
    matches!(
        error,
        headwater_tables::Error::TableChanged { .. } | headwater_tables::Error::ColumnExists { .. }
    )
}

/// Returns the back-off before a retry: linear, with jitter.
fn backoff(attempt: u32) -> Duration {
    let jitter = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    let base = Duration::from_millis(u64::from(attempt.min(40)) * 2);
    (base + Duration::from_micros(jitter * 40)).min(BACKOFF_MAX)
}
