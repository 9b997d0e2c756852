//! Merging: three ways, table by table, from the nearest commit both sides come from.
//!
//! A table that one side changed is taken from that side; one that both changed alike stays; one that both
//! changed differently is a conflict. A conflict names every such table with both changes and the commits
//! that made them, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{
    Commit, CommitId, MergeConflict, MergeOutcome, MergeReport, MergeRequest, TableName,
};
use headwater_store::Batch;

use crate::catalog::ATTEMPTS_MAX;
use crate::codec::{BranchRecord, CommitObject, Namespaces};
use crate::commit::{NewCommit, Swap, give_way};
use crate::objects::Pending;
use crate::trie::{self, Changes};
use crate::{Catalog, Error, Result, TableChange};

/// What both sides are, and where they part.
struct Sides {
    record: BranchRecord,
    bytes: bytes::Bytes,
    source: CommitId,
    base: Option<CommitId>,
}

/// Who merges, and what goes with it.
struct Merging<'a> {
    target: &'a str,
    request: &'a MergeRequest,
    author: &'a str,
    properties: &'a BTreeMap<String, String>,
    with: &'a Batch,
}

impl Catalog {
    /// Merges a ref into a branch, protected or not.
    pub async fn merge(
        &self,
        target: &str,
        request: MergeRequest,
        author: &str,
    ) -> Result<MergeReport> {
        self.merge_with(target, request, author, BTreeMap::new(), Batch::default()).await
    }

    /// As `merge`, with properties for the commit and what stands or falls with it. Where there are
    /// properties a commit is made even if the target could simply move forward.
    pub async fn merge_with(
        &self,
        target: &str,
        request: MergeRequest,
        author: &str,
        properties: BTreeMap<String, String>,
        with: Batch,
    ) -> Result<MergeReport> {
        let (request, properties, with) = (&request, &properties, &with);
        let merging = Merging { target, request, author, properties, with };
        let _turn = self.heads.turn(target).await;
        for attempt in 0..ATTEMPTS_MAX {
            let sides = self.sides(&merging).await?;
            if let Some(report) = self.try_merge(&merging, sides).await? {
                return Ok(report);
            }
            give_way(attempt).await;
        }
        Err(Error::Contended { name: target.to_owned(), attempts: ATTEMPTS_MAX })
    }

    async fn sides(&self, merging: &Merging<'_>) -> Result<Sides> {
        let (record, bytes) = self.branch_record(merging.target).await?;
        let spec = &merging.request.source;
        let source = self.resolve(spec).await?.commit;
        if !merging.request.unchecked
            && record.quarantine.is_none()
            && let Some(run) = self.quarantine_of(spec, source).await?
        {
            return Err(Error::Quarantined { reference: spec.to_string(), run });
        }
        let base = self.merge_base(record.commit, source).await?;
        Ok(Sides { record, bytes, source, base })
    }

    async fn try_merge(&self, merging: &Merging<'_>, sides: Sides) -> Result<Option<MergeReport>> {
        let head = sides.record.commit;
        let report = |outcome, commit, tables| MergeReport {
            outcome,
            commit,
            base: sides.base,
            tables,
            conflicts: Vec::new(),
        };
        if sides.base == Some(sides.source) {
            return Ok(Some(report(MergeOutcome::UpToDate, head, Vec::new())));
        }
        let (changes, conflicts) = self.compare(&sides).await?;
        if !conflicts.is_empty() {
            let conflicts = self.blame(&sides, conflicts).await?;
            let report = report(MergeOutcome::Conflict, head, Vec::new());
            return Ok(Some(MergeReport { conflicts, ..report }));
        }
        let tables: Vec<TableName> = changes.iter().map(|change| change.table.clone()).collect();
        let forward = sides.base == Some(head) && merging.properties.is_empty();
        let outcome = if forward { MergeOutcome::FastForward } else { MergeOutcome::Merged };
        if merging.request.dry_run {
            return Ok(Some(report(outcome, head, tables)));
        }
        let mut pending = Pending::default();
        let commit = if forward {
            sides.source
        } else {
            self.merge_commit(merging, &sides, &mut pending, changes).await?
        };
        let record = BranchRecord { commit, ..sides.record.clone() };
        let swap = Swap { branch: merging.target, before: sides.bytes.clone(), with: merging.with };
        let done = self.swap(swap, record, pending).await?;
        Ok(done.then(|| report(outcome, commit, tables)))
    }

