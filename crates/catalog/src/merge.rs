//! Merging: three ways, table by table, from the commits that both sides come from.
//!
//! A table that one side changed is taken from that side; one that both changed alike stays; one that both
//! changed differently is contested. [`Catalog::plan_merge`] says which tables are what, and changes
//! nothing; whoever can look into tables settles the contested ones; [`Catalog::apply_merge`] makes the
//! commit. What nobody settles is a conflict, which names the table with both changes and the commits that
//! made them.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{
    CommitId, MAIN_BRANCH, MergeConflict, MergeOutcome, MergeReport, Namespace, ObjectId, RefSpec,
    TableName, name,
};
use headwater_store::Batch;

use crate::base::{Look, Side, side};
use crate::codec::{BranchRecord, CommitObject, Namespaces};
use crate::commit::{NewCommit, Swap};
use crate::compared::{Compared, Renamed};
use crate::objects::Pending;
use crate::trie::{self, Changes};
use crate::{Base, Catalog, Error, Result, TableChange, TableEntry};

/// What merging a commit into a branch would do, as the branch is now.
#[derive(Debug, Clone)]
pub struct MergePlan {
    /// The branch.
    pub target: String,
    /// Its head.
    pub head: CommitId,
    /// What is merged.
    pub source: CommitId,
    /// Where both come from, newest first; several after crosswise merges.
    pub bases: Vec<CommitId>,
    /// The parents of the commit that it makes.
    pub parents: Vec<CommitId>,
    /// The tables that only the source changed, by name, from what the target has to what the source has.
    pub taken: Vec<TableChange>,
    /// The tables that both changed, and differently, by name.
    pub contested: Vec<Contested>,
    record: BranchRecord,
    bytes: Bytes,
}

/// A table that both sides of a merge changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested {
    /// The table.
    pub table: TableName,
    /// What both sides come from.
    pub base: Base,
    /// What the target has; none where it has no such table.
    pub ours: Option<TableEntry>,
    /// What the source has; none where it has no such table.
    pub theirs: Option<TableEntry>,
    /// The name that it has with one side; none where both call it the same.
    pub renamed: Option<Renamed>,
}

/// Changes put onto a branch one after the other, none of which is on it before all are.
#[derive(Debug, Clone)]
pub struct Stack {
    target: String,
    /// The last of them, or the branch's head.
    pub head: CommitId,
    record: BranchRecord,
    bytes: Bytes,
}

/// What goes with the commit that a merge makes.
#[derive(Debug, Clone, Default)]
pub struct MergeCommit {
    /// Who makes it.
    pub author: String,
    /// Its message.
    pub message: String,
    /// Anything else to keep with it. Where there is any, a commit is made even if the target could simply
    /// move forward.
    pub properties: BTreeMap<String, String>,
    /// What stands or falls with it.
    pub with: Batch,
}

impl MergePlan {
    /// Whether the target has everything of the source already.
    pub fn is_up_to_date(&self) -> bool {
        self.bases == [self.source]
    }

    /// Whether the target has nothing that the source has not.
    pub fn is_forward(&self) -> bool {
        self.bases == [self.head]
    }

    /// The project whose expectations must have passed on what comes into the target.
    pub fn requires(&self) -> Option<&str> {
        self.record.requires.as_deref()
    }

    /// A report on the plan, with this outcome.
    pub fn report(&self, outcome: MergeOutcome, commit: CommitId) -> MergeReport {
        MergeReport {
            outcome,
            commit,
            base: self.bases.first().copied(),
            tables: Vec::new(),
            merged: Vec::new(),
            conflicts: Vec::new(),
            undone_by: None,
        }
    }
}

/// What is known of the checks that should have passed on what comes into a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// They must have passed.
    Required,
    /// Somebody takes it all the same.
    Waived,
    /// They have passed just now: a run brings what it made.
    Passed,
}

impl Checks {
    /// What somebody says who may waive them.
    pub fn unless(unchecked: bool) -> Self {
        if unchecked { Checks::Waived } else { Checks::Required }
    }
}

impl Contested {
    /// The names that the target and the source have it by.
    pub fn names(&self) -> [&TableName; 2] {
        match &self.renamed {
            Some(Renamed { from, by_source: true }) => [from, &self.table],
            Some(Renamed { from, by_source: false }) => [&self.table, from],
            None => [&self.table, &self.table],
        }
    }

    /// Whether the target is to have it by another name.
    pub fn renames(&self) -> bool {
        self.renamed.as_ref().is_some_and(|renamed| renamed.by_source)
    }

