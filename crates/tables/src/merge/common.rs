//! Changes that both sides have since the base, though no merge brought them: commits that were picked from
//! one side to the other, or to both, or that both undid.
//!
//! Their rows are no change of either side. So the base is taken to have them too, and what upkeep, or
//! anybody else, did to their files since is told as it is for all others. A change is known by the snapshot
//! that made it first, which those that make it again name in their summaries, and is what that snapshot
//! made of its parent's files. Where those are not in the base, as when it changed files that only its own
//! branch has, what the snapshot that made it again did stands for it. Where neither can be told, and rows
//! came with it, both sides have them, and nobody knows which: that other rows are new must be plain then.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use iceberg::spec::{Operation, Snapshot};

use super::files::{File, owned_state};
use super::history::Past;
use super::lineage::{Had, Lineage, merged_by, picked_by, undone_by};
use crate::deletes::Fingerprint;
use crate::{DataFile, Error, Tables};

/// What a merge begins with.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// The files of the base, with the changes that both sides have.
    pub base: Vec<File>,
    /// The snapshots that made no other change.
    pub same: HashSet<i64>,
    /// The snapshots whose changes both sides have, and of which it is not known what became of the files.
    pub unclear: HashSet<i64>,
    /// Whether files of the base are ours, and not theirs.
    pub from_ours: bool,
}

/// Where a snapshot is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Base,
    Ours,
    Theirs,
}

/// Snapshots of one place that follow on each other, newest first.
#[derive(Debug, Clone)]
struct Run {
    place: Option<Place>,
    ids: Vec<i64>,
    /// Whether they were undone.
    back: bool,
}

/// Which files a run took away, and which it brought.
struct Difference {
    went: Vec<File>,
    came: Vec<File>,
}

impl Past {
    fn lineage(&self, place: Place) -> &Lineage {
        match place {
            Place::Base => &self.base,
            Place::Ours => &self.sides[0],
            Place::Theirs => &self.sides[1],
        }
    }

    /// What both sides have of each other's changes beyond the base, whose files these are.
    pub async fn common(&mut self, tables: &Tables, base: &[File]) -> Result<Common, Error> {
        let mut shared = Shared::of(self);
        if !shared.is_empty() {
            // The base may have had them long ago.
            while self.base.read_more(tables).await {}
            shared = Shared::of(self);
        }
        let same = shared.same(self);
        let mut common = Common { base: base.to_vec(), same, ..Common::default() };
        if shared.is_empty() {
            return Ok(common);
        }
        let left = self.replay(tables, &shared, &mut common).await?;
        let brings = |run: &Run| match run.place {
            Some(place) => run.ids.iter().any(|id| {
                let snapshot = self.lineage(place).get(*id);
                let what = snapshot.map(|snapshot| &snapshot.summary().operation);
                let takes = if run.back { Operation::Append } else { Operation::Delete };
                !what.is_some_and(|what| *what == takes || *what == Operation::Replace)
            }),
            None => true,
        };
        let ids = |runs: &mut dyn Iterator<Item = &Run>| -> HashSet<i64> {
            runs.flat_map(|run| run.ids.iter().copied()).collect()
        };
        let unclear = ids(&mut left.iter().filter(|run| brings(run)));
        let left = ids(&mut left.iter());
        common.unclear = self.of(&unclear);
        let left = self.of(&left);
        common.same.retain(|id| !left.contains(id));
        Ok(common)
    }

