//! How a transaction is committed: one compare-and-swap, and a re-basing where it is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_catalog::{CommitRequest, EVENT_SCOPE, State, TableChange, TableEntry};
use headwater_model::{Commit, ErrorCode, Fault, PROPERTY_EVENT, TableName};
use headwater_store::{Batch, Unique};
use headwater_tables::Table;

use super::Transaction;
use super::pending::{Applied, Context, Pending};
use super::staged_files::{Written, discard_states};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// How often a commit that others overtook is made again.
const ATTEMPTS_MAX: u32 = 200;

/// The longest pause before a commit is made again.
const PAUSE_MAX: Duration = Duration::from_millis(250);

impl Transaction {
    /// Commits everything, durably; none where there was nothing to commit. `CommitConflict` names
    /// a table that another commit changed and that cannot be re-based. After any error the branch
    /// is as if the transaction had never been.
    pub async fn commit(mut self, message: &str) -> Result<Option<Commit>> {
        if self.is_empty() {
            return Ok(None);
        }
        let result = self.commit_in_turn(message).await;
        self.staged.discard().await;
        result.map(Some)
    }

    /// Commits as [`Transaction::commit`] does, and gives the tables that it changed as they are then.
    pub async fn commit_states(mut self, message: &str) -> Result<BTreeMap<TableName, Table>> {
        if self.is_empty() {
            return Ok(BTreeMap::new());
        }
        let result = self.commit_in_turn(message).await;
        self.staged.discard().await;
        result.map(|_| self.states)
    }

