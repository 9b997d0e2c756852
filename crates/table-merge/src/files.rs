//! Three-way merge of data files: files that one side added or removed, and files that both sides
//! changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use headwater_tables::{ChangeScope, DataFile, Error, Fingerprint, Tables};

use crate::conflict::{Cause, Conflict, MergeSide};
use crate::merge_inputs::EqualChanges;
use crate::side_history::SideHistory;

pub(crate) type File = Arc<DataFile>;

/// The state of a file: its location and the fingerprint of its delete files. So a file that gets
/// new delete files counts as removed and added.
type FileState<'a> = (&'a str, Fingerprint);

/// A partition: its partition spec id and its values.
type PartitionKey = (i32, String);

/// The data files of the base and of both sides of a merge.
pub(crate) struct MergeFiles<'a> {
    pub base: &'a [File],
    pub ours: &'a [File],
    pub theirs: &'a [File],
    /// The numbers of live rows of these files.
    pub live: LiveRowCounts,
    /// Snapshots whose rows both sides contain, although the files with these rows are not known.
    pub unclear: &'a HashSet<i64>,
    /// The treatment of equal changes of rows.
    pub equal_changes: EqualChanges,
}

/// The number of live rows in files with deletes.
#[derive(Debug, Default)]
pub(crate) struct LiveRowCounts(HashMap<(String, Fingerprint), u64>);

impl LiveRowCounts {
    /// Counts the live rows of each file that has deletes and is not in all three states. The
    /// counts show whether files were only compacted or rows have changed; other files need no
    /// count.
    pub async fn of(tables: &Tables, states: [&[File]; 3]) -> Result<LiveRowCounts, Error> {
        let mut seen: HashMap<(&str, Fingerprint), (&File, usize)> = HashMap::new();
        for file in states.into_iter().flatten().filter(|file| file.has_deletes()) {
            seen.entry(file.state()).or_insert((file, 0)).1 += 1;
        }
        let differing = seen.into_values().filter(|(_, count)| *count < states.len());
        let files: Vec<File> = differing.map(|(file, _)| file.clone()).collect();
        let deleted = tables.deletes().deleted_of_all(files.clone()).await?;
        let rows = files.iter().zip(deleted).map(|(file, deleted)| {
            (owned_state(file), file.rows - deleted.map_or(0, |deleted| deleted.before(file.rows)))
        });
        Ok(LiveRowCounts(rows.collect()))
    }

    fn count(&self, file: &File) -> u64 {
        // Without deletes, all rows of the file are live.
        if file.has_deletes() {
            self.0.get(&owned_state(file)).copied().unwrap_or(file.rows)
        } else {
            file.rows
        }
    }
}