    /// What the source changed and the target did not, and what both changed differently.
    async fn compare(
        &self,
        sides: &Sides,
    ) -> Result<(Vec<TableChange>, Vec<(TableChange, TableChange)>)> {
        let base = match sides.base {
            Some(base) => self.objects.commit(base).await?.tables,
            None => None,
        };
        let target = self.objects.commit(sides.record.commit).await?.tables;
        let source = self.objects.commit(sides.source).await?.tables;
        let ours = self.diff_roots(base, target).await?;
        let mut ours: BTreeMap<_, _> =
            ours.into_iter().map(|change| (change.table.clone(), change)).collect();
        let (mut taken, mut conflicts) = (Vec::new(), Vec::new());
        for theirs in self.diff_roots(base, source).await? {
            match ours.remove(&theirs.table) {
                None => taken.push(theirs),
                Some(ours) if ours.to == theirs.to => {}
                Some(ours) => conflicts.push((ours, theirs)),
            }
        }
        Ok((taken, conflicts))
    }

    async fn merge_commit(
        &self,
        merging: &Merging<'_>,
        sides: &Sides,
        pending: &mut Pending,
        changes: Vec<TableChange>,
    ) -> Result<CommitId> {
        let target = self.objects.commit(sides.record.commit).await?;
        let source = self.objects.commit(sides.source).await?;
        let namespaces = self.merge_namespaces(sides, [&target, &source], &changes).await?;
        let namespaces = pending.namespaces(Arc::new(namespaces))?;
        let changes: Changes =
            changes.into_iter().map(|change| (trie::key(&change.table), change.to)).collect();
        let tables = trie::update(&self.objects, pending, target.tables, changes).await?;
        let spec = &merging.request.source;
        let message = merging.request.message.clone();
        let new = NewCommit {
            parents: vec![sides.record.commit, sides.source],
            author: merging.author.to_owned(),
            message: message.unwrap_or_else(|| format!("Merge {spec} into {}", merging.target)),
            properties: merging.properties.clone(),
        };
        let parents = [target, source];
        Ok(self.make_commit(pending, new, &parents, (tables, namespaces))?.0)
    }

    /// The target's namespaces with what the source made and removed. A namespace stays, or comes back,
    /// as long as a table of the merged state lies in it.
    async fn merge_namespaces(
        &self,
        sides: &Sides,
        [target, source]: [&CommitObject; 2],
        changes: &[TableChange],
    ) -> Result<Namespaces> {
        let base = match sides.base {
            Some(base) => self.objects.commit(base).await?.namespaces,
            None => target.namespaces,
        };
        let base = self.objects.namespaces(base).await?;
        let theirs = self.objects.namespaces(source.namespaces).await?;
        let mut merged = Namespaces::clone(&*self.objects.namespaces(target.namespaces).await?);
        for name in base.keys().filter(|name| !theirs.contains_key(*name)) {
            if !self.is_used(name, target, changes).await? {
                merged.remove(name);
            }
        }
        let needed = |name: &str| {
            changes.iter().any(|change| change.to.is_some() && change.table.namespace == name)
        };
        for (name, namespace) in theirs.iter() {
            if base.get(name) != Some(namespace) || needed(name) {
                merged.entry(name.clone()).or_insert_with(|| namespace.clone());
            }
        }
        Ok(merged)
    }

    /// Whether a table lies in the namespace once the changes are made.
    async fn is_used(
        &self,
        namespace: &str,
        target: &CommitObject,
        changes: &[TableChange],
    ) -> Result<bool> {
        let prefix = format!("{namespace}.");
        let inside = |key: &str| key.starts_with(&prefix);
        let mut tables = trie::list(&self.objects, target.tables, inside).await?;
        for change in changes {
            if change.to.is_none() {
                tables.remove(&trie::key(&change.table));
            }
        }
        Ok(!tables.is_empty())
    }

    async fn blame(
        &self,
        sides: &Sides,
        conflicts: Vec<(TableChange, TableChange)>,
    ) -> Result<Vec<MergeConflict>> {
        let mut told = Vec::new();
        for (ours, theirs) in conflicts {
            told.push(MergeConflict {
                target: self.last_change(sides.record.commit, sides.base, &ours.table).await?,
                target_change: ours.word().to_owned(),
                source: self.last_change(sides.source, sides.base, &theirs.table).await?,
                source_change: theirs.word().to_owned(),
                table: ours.table,
            });
        }
        Ok(told)
    }

    /// The commit that made the table what it is at `head`: back along the parents that have it alike.
    async fn last_change(
        &self,
        head: CommitId,
        base: Option<CommitId>,
        table: &TableName,
    ) -> Result<Option<Commit>> {
        let key = trie::key(table);
        let mut id = head;
        while Some(id) != base {
            let commit = self.objects.commit(id).await?;
            match self.parent_alike(&commit, &key).await? {
                Some(parent) => id = parent,
                None => return Ok(Some(commit.listed(id))),
            }
        }
        Ok(None)
    }

    /// The first parent in which the table is what it is in the commit.
    async fn parent_alike(&self, commit: &CommitObject, key: &str) -> Result<Option<CommitId>> {
        let here = trie::get(&self.objects, commit.tables, key).await?;
        for id in &commit.parents {
            let parent = self.objects.commit(*id).await?;
            if trie::get(&self.objects, parent.tables, key).await? == here {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }
}
