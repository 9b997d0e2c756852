//! Finds the changes that both sides contain although neither side merged the other. These are
//! commits that were cherry-picked from one side to the other or to both sides, and commits that
//! both sides reverted.
//!
//! Such changes do not count as changes of either side. So they are also applied to the base. Later
//! changes of the files of a shared change, such as compaction, are then handled like all other
//! changes. A change is identified by the snapshot that first made it. The summary of a cherry-pick
//! contains the id of this snapshot. A change is applied as the difference between the files of its
//! snapshot and of the snapshot's parent. If it replaced files that only its own branch has, the
//! difference of the cherry-pick's snapshot is applied instead. If that is not possible either,
//! both sides have the added rows, but it is not known which rows these are. In that case, the
//! merge succeeds only if no other new row is equal to one of these rows.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use headwater_tables::{
    DataFile, Error, Fingerprint, SnapshotAncestry, Tables, merged_by, picked_by, undone_by,
};
use iceberg::spec::{Operation, Snapshot};

use crate::files::{File, owned_state};
use crate::included_changes::IncludedChanges;
use crate::side_history::MergeAncestry;

/// The base of a merge, after the shared changes were applied to it.
#[derive(Debug, Default)]
pub(crate) struct AdjustedBase {
    /// The files of the base, to which the shared changes were applied.
    pub base: Vec<File>,
    /// The snapshots whose changes both sides contain completely.
    pub same: HashSet<i64>,
    /// The snapshots whose changes both sides contain, but whose files are not known.
    pub unclear: HashSet<i64>,
    /// True if the adjusted base contains files that our side has and their side does not.
    pub from_ours: bool,
}

/// The state in whose lineage a snapshot was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineageState {
    Base,
    Ours,
    Theirs,
}

/// Consecutive snapshots of one state, newest first.
#[derive(Debug, Clone)]
struct SnapshotRun {
    state: Option<LineageState>,
    ids: Vec<i64>,
    /// True if the changes of these snapshots must be removed from the base, because they were
    /// reverted.
    is_revert: bool,
}

/// The files that consecutive snapshots removed and added.
struct FileDifference {
    removed: Vec<File>,
    added: Vec<File>,
}

impl MergeAncestry {
    fn lineage(&self, state: LineageState) -> &SnapshotAncestry {
        match state {
            LineageState::Base => &self.base,
            LineageState::Ours => &self.sides[0],
            LineageState::Theirs => &self.sides[1],
        }
    }

    /// Applies the changes that both sides contain to the base, whose files are `base`. Returns the
    /// adjusted base.
    pub async fn common(&mut self, tables: &Tables, base: &[File]) -> Result<AdjustedBase, Error> {
        let mut shared = SharedChanges::of(self);
        if !shared.is_empty() || !shared.unproven.is_empty() || !shared.uncertain.is_empty() {
            // The base may contain these changes in old snapshots that are not known yet.
            while self.base.read_more(tables).await {}
            self.share_snapshots();
            shared = SharedChanges::of(self);
        }
        let same = shared.same(self);
        let mut common = AdjustedBase { base: base.to_vec(), same, ..AdjustedBase::default() };
        let restored = self.restored(tables, &shared).await?;
        let uncertain = self.with_replays(&shared.uncertain);
        if shared.is_empty() {
            common.unclear = uncertain;
            common.unclear.extend(restored);
            return Ok(common);
        }
        let unapplied = self.replay(tables, &shared, &mut common).await?;
        let brings = |run: &SnapshotRun| match run.state {
            Some(state) => run.ids.iter().any(|id| {
                let snapshot = self.lineage(state).get(*id);
                let what = snapshot.map(|snapshot| &snapshot.summary().operation);
                let takes = if run.is_revert { Operation::Append } else { Operation::Delete };
                !what.is_some_and(|what| *what == takes || *what == Operation::Replace)
            }),
            None => true,
        };
        let ids = |runs: &mut dyn Iterator<Item = &SnapshotRun>| -> HashSet<i64> {
            runs.flat_map(|run| run.ids.iter().copied()).collect()
        };
        let unclear = ids(&mut unapplied.iter().filter(|run| brings(run)));
        let unapplied = ids(&mut unapplied.iter());
        common.unclear = self.with_replays(&unclear);
        common.unclear.extend(uncertain);
        common.unclear.extend(restored);
        let unapplied = self.with_replays(&unapplied);
        common.same.retain(|id| !unapplied.contains(id));
        Ok(common)
    }

