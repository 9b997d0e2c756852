//! Three-way merge of commits, table by table.
//!
//! If only one side changed a table, the merge takes the table from that side. Equal changes on
//! both sides need no action. A table that both sides changed differently is contested.
//! [`Merges::plan`] classifies the tables and changes nothing. The lake merges the contents of
//! contested tables, and [`Merges::apply`] creates the commit. A contested table is a conflict if
//! its contents cannot be merged.

use std::collections::BTreeMap;
use std::{iter, sync::Arc};

use bytes::Bytes;
use headwater_model::{
    CommitId, MAIN_BRANCH, MergeConflict, MergeOutcome, MergeReport, Namespace, ObjectId, RefSpec,
    TableName, name,
};
use headwater_store::WriteBatch;

use crate::codec::{BranchRecord, CommitObject, Namespaces};
use crate::commit::{BranchUpdate, NewCommit};
use crate::merge_base::{MergedSide, ValueReader, side};
use crate::object_cache::PendingObjects;
use crate::three_way_diff::{RenamedTable, ThreeWayDiff};
use crate::trie::{self, TrieChanges};
use crate::{
    BaseValue, Catalog, Error, RequiredCheckStatus, Result, TableChange, TableEntry, merge_record,
};

/// The source of a merge: the ref as written, and its commit.
#[derive(Debug, Clone, Copy)]
pub struct MergeSource<'a> {
    /// The ref as written.
    pub reference: &'a RefSpec,
    /// The commit that the ref resolved to.
    pub commit: CommitId,
}

/// The plan of a merge into a branch at its current head.
#[derive(Debug, Clone)]
pub struct MergePlan {
    /// The target branch.
    pub target: String,
    /// The head of the target.
    pub head: CommitId,
    /// The commit to merge.
    pub source: CommitId,
    /// The merge bases, newest first; several after criss-cross merges.
    pub bases: Vec<CommitId>,
    /// The parents of the merge commit.
    pub parents: Vec<CommitId>,
    /// The tables that only the source changed, by name. Each change leads from the target's entry
    /// to the source's entry.
    pub taken: Vec<TableChange>,
    /// The tables that both sides changed differently, by name.
    pub contested: Vec<DivergedTable>,
    /// The branch or tag that is merged, for the record of the merge. With `None`, the default, the
    /// merge is not recorded.
    pub merged: Option<String>,
    record: BranchRecord,
    bytes: Bytes,
}

/// A table that both sides of a merge changed differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DivergedTable {
    /// The table's name after the merge.
    pub table: TableName,
    /// The entry at the merge base.
    pub base: BaseValue,
    /// The target's entry; `None` if the target has no such table.
    pub ours: Option<TableEntry>,
    /// The source's entry; `None` if the source has no such table.
    pub theirs: Option<TableEntry>,
    /// The rename, if one side renamed the table.
    pub renamed: Option<RenamedTable>,
}

/// A sequence of new commits on top of a branch. The branch moves only when the sequence is
/// complete.
#[derive(Debug, Clone)]
pub struct CommitSequence {
    target: String,
    /// The last commit of the sequence; initially the branch's head.
    pub head: CommitId,
    record: BranchRecord,
    bytes: Bytes,
}

/// The fields of a merge commit.
#[derive(Debug, Clone, Default)]
pub struct MergeCommit {
    /// The author of the merge commit.
    pub author: String,
    /// The message of the merge commit.
    pub message: String,
    /// Additional properties of the merge commit. If there are any, even a fast-forward creates a
    /// commit.
    pub properties: BTreeMap<String, String>,
    /// Store changes to apply atomically with the merge.
    pub with: WriteBatch,
}

impl MergePlan {
    /// Returns true if the target already contains the source.
    pub fn is_up_to_date(&self) -> bool {
        self.bases == [self.source]
    }

    /// Returns true if the source contains the target, so that the merge can be a fast-forward.
    pub fn is_forward(&self) -> bool {
        self.bases == [self.head]
    }

    /// Returns the project whose expectations must pass before a merge into the target, if any.
    pub fn requires(&self) -> Option<&str> {
        self.record.requires.as_deref()
    }

    /// Returns the report of the merge, with this outcome.
    pub fn report(&self, outcome: MergeOutcome, commit: CommitId) -> MergeReport {
        MergeReport {
            outcome,
            commit,
            base: self.bases.first().copied(),
            tables: Vec::new(),
            merged: Vec::new(),
            conflicts: Vec::new(),
            undone_by: None,
            source: None,
        }
    }
}