    /// Some snapshots, and those of the sides that made their changes again.
    fn of(&self, ids: &HashSet<i64>) -> HashSet<i64> {
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

    /// Makes the shared changes to the files of the base; gives those that cannot be.
    async fn replay(
        &self,
        tables: &Tables,
        shared: &Shared,
        common: &mut Common,
    ) -> Result<Vec<Run>, Error> {
        let mut runs = shared.runs(self);
        loop {
            let mut left = Vec::new();
            let before = runs.len();
            for run in runs {
                if !self.replay_run(tables, &run, common).await? {
                    left.push(run);
                }
            }
            if left.len() < before && !left.is_empty() {
                runs = left;
                continue;
            }
            let single = |run: Run| -> Vec<Run> {
                let Run { place, ids, back } = run;
                ids.into_iter().rev().map(|id| Run { place, ids: vec![id], back }).collect()
            };
            let parts: Vec<Run> = left.iter().cloned().flat_map(single).collect();
            if parts.len() > left.len() {
                runs = parts;
                continue;
            }
            let Some(at) = self.replay_other(tables, shared, &left, common).await? else {
                return Ok(left);
            };
            left.remove(at);
            runs = left;
        }
    }

    /// Makes one of the changes as the snapshot did that made it again; gives which.
    async fn replay_other(
        &self,
        tables: &Tables,
        shared: &Shared,
        left: &[Run],
        common: &mut Common,
    ) -> Result<Option<usize>, Error> {
        for (at, run) in left.iter().enumerate().filter(|(_, run)| !run.back) {
            for (place, had) in [(Place::Theirs, &shared.theirs), (Place::Ours, &shared.ours)] {
                let Some(again) = had.again.get(&run.ids[0]) else { continue };
                let picked = self.lineage(place).get(*again).and_then(picked_by);
                let alone = picked.is_some_and(|picked| {
                    picked.iter().all(|id| shared.all.contains(id))
                        && picked.iter().filter(|id| shared.changes.contains(id)).count() == 1
                });
                let other = Run { place: Some(place), ids: vec![*again], back: false };
                if alone && self.replay_run(tables, &other, common).await? {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    /// Makes changes to the files of the base; not where they are of other files.
    async fn replay_run(
        &self,
        tables: &Tables,
        run: &Run,
        common: &mut Common,
    ) -> Result<bool, Error> {
        let Some(difference) = self.difference(tables, run).await? else { return Ok(false) };
        let Difference { went, came } = difference;
        let (went, came) = if run.back { (came, went) } else { (went, came) };
        let here: HashSet<_> = common.base.iter().map(owned_state).collect();
        let has = |file: &File| here.contains(&owned_state(file));
        if !went.iter().all(has) || (came.iter().any(has) && !came.iter().all(has)) {
            return Ok(false);
        }
        let came: Vec<File> = came.into_iter().filter(|file| !has(file)).collect();
        let gone: HashSet<_> = went.iter().map(owned_state).collect();
        common.base.retain(|file| !gone.contains(&owned_state(file)));
        common.from_ours |= run.place == Some(Place::Ours) && !came.is_empty();
        common.base.extend(came);
        Ok(true)
    }

    /// What a run made of the files before it; none where those are not known any more.
    async fn difference(&self, tables: &Tables, run: &Run) -> Result<Option<Difference>, Error> {
        let (Some(place), Some(first), Some(last)) = (run.place, run.ids.last(), run.ids.first())
        else {
            return Ok(None);
        };
        let lineage = self.lineage(place);
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
        let (went, came) = (without(&before, &after), without(&after, &before));
        Ok(Some(Difference { went, came }))
    }
}

/// The changes that both sides have and the base has not, and the other way round.
struct Shared {
    base: Had,
    ours: Had,
    theirs: Had,
    /// By the snapshots that made them first.
    all: HashSet<i64>,
    /// The same, without those that are part of others among them.
    changes: BTreeSet<i64>,
    /// Changes of the base that neither side has any more.
    undone: HashSet<i64>,
    /// The same, without those that are part of others among them.
    back: BTreeSet<i64>,
}

impl Shared {
    fn of(past: &Past) -> Shared {
        let (base, [ours, theirs]) = (past.base.had(), past.sides.each_ref().map(Lineage::had));
        let before = past.base.ancestors();
        let again = |had: &Had, id: &i64| had.again.get(id).is_some_and(|by| !before.contains(by));
        // What was undone before and done again by both is shared, and no change of the base.
        let is_new = |id: &i64| !before.contains(id) || (again(&ours, id) && again(&theirs, id));
        let all: HashSet<i64> = ours.has.intersection(&theirs.has).copied().collect();
        let all: HashSet<i64> =
            all.into_iter().filter(|id| !base.has.contains(id) && is_new(id)).collect();
        // A side that does not come from the base lacks what it has not; one that does may have undone it.
        let left = past.sides.each_ref().map(|side| {
            let own = side.ancestors();
            let lacks = !side.comes_from(&past.base);
            let left = before.iter().filter(|id| lacks && !own.contains(id));
            left.copied().collect::<HashSet<i64>>()
        });
        let gone = |id: &&i64| {
            let mut sides = [&ours, &theirs].into_iter().zip(&left);
            sides.all(|(had, left)| had.undone.contains(id) || left.contains(id))
        };
        let gone: HashSet<i64> = base.has.iter().filter(gone).copied().collect();
        // What ours never had is nothing that it left: it comes from what was there before.
        let own = past.sides[0].ancestors();
        let parent = |id: i64| past.base.get(id).and_then(Snapshot::parent_snapshot_id);
        let was_left = |id: &&i64| {
            let mut before = std::iter::successors(Some(**id), |id| parent(*id));
            let before = before.find(|id| !gone.contains(id));
            ours.undone.contains(id) || before.is_none_or(|before| own.contains(&before))
        };
        let undone: HashSet<i64> = gone.iter().filter(was_left).copied().collect();
        let (changes, back) = (BTreeSet::new(), BTreeSet::new());
        let mut found = Shared { base, ours, theirs, all, changes, undone, back };
        let parts = found.parts(past);
        found.changes = found.all.difference(&parts).copied().collect();
        found.back = found.undone.difference(&parts).copied().collect();
        found
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.undone.is_empty()
    }

    /// The snapshots that are part of another's change: of one that merged them, or made them again. What
    /// undoes others is told by those.
    fn parts(&self, past: &Past) -> HashSet<i64> {
        let mut parts = HashSet::new();
        for place in [Place::Base, Place::Ours, Place::Theirs] {
            let (lineage, ids): (_, Vec<i64>) = match place {
                Place::Base => (&past.base, self.undone.iter().copied().collect()),
                _ => (past.lineage(place), self.all.iter().copied().collect()),
            };
            for (id, snapshot) in ids.into_iter().filter_map(|id| Some((id, lineage.get(id)?))) {
                parts.extend(picked_by(snapshot).unwrap_or_default());
                if place != Place::Base && !undone_by(snapshot).is_empty() {
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

    /// The snapshots of either side that make no change that the other side lacks.
    fn same(&self, past: &Past) -> HashSet<i64> {
        let mut same: HashSet<i64> = self.all.iter().chain(&self.undone).copied().collect();
        let known = |id: &i64| self.all.contains(id) || self.base.has.contains(id);
        let is_same = |snapshot: &Snapshot| {
            let (picked, undone) = (picked_by(snapshot).unwrap_or_default(), undone_by(snapshot));
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

    /// The changes in runs, those that were undone first, and else in their order.
    fn runs(&self, past: &Past) -> Vec<Run> {
        let mut seen = HashSet::new();
        let mut runs = Vec::new();
        for (ids, places, back) in [
            (&self.back, &[Place::Base][..], true),
            (&self.changes, &[Place::Theirs, Place::Ours][..], false),
        ] {
            let mut found = Vec::new();
            for place in places {
                let lineage = past.lineage(*place);
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
                        found.push((order, Run { place: Some(*place), ids: run, back }));
                    }
                }
            }
            found.sort_by_key(|(order, _)| if back { -order } else { *order });
            runs.extend(found.into_iter().map(|(_, run)| run));
            let unknown: Vec<i64> = ids.iter().copied().filter(|id| !seen.contains(id)).collect();
            let single = |id| Run { place: None, ids: vec![id], back };
            runs.extend(unknown.into_iter().map(single));
        }
        runs
    }
}