    /// What is to change of the target for it to have the table so, and by no other name.
    pub fn settle(&self, to: Option<TableEntry>) -> Vec<TableChange> {
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

impl Catalog {
    /// Says what merging a ref into a branch would do.
    ///
    /// Fails with `branch_protected` for what a failed run left, unless that is [`Checks::Waived`]: then the
    /// branch is as little checked as that, unless it is `main` or protected, of which somebody has just
    /// said so.
    pub async fn plan_merge(
        &self,
        target: &str,
        source: &RefSpec,
        checks: Checks,
    ) -> Result<MergePlan> {
        let (mut record, bytes) = self.branch_record(target).await?;
        let head = record.commit;
        let commit = self.resolve(source).await?.commit;
        self.check_sound((target, &mut record), (source, commit), checks).await?;
        let bases = self.merge_bases(head, commit).await?;
        let (taken, contested) = match bases.as_slice() {
            [base] if *base == commit => (Vec::new(), Vec::new()),
            [base] if *base == head => (self.diff(head, commit).await?, Vec::new()),
            _ => self.compare(&bases, head, commit).await?,
        };
        let parents = vec![head, commit];
        let (target, source) = (target.to_owned(), commit);
        Ok(MergePlan { target, head, source, bases, parents, taken, contested, record, bytes })
    }

    /// Begins to put changes onto a branch, as it is now.
    pub async fn begin_stack(&self, target: &str) -> Result<Stack> {
        let (record, bytes) = self.branch_record(target).await?;
        Ok(Stack { target: target.to_owned(), head: record.commit, record, bytes })
    }

    /// Says what it would do to put onto a branch what leads from one commit to another, neither of which
    /// needs to be in its history.
    pub async fn plan_onto(
        &self,
        stack: &Stack,
        from: CommitId,
        to: CommitId,
    ) -> Result<MergePlan> {
        let bases = vec![from];
        let (taken, contested) = self.compare(&bases, stack.head, to).await?;
        Ok(MergePlan {
            target: stack.target.clone(),
            head: stack.head,
            source: to,
            bases,
            parents: vec![stack.head],
            taken,
            contested,
            record: stack.record.clone(),
            bytes: stack.bytes.clone(),
        })
    }

    /// Refuses to put onto a branch what a failed run left, as [`Catalog::plan_merge`] does.
    pub async fn check_stack(
        &self,
        stack: &mut Stack,
        from: (&RefSpec, CommitId),
        checks: Checks,
    ) -> Result<()> {
        self.check_sound((&stack.target, &mut stack.record), from, checks).await
    }

    async fn check_sound(
        &self,
        (target, record): (&str, &mut BranchRecord),
        (source, commit): (&RefSpec, CommitId),
        checks: Checks,
    ) -> Result<()> {
        if record.quarantine.is_some() || checks == Checks::Passed {
            return Ok(());
        }
        match self.quarantine_of(source, commit).await? {
            Some(run) if checks == Checks::Required => {
                return Err(Error::Quarantined { reference: source.to_string(), run });
            }
            run if target != MAIN_BRANCH && !record.protected => record.quarantine = run,
            _ => {}
        }
        Ok(())
    }

    /// Makes a commit of a plan without moving the branch.
    pub async fn push_stack(
        &self,
        stack: &mut Stack,
        plan: &MergePlan,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> Result<CommitId> {
        let mut pending = Pending::default();
        let made = self.merge_commit(plan, &mut pending, changes, commit).await?;
        let objects = pending.bytes();
        self.store.apply(Batch { objects, ..Batch::default() }).await?;
        self.objects.keep(pending);
        stack.head = made;
        Ok(made)
    }

    /// Moves the branch to the last commit that was put onto it, with what stands or falls with that;
    /// false where the branch has moved since.
    pub async fn end_stack(&self, stack: Stack, with: &Batch) -> Result<bool> {
        let record = BranchRecord { commit: stack.head, ..stack.record };
        let swap = Swap { branch: &stack.target, before: stack.bytes, with };
        self.swap(swap, record, Pending::default()).await
    }

    /// Waits for a turn at changing the branch from this process, which ends when the answer is dropped.
    /// Whoever has it must not change the branch otherwise than by [`Catalog::apply_merge`] or
    /// [`Catalog::end_stack`].
    pub async fn turn(&self, branch: &str) -> tokio::sync::MutexGuard<'_, ()> {
        self.heads.turn(branch).await
    }

    /// Of the tables that differ, those that only the source changed and those that both did.
    async fn compare(
        &self,
        bases: &[CommitId],
        head: CommitId,
        source: CommitId,
    ) -> Result<(Vec<TableChange>, Vec<Contested>)> {
        if let [base] = bases {
            let ours = self.diff(*base, head).await?;
            let theirs = self.diff(*base, source).await?;
            let Compared { taken, contested, .. } = Compared::of(ours, theirs);
            return Ok((taken, contested));
        }
        let (mut taken, mut contested) = (Vec::new(), Vec::new());
        for TableChange { table, from: ours, to: theirs } in self.diff(head, source).await? {
            let base = self.base_of_table(bases, &table).await?;
            match side(&base, &ours, &theirs) {
                Side::Ours => {}
                Side::Theirs => taken.push(TableChange { table, from: ours, to: theirs }),
                Side::Neither => {
                    contested.push(Contested { table, base, ours, theirs, renamed: None });
                }
            }
        }
        Ok((taken, contested))
    }

    async fn base_of_table(&self, bases: &[CommitId], table: &TableName) -> Result<Base> {
        let key = trie::key(table);
        let look: &Look<'_, Option<TableEntry>> = &|commit| {
            let key = &key;
            Box::pin(async move { trie::get(&self.objects, commit.tables, key).await })
        };
        self.base_value(bases.to_vec(), look).await
    }

    /// Carries a plan out, with what became of every table that is to change: those that are taken, and
    /// those that were contested. None where the branch has moved since the plan was made.
    pub async fn apply_merge(
        &self,
        plan: &MergePlan,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> Result<Option<CommitId>> {
        let mut pending = Pending::default();
        let made = if plan.is_forward() && commit.properties.is_empty() {
            plan.source
        } else {
            self.merge_commit(plan, &mut pending, changes, commit).await?
        };
        let record = BranchRecord { commit: made, ..plan.record.clone() };
        let before = plan.bytes.clone();
        let swap = Swap { branch: &plan.target, before, with: &commit.with };
        Ok(self.swap(swap, record, pending).await?.then_some(made))
    }

    async fn merge_commit(
        &self,
        plan: &MergePlan,
        pending: &mut Pending,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> Result<CommitId> {
        let target = self.objects.commit(plan.head).await?;
        let source = self.objects.commit(plan.source).await?;
        let namespaces = self.merge_namespaces(plan, [&target, &source], &changes, pending).await?;
        let changes: Changes =
            changes.into_iter().map(|change| (trie::key(&change.table), change.to)).collect();
        // What only the source has changed it has in nodes that the merge can have as well, and keeps.
        let like = plan.parents.contains(&plan.source).then_some(source.tables).flatten();
        let tables = trie::update(&self.objects, pending, (target.tables, like), changes).await?;
        let new = NewCommit {
            parents: plan.parents.clone(),
            author: commit.author.clone(),
            message: commit.message.clone(),
            properties: commit.properties.clone(),
        };
        let parents: &[Arc<CommitObject>] = match plan.parents.len() {
            1 => &[target],
            _ => &[target, source],
        };
        Ok(self.make_commit(pending, new, parents, (tables, namespaces))?.0)
    }

    /// The namespaces that both sides come to. One stays, or comes back, as long as a table or a namespace
    /// of the merged state lies in it.
    async fn merge_namespaces(
        &self,
        plan: &MergePlan,
        [target, source]: [&CommitObject; 2],
        changes: &[TableChange],
        pending: &mut Pending,
    ) -> Result<ObjectId> {
        if target.namespaces == source.namespaces {
            return Ok(target.namespaces);
        }
        let ours = self.objects.namespaces(target.namespaces).await?;
        let theirs = self.objects.namespaces(source.namespaces).await?;
        let mut merged = ours.as_ref().clone();
        for name in ours.keys().chain(theirs.keys()) {
            let (one, other) = (ours.get(name).cloned(), theirs.get(name).cloned());
            if one == other {
                continue;
            }
            let base = self.base_of_namespace(&plan.bases, name).await?;
            let chosen = match side(&base, &one, &other) {
                Side::Ours => one.clone(),
                Side::Theirs => other.clone(),
                Side::Neither => one.clone().or_else(|| other.clone()),
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
        &self,
        bases: &[CommitId],
        name: &str,
    ) -> Result<Base<Option<Namespace>>> {
        let look: &Look<'_, Option<Namespace>> = &|commit| {
            Box::pin(async move {
                Ok(self.objects.namespaces(commit.namespaces).await?.get(name).cloned())
            })
        };
        self.base_value(bases.to_vec(), look).await
    }

    /// Whether a table lies in the namespace once the changes are made.
    async fn is_used(
        &self,
        namespace: &str,
        target: &CommitObject,
        changes: &[TableChange],
    ) -> Result<bool> {
        let inside = |key: &str| trie::split(key).0 == namespace;
        let mut tables = trie::list(&self.objects, target.tables, inside).await?;
        for change in changes.iter().filter(|change| change.table.namespace == namespace) {
            let key = trie::key(&change.table);
            match &change.to {
                Some(entry) => tables.insert(key, entry.clone()),
                None => tables.remove(&key),
            };
        }
        Ok(!tables.is_empty())
    }

    /// A contested table as a conflict, with the commits behind both changes.
    pub async fn conflict(&self, plan: &MergePlan, contested: &Contested) -> Result<MergeConflict> {
        let ([ours, theirs], bases) = (contested.names(), plan.bases.as_slice());
        Ok(MergeConflict {
            target: self.last_change(plan.head, bases, ours).await?,
            target_change: contested.change(contested.ours.as_ref()).word().to_owned(),
            source: self.last_change(plan.source, bases, theirs).await?,
            target_after: None,
            source_after: None,
            source_change: contested.change(contested.theirs.as_ref()).word().to_owned(),
            table: contested.table.clone(),
            project: None,
            causes: Vec::new(),
        })
    }
}

/// Adds the outer namespaces that one side dropped and the other side still needs, as they were there.
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