impl DivergedTable {
    /// Returns the table's name in the target and in the source.
    pub fn names(&self) -> [&TableName; 2] {
        match &self.renamed {
            Some(RenamedTable { from, by_source: true }) => [from, &self.table],
            Some(RenamedTable { from, by_source: false }) => [&self.table, from],
            None => [&self.table, &self.table],
        }
    }

    /// Returns true if the merge renames the table in the target.
    pub fn renames(&self) -> bool {
        self.renamed.as_ref().is_some_and(|renamed| renamed.by_source)
    }

    /// Returns the changes that replace the target's entry by `to`, under the table's merged name.
    pub fn resolve_to(&self, to: Option<TableEntry>) -> Vec<TableChange> {
        let [ours, _] = self.names();
        let change = |table: &TableName, from: Option<&TableEntry>, to| TableChange {
            table: table.clone(),
            from: from.cloned(),
            to,
        };
        if *ours == self.table {
            return vec![change(ours, self.ours.as_ref(), to)];
        }
        vec![change(ours, self.ours.as_ref(), None), change(&self.table, None, to)]
    }

    fn change(&self, to: Option<&TableEntry>) -> TableChange {
        let from = self.base.first().clone();
        TableChange { table: self.table.clone(), from, to: to.cloned() }
    }
}

/// Operations that merge into branches. Returned by a [`Catalog`].
#[derive(Debug, Clone, Copy)]
pub struct Merges<'a> {
    pub(crate) catalog: &'a Catalog,
}

impl<'a> Merges<'a> {
    /// Plans the merge of a ref into a branch.
    ///
    /// Fails with `branch_protected` if the source is in quarantine. With
    /// [`RequiredCheckStatus::Waived`], the target inherits the quarantine, unless it is `main` or
    /// protected.
    pub async fn plan(
        self,
        target: &str,
        source: &RefSpec,
        checks: RequiredCheckStatus,
    ) -> Result<MergePlan> {
        let (mut record, bytes) = self.catalog.branch_record(target).await?;
        let head = record.commit;
        let commit = self.catalog.resolve(source).await?.commit;
        self.check_quarantine(
            target,
            &mut record,
            &MergeSource { reference: source, commit },
            checks,
        )
        .await?;
        let bases = self.catalog.merge_bases(head, commit).await?;
        let (taken, contested) = match bases.as_slice() {
            [base] if *base == commit => (Vec::new(), Vec::new()),
            [base] if *base == head => (self.catalog.diff(head, commit).await?, Vec::new()),
            _ => self.compare(&bases, head, commit).await?,
        };
        let parents = vec![head, commit];
        Ok(MergePlan {
            target: target.to_owned(),
            head,
            source: commit,
            bases,
            parents,
            taken,
            contested,
            merged: None,
            record,
            bytes,
        })
    }

    /// Starts a sequence of commits on top of a branch's current head.
    pub async fn begin_sequence(self, target: &str) -> Result<CommitSequence> {
        let (record, bytes) = self.catalog.branch_record(target).await?;
        Ok(CommitSequence { target: target.to_owned(), head: record.commit, record, bytes })
    }

    /// Plans to apply the changes between two commits on top of a commit sequence, as in a
    /// cherry-pick or revert. The two commits need not be in the history of the sequence.
    pub async fn plan_onto(
        self,
        sequence: &CommitSequence,
        from: CommitId,
        to: CommitId,
    ) -> Result<MergePlan> {
        let bases = vec![from];
        let (taken, contested) = self.compare(&bases, sequence.head, to).await?;
        Ok(MergePlan {
            target: sequence.target.clone(),
            head: sequence.head,
            source: to,
            bases,
            parents: vec![sequence.head],
            taken,
            contested,
            merged: None,
            record: sequence.record.clone(),
            bytes: sequence.bytes.clone(),
        })
    }

    /// Checks like [`Merges::plan`] that the source is not in quarantine, for a commit sequence.
    pub async fn check_sequence(
        self,
        sequence: &mut CommitSequence,
        source: &MergeSource<'_>,
        checks: RequiredCheckStatus,
    ) -> Result<()> {
        self.check_quarantine(&sequence.target, &mut sequence.record, source, checks).await
    }

    async fn check_quarantine(
        self,
        target: &str,
        record: &mut BranchRecord,
        source: &MergeSource<'_>,
        checks: RequiredCheckStatus,
    ) -> Result<()> {
        if record.quarantine.is_some() || checks == RequiredCheckStatus::Passed {
            return Ok(());
        }
        match self.catalog.quarantine_of(source.reference, source.commit).await? {
            Some(run) if checks == RequiredCheckStatus::Required => {
                return Err(Error::Quarantined { reference: source.reference.to_string(), run });
            }
            run if target != MAIN_BRANCH && !record.protected => record.quarantine = run,
            _ => {}
        }
        Ok(())
    }