    /// Returns a snapshot of the base that removed rows, if their side has these rows again and our
    /// side may have them, too. Returns `None` if there is no such snapshot.
    async fn restored(
        &self,
        tables: &Tables,
        shared: &SharedChanges,
    ) -> Result<Option<i64>, Error> {
        for id in &shared.unproven {
            let (state, ids) = (Some(LineageState::Base), vec![*id]);
            let run = SnapshotRun { state, ids, is_revert: true };
            let removed = self.difference(tables, &run).await?.map(|change| change.removed);
            if removed.as_ref().is_none_or(|removed| !removed.is_empty())
                && self
                    .may_have_removed_rows(tables, shared, *id, &removed.unwrap_or_default())
                    .await?
            {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// Returns true if our side may have rows of files that the snapshot `id` of the base removed.
    /// Let `last` be the last snapshot before the removal that our side has, too. Our side cannot
    /// have rows that the base added after `last`. All removed rows were added after it if each
    /// file of `last` existed until the removal and was not removed by it.
    async fn may_have_removed_rows(
        &self,
        tables: &Tables,
        shared: &SharedChanges,
        id: i64,
        removed: &[File],
    ) -> Result<bool, Error> {
        let Some(before) = self.base.get(id).and_then(Snapshot::parent_snapshot_id) else {
            return Ok(true);
        };
        let mut last = before;
        while !shared.own.contains(&last) {
            if shared.ours.has.contains(&last) {
                return Ok(true);
            }
            let Some(snapshot) = self.base.get(last) else { return Ok(true) };
            let Some(parent) = snapshot.parent_snapshot_id() else { return Ok(false) };
            last = parent;
        }
        let (common, before) =
            (self.base.files_at(tables, last).await?, self.base.files_at(tables, before).await?);
        let (Some(common), Some(before)) = (common, before) else { return Ok(true) };
        let before: HashSet<_> = before.iter().map(owned_state).collect();
        let removed: HashSet<_> = removed.iter().map(owned_state).collect();
        Ok(common
            .iter()
            .map(owned_state)
            .any(|file| removed.contains(&file) || !before.contains(&file)))
    }

    /// Returns the given snapshots, and all snapshots of the sides that replay one of them.
    fn with_replays(&self, ids: &HashSet<i64>) -> HashSet<i64> {
        let mut found = ids.clone();
        for side in self.sides.iter().filter(|_| !ids.is_empty()) {
            let snapshots = side.ancestors().into_iter().filter_map(|id| side.get(id));
            let again = snapshots.filter(|one| {
                let picked = picked_by(one).unwrap_or_default();
                picked.iter().any(|id| ids.contains(id))
            });
            found.extend(again.map(Snapshot::snapshot_id));
        }
        found
    }

    /// Applies the shared changes to the files of the base. Returns the changes that could not be
    /// applied.
    async fn replay(
        &self,
        tables: &Tables,
        shared: &SharedChanges,
        common: &mut AdjustedBase,
    ) -> Result<Vec<SnapshotRun>, Error> {
        let mut runs = shared.runs(self);
        loop {
            let mut unapplied = Vec::new();
            let before = runs.len();
            for run in runs {
                if !self.replay_run(tables, &run, common).await? {
                    unapplied.push(run);
                }
            }
            if unapplied.len() < before && !unapplied.is_empty() {
                runs = unapplied;
                continue;
            }
            let single = |run: SnapshotRun| -> Vec<SnapshotRun> {
                let SnapshotRun { state, ids, is_revert } = run;
                ids.into_iter()
                    .rev()
                    .map(|id| SnapshotRun { state, ids: vec![id], is_revert })
                    .collect()
            };
            let parts: Vec<SnapshotRun> = unapplied.iter().cloned().flat_map(single).collect();
            if parts.len() > unapplied.len() {
                runs = parts;
                continue;
            }
            let Some(at) = self.replay_other(tables, shared, &unapplied, common).await? else {
                return Ok(unapplied);
            };
            unapplied.remove(at);
            runs = unapplied;
        }
    }

    /// Applies one of the changes in `unapplied` by replaying a later snapshot that replayed the
    /// same change. Returns the index of the applied change; `None` if no change could be applied.
    async fn replay_other(
        &self,
        tables: &Tables,
        shared: &SharedChanges,
        unapplied: &[SnapshotRun],
        common: &mut AdjustedBase,
    ) -> Result<Option<usize>, Error> {
        for (at, run) in unapplied.iter().enumerate().filter(|(_, run)| !run.is_revert) {
            for (state, had) in
                [(LineageState::Theirs, &shared.theirs), (LineageState::Ours, &shared.ours)]
            {
                let Some(again) = had.again.get(&run.ids[0]) else { continue };
                let picked = self.lineage(state).get(*again).and_then(picked_by);
                let alone = picked.is_some_and(|picked| {
                    picked.iter().all(|id| shared.all.contains(id))
                        && picked.iter().filter(|id| shared.changes.contains(id)).count() == 1
                });
                let other = SnapshotRun { state: Some(state), ids: vec![*again], is_revert: false };
                if alone && self.replay_run(tables, &other, common).await? {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    /// Applies the changes of consecutive snapshots to the files of the base. Returns false, and
    /// changes nothing, if the changed files are not known, if the base lacks a file to remove, or
    /// if it already has some of the files to add.
    async fn replay_run(
        &self,
        tables: &Tables,
        run: &SnapshotRun,
        common: &mut AdjustedBase,
    ) -> Result<bool, Error> {
        let Some(difference) = self.difference(tables, run).await? else { return Ok(false) };
        let FileDifference { removed, added } = difference;
        let (removed, added) = if run.is_revert { (added, removed) } else { (removed, added) };
        let here: HashSet<_> = common.base.iter().map(owned_state).collect();
        let has = |file: &File| here.contains(&owned_state(file));
        if !removed.iter().all(has) || (added.iter().any(has) && !added.iter().all(has)) {
            return Ok(false);
        }
        let added: Vec<File> = added.into_iter().filter(|file| !has(file)).collect();
        let removed_states: HashSet<_> = removed.iter().map(owned_state).collect();
        common.base.retain(|file| !removed_states.contains(&owned_state(file)));
        common.from_ours |= run.state == Some(LineageState::Ours) && !added.is_empty();
        common.base.extend(added);
        Ok(true)
    }

    /// Returns the files that a run of snapshots removed and added; `None` if they are not known
    /// any more.
    async fn difference(
        &self,
        tables: &Tables,
        run: &SnapshotRun,
    ) -> Result<Option<FileDifference>, Error> {
        let (Some(state), Some(first), Some(last)) = (run.state, run.ids.last(), run.ids.first())
        else {
            return Ok(None);
        };
        let lineage = self.lineage(state);
        let Some(after) = lineage.files_at(tables, *last).await? else { return Ok(None) };
        let Some(oldest) = lineage.get(*first) else { return Ok(None) };
        let before = match oldest.parent_snapshot_id() {
            Some(parent) => lineage.files_at(tables, parent).await?,
            None => Some(Arc::from(Vec::new())),
        };
        let Some(before) = before else { return Ok(None) };
        let without = |some: &[Arc<DataFile>], others: &[Arc<DataFile>]| -> Vec<File> {
            let known: HashSet<(&str, Fingerprint)> =
                others.iter().map(|file| file.state()).collect();
            some.iter().filter(|file| !known.contains(&file.state())).cloned().collect()
        };
        let (removed, added) = (without(&before, &after), without(&after, &before));
        Ok(Some(FileDifference { removed, added }))
    }
}

/// The changes that both sides contain but the base lacks, and the changes that the base contains
/// but both sides lack.
struct SharedChanges {
    base: IncludedChanges,
    ours: IncludedChanges,
    theirs: IncludedChanges,
    /// The ancestors of our side.
    own: HashSet<i64>,
    /// Changes that both sides contain but the base does not. Each change is given by the
    /// snapshot that first made it.
    all: HashSet<i64>,
    /// Changes that may be in `all`, or not, because it is unknown whether a side has reverted
    /// them.
    uncertain: HashSet<i64>,
    /// The shared changes that are not part of another shared change.
    changes: BTreeSet<i64>,
    /// Changes that the base contains and both sides reverted.
    undone: HashSet<i64>,
    /// The changes in `undone` that are not part of another change in it.
    reverted: BTreeSet<i64>,
    /// Changes that the base contains and both sides lack, although our side may not have reverted
    /// them: our side may never have had the rows that these changes removed.
    unproven: Vec<i64>,
}

impl SharedChanges {
    fn of(past: &MergeAncestry) -> SharedChanges {
        let (base, [ours, theirs]) =
            (IncludedChanges::of(&past.base), past.sides.each_ref().map(IncludedChanges::of));
        let before = past.base.ancestors();
        let again = |had: &IncludedChanges, id: &i64| {
            had.again.get(id).is_some_and(|by| !before.contains(by))
        };
        // A change can be shared although it is an old snapshot of the base: if it was reverted
        // before the base, so that the base does not contain it, and both sides have replayed it
        // since then.
        let is_new = |id: &i64| !before.contains(id) || (again(&ours, id) && again(&theirs, id));
        let all: HashSet<i64> = ours.has.intersection(&theirs.has).copied().collect();
        let is_uncertain = |id: &i64| ours.uncertain.contains(id) || theirs.uncertain.contains(id);
        let (uncertain, all) = all
            .into_iter()
            .filter(|id| !base.has.contains(id) && is_new(id))
            .map(|id| (id, past.partial_removal([&ours, &theirs], id)))
            .filter(|(_, partial)| *partial != Some(Operation::Delete))
            .partition::<Vec<_>, _>(|(id, partial)| partial.is_some() || is_uncertain(id));
        let [uncertain, all] =
            [uncertain, all].map(|found| found.into_iter().map(|(id, _)| id).collect());
        // If a side does not descend from the base, it lacks some of the base's ancestors, and so
        // their changes.
        let dropped = past.sides.each_ref().map(|side| {
            let own = side.ancestors();
            let lacks = !side.descends_from(&past.base);
            let dropped = before.iter().filter(|id| lacks && !own.contains(id));
            dropped.copied().collect::<HashSet<i64>>()
        });
        let missing = |id: &&i64| {
            let mut sides = [&ours, &theirs].into_iter().zip(&dropped);
            sides.all(|(had, dropped)| had.undone.contains(id) || dropped.contains(id))
        };
        let in_neither_side: HashSet<i64> = base.has.iter().filter(missing).copied().collect();
        // Our side can only have reverted a change that it contained before.
        let own = past.sides[0].ancestors();
        let parent = |id: i64| past.base.get(id).and_then(Snapshot::parent_snapshot_id);
        let was_reverted = |id: &&i64| {
            let mut before = std::iter::successors(Some(**id), |id| parent(*id));
            let before = before.find(|id| !in_neither_side.contains(id));
            ours.undone.contains(id) || before.is_none_or(|before| own.contains(&before))
        };
        let undone: HashSet<i64> = in_neither_side.iter().filter(was_reverted).copied().collect();
        let unproven = in_neither_side.difference(&undone).copied().collect();
        let (changes, reverted) = (BTreeSet::new(), BTreeSet::new());
        let mut found = SharedChanges {
            base,
            ours,
            theirs,
            own,
            all,
            uncertain,
            changes,
            undone,
            reverted,
            unproven,
        };
        let parts = found.parts(past);
        found.changes = found.all.difference(&parts).copied().collect();
        found.reverted = found.undone.difference(&parts).copied().collect();
        found
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.undone.is_empty()
    }

    /// Returns the snapshots whose changes are part of another snapshot's change, which is a merge
    /// or a cherry-pick. Also returns reverts, because the snapshots that they revert are handled
    /// instead.
    fn parts(&self, past: &MergeAncestry) -> HashSet<i64> {
        let mut parts = HashSet::new();
        for state in [LineageState::Base, LineageState::Ours, LineageState::Theirs] {
            let (lineage, ids): (_, Vec<i64>) = match state {
                LineageState::Base => (&past.base, self.undone.iter().copied().collect()),
                _ => (past.lineage(state), self.all.iter().copied().collect()),
            };
            for (id, snapshot) in ids.into_iter().filter_map(|id| Some((id, lineage.get(id)?))) {
                parts.extend(picked_by(snapshot).unwrap_or_default());
                let reverts = undone_by(snapshot).is_none_or(|ids| !ids.is_empty());
                if state != LineageState::Base && reverts {
                    parts.insert(id);
                }
                if let Some(merged) = merged_by(snapshot) {
                    let others = lineage.ancestors_of(snapshot.parent_snapshot_id());
                    let merged = lineage.ancestors_of(Some(merged));
                    parts.extend(merged.difference(&others));
                }
            }
        }
        parts
    }

    /// Returns the snapshots, on both sides, whose changes the other side contains completely.
    fn same(&self, past: &MergeAncestry) -> HashSet<i64> {
        let mut same: HashSet<i64> = self.all.iter().chain(&self.undone).copied().collect();
        let known = |id: &i64| self.all.contains(id) || self.base.has.contains(id);
        let is_same = |snapshot: &Snapshot| {
            let Some(undone) = undone_by(snapshot) else { return false };
            let picked = picked_by(snapshot).unwrap_or_default();
            match (picked.is_empty(), undone.is_empty()) {
                (true, true) => false,
                (false, _) => picked.iter().all(known),
                (true, false) => undone.iter().all(|id| self.undone.contains(id)),
            }
        };
        for side in &past.sides {
            let found = side.ancestors().into_iter().filter_map(|id| side.get(id));
            same.extend(found.filter(|one| is_same(one)).map(Snapshot::snapshot_id));
        }
        same
    }

    /// Groups the changes into runs of consecutive snapshots: first the reverted changes, then the
    /// other changes, in order.
    fn runs(&self, past: &MergeAncestry) -> Vec<SnapshotRun> {
        let mut seen = HashSet::new();
        let mut runs = Vec::new();
        for (ids, states, is_revert) in [
            (&self.reverted, &[LineageState::Base][..], true),
            (&self.changes, &[LineageState::Theirs, LineageState::Ours][..], false),
        ] {
            let mut found = Vec::new();
            for state in states {
                let lineage = past.lineage(*state);
                let here: BTreeSet<i64> = ids.iter().copied().collect();
                let here: BTreeSet<i64> =
                    here.into_iter().filter(|id| lineage.get(*id).is_some()).collect();
                let parent = |id: i64| lineage.get(id).and_then(Snapshot::parent_snapshot_id);
                let followed: HashSet<i64> = here.iter().filter_map(|id| parent(*id)).collect();
                for head in here.iter().filter(|id| !followed.contains(id)) {
                    let mut run = Vec::new();
                    let mut next = Some(*head);
                    while let Some(id) = next.filter(|id| here.contains(id) && seen.insert(*id)) {
                        run.push(id);
                        next = parent(id);
                    }
                    let order = lineage.get(*head).map_or(0, Snapshot::sequence_number);
                    if !run.is_empty() {
                        found.push((
                            order,
                            SnapshotRun { state: Some(*state), ids: run, is_revert },
                        ));
                    }
                }
            }
            found.sort_by_key(|(order, _)| if is_revert { -order } else { *order });
            runs.extend(found.into_iter().map(|(_, run)| run));
            let unknown: Vec<i64> = ids.iter().copied().filter(|id| !seen.contains(id)).collect();
            let single = |id| SnapshotRun { state: None, ids: vec![id], is_revert };
            runs.extend(unknown.into_iter().map(single));
        }
        runs
    }
}