impl<'a> MergeFiles<'a> {
    /// Returns the files of a side that the base does not have.
    pub fn added(&self, side: &'a [File]) -> Vec<&'a File> {
        let known = states(self.base);
        side.iter().filter(|file| !known.contains(&file.state())).collect()
    }

    /// Returns the files of the base that a side does not have.
    pub fn removed(&self, side: &'a [File]) -> Vec<&'a File> {
        let remaining = states(side);
        self.base.iter().filter(|file| !remaining.contains(&file.state())).collect()
    }
}

/// The data files that a merge adds, removes and rewrites.
#[derive(Debug, Default)]
pub(crate) struct FilePlan {
    /// Files of their side that are added unchanged.
    pub files_to_add: Vec<File>,
    /// Files of our side that are removed.
    pub files_to_remove: Vec<File>,
    /// Groups of files that both sides changed, and whose rows must be merged.
    pub groups: Vec<FileMergeGroup>,
    /// For each side, the replaced files that are in no group.
    pub elsewhere: [ReplacedFiles; 2],
    /// For each side, the replaced files in all partitions; empty if the side only appended and
    /// compacted rows.
    pub replaced: [ReplacedFiles; 2],
    /// True if, in at least one group, the merge replaces the files of our side by those of their
    /// side.
    pub settles: bool,
    /// The combined scope of the changes of both sides.
    pub reach: ChangeScope,
}

/// Files of one side that were replaced by other files.
#[derive(Debug, Default)]
pub(crate) struct ReplacedFiles {
    pub old: Vec<File>,
    /// The new files, except those that contain only appended rows.
    pub new: Vec<File>,
}

/// A group of files of one partition, in which both sides replaced the same file. `base` has the
/// files that at least one side replaced; `ours` and `theirs` have the files of each side instead.
#[derive(Debug, Default, Clone)]
pub(crate) struct FileMergeGroup {
    pub base: Vec<File>,
    pub ours: Vec<File>,
    pub theirs: Vec<File>,
    /// True if rows may have moved between partitions, into the group's partition or out of it.
    pub rows_may_move: bool,
    /// For our side, and for their side: true if it only appended and compacted rows.
    pub only_appends_or_compacts: [bool; 2],
    /// True if both sides may have got the same row from a shared change whose files are not known.
    pub unclear: bool,
    /// The treatment of equal changes of rows.
    pub equal_changes: EqualChanges,
}

/// The files that a side has changed since the base.
struct FileChanges<'a> {
    side: MergeSide,
    added: Vec<&'a File>,
    removed: Vec<&'a File>,
    /// The locations of the removed files. If an added file has the same location, the side has
    /// only deleted rows of that file.
    removed_locations: HashSet<&'a str>,
    history: SideHistory,
    live: &'a LiveRowCounts,
}

impl<'a> FileChanges<'a> {
    fn new(side: MergeSide, all: &'a MergeFiles<'_>, history: SideHistory) -> Self {
        let (base, live) = (all.base, &all.live);
        let files = match side {
            MergeSide::Ours => all.ours,
            MergeSide::Theirs => all.theirs,
        };
        let (known, here) = (states(base), states(files));
        let not_in = |set: &HashSet<FileState<'_>>, file: &File| !set.contains(&file.state());
        let added = files.iter().filter(|file| not_in(&known, file)).collect();
        let removed: Vec<&File> = base.iter().filter(|file| not_in(&here, file)).collect();
        let removed_locations = removed.iter().map(|file| file.location.as_str()).collect();
        let mut change = FileChanges { side, added, removed, removed_locations, history, live };
        if !change.history.complete {
            let replaced = change.possibly_replaced(base);
            change.history.reach = std::mem::take(&mut change.history.reach).and(replaced);
        }
        change
    }

    /// Returns the partitions whose rows the side may have replaced completely: those of which the
    /// side kept no file of the base. Used if not all snapshots of the side are known.
    fn possibly_replaced(&self, base: &'a [File]) -> ChangeScope {
        let removed = states_of(&self.removed);
        let remaining = base.iter().filter(|file| !removed.contains(&file.state()));
        let remaining: BTreeSet<&String> = remaining.map(|file| &file.partition).collect();
        let touched = self.added.iter().chain(&self.removed).map(|file| &file.partition);
        let nothing: BTreeSet<String> =
            touched.filter(|partition| !remaining.contains(partition)).cloned().collect();
        if nothing.is_empty() {
            ChangeScope::Rows
        } else if remaining.is_empty() && (!base.is_empty() || nothing.contains("")) {
            ChangeScope::All
        } else {
            ChangeScope::Partitions(nothing)
        }
    }

    /// Returns true if a new file contains only appended rows. This is not the case for a file of
    /// the base in which the side deleted rows, even if the side got the file by a merge.
    fn appended(&self, file: &File) -> bool {
        let is_appended = |id| self.history.appends.contains(&id);
        file.entry.snapshot_id.is_some_and(is_appended)
            && !self.removed_locations.contains(file.location.as_str())
    }

    /// Returns true if a merge, a revert or an append added the file, and none of its rows was
    /// deleted since then.
    fn is_whole(&self, file: &File) -> bool {
        let history = &self.history;
        let is_added = |id| history.appends.contains(&id) || history.copies.contains(&id);
        file.entry.snapshot_id.is_some_and(is_added)
            && !self.removed_locations.contains(file.location.as_str())
    }