    /// Adds the commit of a plan to a commit sequence, without moving the branch.
    pub async fn append_to_sequence(
        self,
        sequence: &mut CommitSequence,
        plan: &MergePlan,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> Result<CommitId> {
        let mut pending = PendingObjects::default();
        let id = self.merge_commit(plan, &mut pending, changes, commit).await?;
        let objects = pending.bytes();
        self.catalog.store.apply(WriteBatch { objects, ..WriteBatch::default() }).await?;
        self.catalog.objects.cache_stored(pending);
        sequence.head = id;
        Ok(id)
    }

    /// Moves the branch to the last commit of a sequence, and applies `with` atomically. Returns
    /// false if the branch has moved.
    pub async fn end_sequence(self, sequence: CommitSequence, with: &WriteBatch) -> Result<bool> {
        let record = BranchRecord { commit: sequence.head, ..sequence.record };
        let swap = BranchUpdate { branch: &sequence.target, before: sequence.bytes, with };
        self.catalog.swap(swap, record, PendingObjects::default()).await
    }

    /// Locks the branch against changes by other tasks of this process. While holding the guard,
    /// the caller must change the branch only by [`Merges::apply`] or [`Merges::end_sequence`].
    pub async fn lock_branch(self, branch: &str) -> tokio::sync::MutexGuard<'a, ()> {
        self.catalog.heads.lock(branch).await
    }

    /// Returns the tables that only the source changed, and the contested tables.
    async fn compare(
        self,
        bases: &[CommitId],
        head: CommitId,
        source: CommitId,
    ) -> Result<(Vec<TableChange>, Vec<DivergedTable>)> {
        if let [base] = bases {
            let ours = self.catalog.diff(*base, head).await?;
            let theirs = self.catalog.diff(*base, source).await?;
            let ThreeWayDiff { taken, contested, .. } = ThreeWayDiff::of(ours, theirs);
            return Ok((taken, contested));
        }
        let (mut taken, mut contested) = (Vec::new(), Vec::new());
        for TableChange { table, from: ours, to: theirs } in self.catalog.diff(head, source).await?
        {
            let base = self.base_of_table(bases, &table).await?;
            match side(&base, &ours, &theirs) {
                MergedSide::Ours => {}
                MergedSide::Theirs => taken.push(TableChange { table, from: ours, to: theirs }),
                MergedSide::Neither => {
                    contested.push(DivergedTable { table, base, ours, theirs, renamed: None });
                }
            }
        }
        Ok((taken, contested))
    }