    async fn commit_in_turn(&mut self, message: &str) -> Result<Commit> {
        let lake = self.view.lake().clone();
        // In the order of names, so that two transactions never wait for each other.
        let names = self.tables.iter().filter(|(_, pending)| !pending.is_unchanged());
        let locks: Vec<_> = names.map(|(name, _)| lake.commit_lock(&self.branch, name)).collect();
        let mut turns = Vec::new();
        for lock in &locks {
            turns.push(lock.lock().await);
        }
        let mut attempt = 0;
        loop {
            match Box::pin(self.attempt(&lake, message)).await {
                Err(Error::Catalog(error)) if attempt < ATTEMPTS_MAX && is_overtaken(&error) => {
                    attempt += 1;
                    tokio::time::sleep(pause(attempt)).await;
                }
                other => return other,
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
        let request = self.request(changes, with, message);
        // From here on the files may be part of a commit, even if this future is dropped or the
        // answer is lost; they are taken back only where the catalog says that they are not.
        let written = self.staged.release();
        match lake.catalog().commit(request).await {
            Ok(commit) => {
                discard_states(lake.tables(), written.superseded()).await;
                Ok(commit)
            }
            Err(error) => {
                self.take_back(&error, written);
                Err(error.into())
            }
        }
    }

    /// What the commit does to one table, made for the branch's head.
    async fn change(
        &mut self,
        lake: &Lake,
        head: &State,
        name: &TableName,
        with: &mut Batch,
    ) -> Result<Option<TableChange>> {
        let found = head.table(name).await?;
        let snapshot_properties = self.snapshot_properties.clone();
        let snapshot_properties = &snapshot_properties;
        let context = Context { lake, name, snapshot_properties, rebases: false };
        let pending = self.pending(name)?;
        if pending.is_unchanged() {
            return Ok(None);
        }
        if found.as_ref() == pending.entry() {
            let mut applied = pending.apply_rest(&context).await?;
            let made = std::mem::take(&mut applied.made);
            let (change, objects) = to_change(name, found, pending, &applied);
            with.objects.extend(objects);
            let state = applied.table.clone();
            pending.set_applied(applied);
            self.staged.push_states(made);
            self.states.extend(state.map(|state| (name.clone(), state)));
            return Ok(change);
        }
        let conflict =
            || Error::CommitConflict { table: name.clone(), branch: self.branch.clone() };
        let pending = self.tables.get(name).ok_or_else(conflict)?;
        let newer = match (&found, pending.entry()) {
            (Some(found), Some(entry)) if found.id == entry.id && pending.can_rebase() => found,
            _ => return Err(conflict()),
        };
        let table = lake.tables().load(&newer.metadata_location).await?;
        let context = Context { rebases: true, ..context };
        let applied = match pending.rebase(&context, table).await {
            Err(Error::Tables(error)) if is_schema_change(&error) => return Err(conflict()),
            other => other?,
        };
        let (change, objects) = to_change(name, found, pending, &applied);
        with.objects.extend(objects);
        self.states.extend(applied.table.map(|state| (name.clone(), state)));
        self.staged.push_states(applied.made);
        Ok(change)
    }

    fn request(&self, changes: Vec<TableChange>, mut with: Batch, message: &str) -> CommitRequest {
        let mut properties = self.properties.clone();
        if let Some(event) = &self.event {
            properties.insert(PROPERTY_EVENT.to_owned(), event.clone());
            with.unique.push(Unique { scope: EVENT_SCOPE.to_owned(), key: event.clone() });
        }
        CommitRequest {
            branch: self.branch.clone(),
            changes,
            namespaces: self.namespaces.clone(),
            author: self.author.clone(),
            message: message.to_owned(),
            properties,
            direct: true,
            with,
        }
    }

    fn take_back(&mut self, error: &headwater_catalog::Error, written: Written) {
        // A failing disk or database may have kept the commit and lost the answer.
        let doubtful = matches!(
            error.code(),
            ErrorCode::Storage | ErrorCode::Corrupt | ErrorCode::Unavailable | ErrorCode::Internal
        );
        if !doubtful {
            self.staged.take_back(written);
        }
    }

    /// Makes the changes of a table that were only noted so far, without a commit.
    pub(super) async fn flush(&mut self, name: &TableName) -> Result<()> {
        let lake = self.view.lake().clone();
        let snapshot_properties = self.snapshot_properties.clone();
        let (lake, snapshot_properties) = (&lake, &snapshot_properties);
        let context = Context { lake, name, snapshot_properties, rebases: false };
        let pending = self.pending(name)?;
        let mut applied = pending.apply_rest(&context).await?;
        let made = std::mem::take(&mut applied.made);
        pending.set_applied(applied);
        self.staged.push_states(made);
        Ok(())
    }
}

fn to_change(
    name: &TableName,
    from: Option<TableEntry>,
    pending: &Pending,
    applied: &Applied,
) -> (Option<TableChange>, Vec<bytes::Bytes>) {
    let to = applied.table.as_ref().map(|table| to_entry(table, pending.word()));
    let table = name.clone();
    let change = (from != to).then_some(TableChange { table, from, to });
    (change, applied.objects.clone())
}

fn to_entry(table: &Table, word: &str) -> TableEntry {
    TableEntry {
        id: table.id(),
        metadata_location: table.metadata_location().to_owned(),
        snapshot: table.snapshot_id(),
        operation: word.to_owned(),
    }
}

/// Whether the branch, or a table of it, changed after it was looked at.
fn is_overtaken(error: &headwater_catalog::Error) -> bool {
    matches!(
        error,
        headwater_catalog::Error::TableChanged { .. } | headwater_catalog::Error::Contended { .. }
    )
}

/// Whether re-basing failed because the other commit changed the columns or the partitions.
fn is_schema_change(error: &headwater_tables::Error) -> bool {
    matches!(
        error,
        headwater_tables::Error::TableChanged { .. } | headwater_tables::Error::ColumnExists { .. }
    )
}

/// A pause that grows, and differs from process to process so that two do not keep in step.
fn pause(attempt: u32) -> Duration {
    let noise = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    let base = Duration::from_millis(u64::from(attempt.min(40)) * 2);
    (base + Duration::from_micros(noise * 40)).min(PAUSE_MAX)
}