    /// Returns the files that the side removed, and the files that it added except appended ones.
    /// Ignores files for which `wanted` returns false.
    fn replaced(&self, wanted: impl Fn(&&&File) -> bool) -> ReplacedFiles {
        let new = self.added.iter().filter(&wanted).filter(|file| !self.appended(file));
        ReplacedFiles { old: owned(self.removed.iter().filter(&wanted)), new: owned(new) }
    }

    /// Returns the files with changed rows. Files that were only compacted are not included.
    fn changed(&self) -> Vec<&'a File> {
        let with_appended_rows = self.with_appended_rows();
        let counts = |file: &&&File| {
            !self.history.only_appends_or_compacts || with_appended_rows.contains(&key(file))
        };
        let added = self.added.iter().filter(|file| self.appended(file) || counts(file));
        added.chain(self.removed.iter().filter(counts)).copied().collect()
    }

    /// Returns the partitions in which the new files have a different number of rows than the files
    /// that they replace. In these partitions, rows were first appended and then compacted.
    fn with_appended_rows(&self) -> HashSet<PartitionKey> {
        let mut rows: HashMap<PartitionKey, i128> = HashMap::new();
        for file in self.added.iter().filter(|file| !self.appended(file)) {
            *rows.entry(key(file)).or_default() += i128::from(self.live.count(file));
        }
        for file in &self.removed {
            *rows.entry(key(file)).or_default() -= i128::from(self.live.count(file));
        }
        rows.into_iter().filter(|(_, rows)| *rows != 0).map(|(key, _)| key).collect()
    }

    /// Returns the partitions whose rows the changes were intended to replace completely.
    fn partitions(&self) -> BTreeSet<String> {
        match &self.history.reach {
            ChangeScope::Partitions(partitions) => partitions.clone(),
            ChangeScope::ChangedPartitions => {
                let files = self.added.iter().chain(&self.removed);
                files.map(|file| file.partition.clone()).collect()
            }
            ChangeScope::Rows | ChangeScope::All => BTreeSet::new(),
        }
    }

    /// Returns a conflict if the scope of this side's changes includes rows that the other side
    /// changed.
    fn reach_conflict(&self, other: &FileChanges<'_>) -> Option<Conflict> {
        let mut files: Vec<File> = other.changed().into_iter().cloned().collect();
        let replaced = self.partitions();
        let partitions = match self.history.reach {
            ChangeScope::Rows => return None,
            ChangeScope::All => None,
            ChangeScope::Partitions(_) | ChangeScope::ChangedPartitions => {
                // The partition of a file with another partition spec does not show whether the
                // file is affected. So such a file is assumed to be affected.
                let own = self.added.iter().chain(&self.removed).copied();
                let specs: HashSet<i32> =
                    own.chain(files.iter()).map(|file| file.spec_id).collect();
                let other_kind = |file: &File| {
                    specs.len() > 1 && replaced.iter().any(|one| !of_one_kind(one, &file.partition))
                };
                files.retain(|file| replaced.contains(&file.partition) || other_kind(file));
                let both: BTreeSet<&String> = files.iter().map(|file| &file.partition).collect();
                Some(both.into_iter().cloned().collect())
            }
        };
        if files.is_empty() {
            return None;
        }
        Some(Conflict::about(Cause::Replaced { side: self.side, partitions }, files))
    }
}

/// Returns true if two partitions, such as `day=1/kind=a`, have the same partition fields.
fn of_one_kind(one: &str, other: &str) -> bool {
    let fields = |partition: &'_ str| -> Vec<String> {
        let parts = partition.split('/').filter_map(|part| part.split_once('='));
        parts.map(|(field, _)| field.to_owned()).collect()
    };
    fields(one) == fields(other)
}