    async fn base_of_table(self, bases: &[CommitId], table: &TableName) -> Result<BaseValue> {
        let key = trie::key(table);
        let lookup: &ValueReader<'_, Option<TableEntry>> = &|commit| {
            let key = &key;
            Box::pin(async move { trie::get(&self.catalog.objects, commit.tables, key).await })
        };
        self.catalog.base_value(bases.to_vec(), lookup).await
    }

    /// Executes a plan with the final changes of the taken and the contested tables. Returns `None`
    /// if the branch has moved since the plan was created.
    pub async fn apply(
        self,
        plan: &MergePlan,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> Result<Option<CommitId>> {
        let mut pending = PendingObjects::default();
        let changed = merge_record::names(&changes);
        let id = if plan.is_forward() && commit.properties.is_empty() {
            plan.source
        } else {
            self.merge_commit(plan, &mut pending, changes, commit).await?
        };
        let record = BranchRecord { commit: id, ..plan.record.clone() };
        let (before, mut with) = (plan.bytes.clone(), commit.with.clone());
        with.entries.extend(self.catalog.merge_entry(plan, id, changed, commit).await?);
        let swap = BranchUpdate { branch: &plan.target, before, with: &with };
        Ok(self.catalog.swap(swap, record, pending).await?.then_some(id))
    }

    async fn merge_commit(
        self,
        plan: &MergePlan,
        pending: &mut PendingObjects,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> Result<CommitId> {
        let target = self.catalog.objects.commit(plan.head).await?;
        let source = self.catalog.objects.commit(plan.source).await?;
        let namespaces = self.merge_namespaces(plan, [&target, &source], &changes, pending).await?;
        let changes: TrieChanges =
            changes.into_iter().map(|change| (trie::key(&change.table), change.to)).collect();
        // Reuse the source's trie nodes only if the source is a parent of the merge commit.
        // Otherwise, the nodes may become unreachable.
        let reuse = plan.parents.contains(&plan.source).then_some(source.tables).flatten();
        let tables =
            trie::update(&self.catalog.objects, pending, target.tables, reuse, changes).await?;
        let new = NewCommit {
            parents: plan.parents.clone(),
            author: commit.author.clone(),
            message: commit.message.clone(),
            properties: commit.properties.clone(),
            tables,
            namespaces,
        };
        let parents: &[Arc<CommitObject>] = match plan.parents.len() {
            1 => &[target],
            _ => &[target, source],
        };
        Ok(self.catalog.add_commit(pending, new, parents)?.0)
    }

    /// Merges the namespaces of both sides. A namespace that one side dropped is kept if the merged
    /// state has tables in it.
    async fn merge_namespaces(
        self,
        plan: &MergePlan,
        [target, source]: [&CommitObject; 2],
        changes: &[TableChange],
        pending: &mut PendingObjects,
    ) -> Result<ObjectId> {
        if target.namespaces == source.namespaces {
            return Ok(target.namespaces);
        }
        let ours = self.catalog.objects.namespaces(target.namespaces).await?;
        let theirs = self.catalog.objects.namespaces(source.namespaces).await?;
        let mut merged = ours.as_ref().clone();
        for name in ours.keys().chain(theirs.keys()) {
            let (one, other) = (ours.get(name).cloned(), theirs.get(name).cloned());
            if one == other {
                continue;
            }
            let base = self.base_of_namespace(&plan.bases, name).await?;
            let chosen = match side(&base, &one, &other) {
                MergedSide::Ours => one.clone(),
                MergedSide::Theirs => other.clone(),
                MergedSide::Neither => one.clone().or_else(|| other.clone()),
            };
            let needed = chosen.is_none() && self.is_used(name, target, changes).await?;
            match if needed { one.or(other) } else { chosen } {
                Some(namespace) => merged.insert(name.clone(), namespace),
                None => merged.remove(name),
            };
        }
        restore_parents(&mut merged, [&ours, &theirs]);
        pending.namespaces(Arc::new(merged))
    }

    async fn base_of_namespace(
        self,
        bases: &[CommitId],
        name: &str,
    ) -> Result<BaseValue<Option<Namespace>>> {
        let lookup: &ValueReader<'_, Option<Namespace>> = &|commit| {
            Box::pin(async move {
                Ok(self.catalog.objects.namespaces(commit.namespaces).await?.get(name).cloned())
            })
        };
        self.catalog.base_value(bases.to_vec(), lookup).await
    }

    /// Returns true if the namespace contains a table after the changes.
    async fn is_used(
        self,
        namespace: &str,
        target: &CommitObject,
        changes: &[TableChange],
    ) -> Result<bool> {
        let inside = |key: &str| trie::split(key).0 == namespace;
        let mut tables = trie::list(&self.catalog.objects, target.tables, inside).await?;
        for change in changes.iter().filter(|change| change.table.namespace == namespace) {
            let key = trie::key(&change.table);
            match &change.to {
                Some(entry) => tables.insert(key, entry.clone()),
                None => tables.remove(&key),
            };
        }
        Ok(!tables.is_empty())
    }

    /// Converts a contested table into a conflict, with the commits that made both changes.
    pub async fn conflict(
        self,
        plan: &MergePlan,
        contested: &DivergedTable,
    ) -> Result<MergeConflict> {
        let ([ours, theirs], bases) = (contested.names(), plan.bases.as_slice());
        Ok(MergeConflict {
            target: self.catalog.last_change(plan.head, bases, ours).await?,
            target_change: contested.change(contested.ours.as_ref()).word().to_owned(),
            source: self.catalog.last_change(plan.source, bases, theirs).await?,
            target_after: None,
            source_after: None,
            source_change: contested.change(contested.theirs.as_ref()).word().to_owned(),
            table: contested.table.clone(),
            project: None,
            causes: Vec::new(),
        })
    }
}

/// Restores outer namespaces that one side dropped although the other side still uses them.
fn restore_parents(merged: &mut Namespaces, sides: [&Namespaces; 2]) {
    let names: Vec<String> = merged.keys().cloned().collect();
    for name in &names {
        for outer in iter::successors(name::parent(name), |outer| name::parent(outer)) {
            let known = sides.iter().find_map(|side| side.get(outer));
            if let (false, Some(known)) = (merged.contains_key(outer), known) {
                merged.insert(outer.to_owned(), known.clone());
            }
        }
    }
}