impl FilePlan {
    /// Merges the files, or returns the conflict.
    pub fn merge(
        files: &MergeFiles<'_>,
        [ours, theirs]: [SideHistory; 2],
    ) -> Result<FilePlan, Box<Conflict>> {
        let ours = FileChanges::new(MergeSide::Ours, files, ours);
        let theirs = FileChanges::new(MergeSide::Theirs, files, theirs);
        if let Some(conflict) =
            ours.reach_conflict(&theirs).or_else(|| theirs.reach_conflict(&ours))
        {
            return Err(Box::new(conflict));
        }
        let mut groups = group(files, &ours, &theirs);
        let reach = theirs.history.reach.clone();
        let mut plan = FilePlan { reach, ..FilePlan::default() };
        let here = states(files.ours);
        let grouped: HashSet<(String, Fingerprint)> = groups
            .values()
            .flat_map(|group| group.base.iter().chain(&group.ours).chain(&group.theirs))
            .map(owned_state)
            .collect();
        let is_ungrouped = |file: &&&File| !grouped.contains(&owned_state(file));
        let is_here = |file: &&File| here.contains(&file.state());
        plan.files_to_add =
            owned(theirs.added.iter().filter(is_ungrouped).filter(|file| !is_here(file)));
        let snapshot = |file: &File| file.entry.snapshot_id;
        let is_new = |file: &File| {
            theirs.appended(file) && snapshot(file).is_some_and(|id| !files.unclear.contains(&id))
        };
        let unclear_files = plan.files_to_add.iter().filter(|file| !is_new(file));
        let unclear_files: Vec<File> =
            unclear_files.filter(|_| !files.unclear.is_empty()).cloned().collect();
        if !unclear_files.is_empty() {
            return Err(Box::new(Conflict::about(Cause::DuplicateCherryPick, unclear_files)));
        }
        plan.files_to_remove =
            owned(theirs.removed.iter().filter(is_ungrouped).filter(|file| is_here(file)));
        plan.elsewhere = [&ours, &theirs].map(|change| change.replaced(is_ungrouped));
        plan.replaced = [&ours, &theirs].map(|change| {
            if change.history.only_appends_or_compacts {
                ReplacedFiles::default()
            } else {
                change.replaced(|_| true)
            }
        });
        for mut group in std::mem::take(&mut groups).into_values() {
            group.unclear = !files.unclear.is_empty();
            group.equal_changes = files.equal_changes;
            match group.compacted_by(&ours, &theirs) {
                Some(MergeSide::Ours) => plan.take_theirs(&group),
                Some(MergeSide::Theirs) => {}
                None => plan.groups.push(group),
            }
        }
        Ok(plan)
    }

    /// Replaces our files of a group by their files.
    pub fn take_theirs(&mut self, group: &FileMergeGroup) {
        self.settles = true;
        let (ours, theirs) = (states(&group.ours), states(&group.theirs));
        let lacks = |set: &HashSet<FileState<'_>>, file: &&File| !set.contains(&file.state());
        self.files_to_add.extend(group.theirs.iter().filter(|file| lacks(&ours, file)).cloned());
        self.files_to_remove.extend(group.ours.iter().filter(|file| lacks(&theirs, file)).cloned());
    }
}

impl FileMergeGroup {
    /// Returns the side that only compacted the rows of the group, if there is one.
    fn compacted_by(&self, ours: &FileChanges<'_>, theirs: &FileChanges<'_>) -> Option<MergeSide> {
        let rows = |files: &[File]| files.iter().map(|file| ours.live.count(file)).sum::<u64>();
        // The numbers of rows must be equal: if they differ, rows were also appended.
        let only_compacts = |change: &FileChanges<'_>, files: &[File]| {
            change.history.only_appends_or_compacts && rows(files) == rows(&self.base)
        };
        if only_compacts(theirs, &self.theirs) {
            return Some(MergeSide::Theirs);
        }
        only_compacts(ours, &self.ours).then_some(MergeSide::Ours)
    }
}

/// Groups the files that both sides changed, with the files that replace them, by partition.
fn group(
    files: &MergeFiles<'_>,
    ours: &FileChanges<'_>,
    theirs: &FileChanges<'_>,
) -> BTreeMap<PartitionKey, FileMergeGroup> {
    let base = files.base;
    let removed: HashMap<FileState<'_>, &File> =
        ours.removed.iter().map(|file| (file.state(), *file)).collect();
    let changed_by_both: Vec<&File> =
        theirs.removed.iter().filter(|file| removed.contains_key(&file.state())).copied().collect();
    if changed_by_both.is_empty() {
        return BTreeMap::new();
    }
    let on_both_sides = added_to_both(ours, theirs);
    let replacing = |change: &FileChanges<'_>| -> Vec<File> {
        let is_new = |file: &File| !on_both_sides.contains(&file.state());
        owned(change.added.iter().filter(|file| !change.appended(file) && is_new(file)))
    };
    let (our_new, their_new) = (replacing(ours), replacing(theirs));
    // If the files have different partition specs, all of them form one group, because the same row
    // can then be in different partitions.
    let grouped = base.iter().chain(&our_new).chain(&their_new);
    let specs: HashSet<i32> = grouped.map(|file| file.spec_id).collect();
    let key = |file: &File| match specs.len() {
        1 => key(file),
        _ => (0, String::new()),
    };
    let mut groups: BTreeMap<PartitionKey, FileMergeGroup> =
        changed_by_both.iter().map(|file| (key(file), FileMergeGroup::default())).collect();
    // If a side got a file through a merge, its manifest entry has other row ids than the entry of
    // the base. So each side's own entry is used.
    let [on_ours, on_theirs] = [files.ours, files.theirs].map(by_state);
    for file in base {
        let Some(group) = groups.get_mut(&key(file)) else { continue };
        let (here, there) = (on_ours.get(&file.state()), on_theirs.get(&file.state()));
        if here.is_some() && there.is_some() {
            continue;
        }
        group.base.push(file.clone());
        group.ours.extend(here.copied().cloned());
        group.theirs.extend(there.copied().cloned());
    }
    let all = our_new.len() + their_new.len();
    for file in our_new {
        if let Some(group) = groups.get_mut(&key(&file)) {
            group.ours.push(file);
        }
    }
    for file in their_new {
        if let Some(group) = groups.get_mut(&key(&file)) {
            group.theirs.push(file);
        }
    }
    let old = states(base);
    for group in groups.values_mut() {
        let files = group.ours.iter().chain(&group.theirs);
        let new = files.filter(|file| !old.contains(&file.state())).count();
        group.rows_may_move = new < all;
        group.only_appends_or_compacts =
            [ours, theirs].map(|side| side.history.only_appends_or_compacts);
    }
    groups
}

/// Returns the files that merges, reverts or appends added to both sides. The merge does not change
/// these files. If their rows were compared, each side would seem to have added them.
fn added_to_both<'a>(ours: &FileChanges<'a>, theirs: &FileChanges<'a>) -> HashSet<FileState<'a>> {
    let added = |change: &FileChanges<'a>| -> HashSet<FileState<'a>> {
        let whole = change.added.iter().copied().filter(|file| change.is_whole(file));
        whole.map(|file| file.state()).collect()
    };
    added(ours).intersection(&added(theirs)).copied().collect()
}

fn key(file: &File) -> PartitionKey {
    (file.spec_id, file.partition.clone())
}

/// Returns the location of a file, and the fingerprint of its delete files.
pub(crate) fn owned_state(file: &File) -> (String, Fingerprint) {
    (file.location.clone(), file.state().1)
}

fn states(files: &[File]) -> HashSet<FileState<'_>> {
    files.iter().map(|file| file.state()).collect()
}

fn by_state(files: &[File]) -> HashMap<FileState<'_>, &File> {
    files.iter().map(|file| (file.state(), file)).collect()
}

fn states_of<'a>(files: &[&'a File]) -> HashSet<FileState<'a>> {
    files.iter().map(|file| file.state()).collect()
}

fn owned<'a, 'b: 'a>(files: impl Iterator<Item = &'a &'b File>) -> Vec<File> {
    files.map(|file| File::clone(file)).collect()
}
