//! Data files merged three ways: which come, which go, and which both sides changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::clash::{Cause, Clash, Side};
use super::history::{History, Reach};
use crate::deletes::Fingerprint;
use crate::{DataFile, Error, Tables};

pub(super) type File = Arc<DataFile>;

/// Where a file lies, and which rows of it are gone: a file from which a side took rows by delete files
/// is one that went, and another that came.
type State<'a> = (&'a str, Fingerprint);

/// A partition, of one spec.
type Key = (i32, String);

/// The data files of the three states.
pub(super) struct Files<'a> {
    pub base: &'a [File],
    pub ours: &'a [File],
    pub theirs: &'a [File],
    /// How many rows files still have.
    pub live: LiveRows,
    /// Snapshots whose rows both sides have, and nobody knows which those are.
    pub unclear: &'a HashSet<i64>,
}

/// How many rows are left in files of which some are gone.
#[derive(Debug, Default)]
pub(super) struct LiveRows(HashMap<(String, Fingerprint), u64>);

impl LiveRows {
    /// Counts the rows of files that not all states have: only there does it tell an arrangement of rows
    /// from a change of them.
    pub async fn of(tables: &Tables, states: [&[File]; 3]) -> Result<LiveRows, Error> {
        let mut seen: HashMap<(&str, Fingerprint), (&File, usize)> = HashMap::new();
        for file in states.into_iter().flatten().filter(|file| file.has_deletes()) {
            seen.entry(file.state()).or_insert((file, 0)).1 += 1;
        }
        let differing = seen.into_values().filter(|(_, count)| *count < states.len());
        let files: Vec<File> = differing.map(|(file, _)| file.clone()).collect();
        let gone = tables.deleted_of_all(files.clone()).await?;
        let rows = files.iter().zip(gone).map(|(file, gone)| {
            (owned_state(file), file.rows - gone.map_or(0, |gone| gone.before(file.rows)))
        });
        Ok(LiveRows(rows.collect()))
    }

    fn count(&self, file: &File) -> u64 {
        // Most files have all of theirs.
        if file.has_deletes() {
            self.0.get(&owned_state(file)).copied().unwrap_or(file.rows)
        } else {
            file.rows
        }
    }
}

impl<'a> Files<'a> {
    /// The files of a side that the base does not have.
    pub fn added(&self, side: &'a [File]) -> Vec<&'a File> {
        let known = states(self.base);
        side.iter().filter(|file| !known.contains(&file.state())).collect()
    }
}

/// What becomes of data files.
#[derive(Debug, Default)]
pub(super) struct FilePlan {
    /// Theirs, which we take as they are.
    pub taken: Vec<File>,
    /// Ours, which go.
    pub dropped: Vec<File>,
    /// Those that both sides changed, whose rows tell what becomes of them.
    pub groups: Vec<Group>,
    /// What each side did to files beside those.
    pub elsewhere: [Replaced; 2],
    /// What each side did to files, where it did more than to add rows and arrange them.
    pub replaced: [Replaced; 2],
    /// Whether files of ours go for theirs that hold what rows come to.
    pub settles: bool,
    /// How far their changes reach.
    pub reach: Reach,
}

/// Files that a side has others for.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    pub gone: Vec<File>,
    /// Those that do not only hold rows which were added.
    pub come: Vec<File>,
}

/// Files of one partition that hold rows which both sides may have changed. Rows that are in no file of
/// any of the three lists were changed by nobody.
#[derive(Debug, Default, Clone)]
pub(super) struct Group {
    pub base: Vec<File>,
    pub ours: Vec<File>,
    pub theirs: Vec<File>,
    /// Whether rows may have moved from it to other partitions.
    pub leaks: bool,
    /// Whether both sides only added rows and arranged them anew.
    pub tidy: bool,
    /// Whether rows that both have may be the same.
    pub unclear: bool,
}

/// What a side did to files since the base.
struct Change<'a> {
    side: Side,
    added: Vec<&'a File>,
    removed: Vec<&'a File>,
    history: History,
    live: &'a LiveRows,
}

impl<'a> Change<'a> {
    fn new(side: Side, all: &'a Files<'_>, history: History) -> Self {
        let (base, live) = (all.base, &all.live);
        let files = match side {
            Side::Ours => all.ours,
            Side::Theirs => all.theirs,
        };
        let (known, here) = (states(base), states(files));
        let not_in = |set: &HashSet<State<'_>>, file: &File| !set.contains(&file.state());
        let added = files.iter().filter(|file| not_in(&known, file)).collect();
        let removed: Vec<&File> = base.iter().filter(|file| not_in(&here, file)).collect();
        let mut change = Change { side, added, removed, history, live };
        if !change.history.complete {
            let replaced = change.left_nothing_of(base);
            change.history.reach = std::mem::take(&mut change.history.reach).and(replaced);
        }
        change
    }

    /// The partitions that the side touched and left no file of, which it may have replaced.
    fn left_nothing_of(&self, base: &'a [File]) -> Reach {
        let gone = states_of(&self.removed);
        let left = base.iter().filter(|file| !gone.contains(&file.state()));
        let left: BTreeSet<&String> = left.map(|file| &file.partition).collect();
        let touched = self.added.iter().chain(&self.removed).map(|file| &file.partition);
        let nothing: BTreeSet<String> =
            touched.filter(|partition| !left.contains(partition)).cloned().collect();
        if nothing.is_empty() {
            Reach::Rows
        } else if left.is_empty() && (!base.is_empty() || nothing.contains("")) {
            Reach::All
        } else {
            Reach::Partitions(nothing)
        }
    }

    /// Whether the file holds rows that were not there before, and no other.
    fn appended(&self, file: &File) -> bool {
        file.entry.snapshot_id.is_some_and(|id| self.history.appends.contains(&id))
    }

    /// The files that the side has others for, and those, as far as they are wanted.
    fn replaced(&self, wanted: impl Fn(&&&File) -> bool) -> Replaced {
        let come = self.added.iter().filter(&wanted).filter(|file| !self.appended(file));
        Replaced { gone: owned(self.removed.iter().filter(&wanted)), come: owned(come) }
    }

    /// The files whose rows are not just arranged otherwise.
    fn changed(&self) -> Vec<&'a File> {
        let gained = self.gained();
        let counts = |file: &&&File| !self.history.tidies || gained.contains(&key(file));
        let added = self.added.iter().filter(|file| self.appended(file) || counts(file));
        added.chain(self.removed.iter().filter(counts)).copied().collect()
    }

    /// The partitions in which files that came in place of others hold more rows than those: rows that
    /// were added before they were arranged.
    fn gained(&self) -> HashSet<Key> {
        let mut rows: HashMap<Key, i128> = HashMap::new();
        for file in self.added.iter().filter(|file| !self.appended(file)) {
            *rows.entry(key(file)).or_default() += i128::from(self.live.count(file));
        }
        for file in &self.removed {
            *rows.entry(key(file)).or_default() -= i128::from(self.live.count(file));
        }
        rows.into_iter().filter(|(_, rows)| *rows != 0).map(|(key, _)| key).collect()
    }

    /// The partitions that its changes were meant for as a whole.
    fn partitions(&self) -> BTreeSet<String> {
        match &self.history.reach {
            Reach::Partitions(partitions) => partitions.clone(),
            Reach::ChangedPartitions => {
                let files = self.added.iter().chain(&self.removed);
                files.map(|file| file.partition.clone()).collect()
            }
            Reach::Rows | Reach::All => BTreeSet::new(),
        }
    }

    /// The clash with what the other side did, where this side's changes were meant for more rows than
    /// those that it changed.
    fn outreach(&self, other: &Change<'_>) -> Option<Clash> {
        let mut files: Vec<File> = other.changed().into_iter().cloned().collect();
        let replaced = self.partitions();
        let partitions = match self.history.reach {
            Reach::Rows => return None,
            Reach::All => None,
            Reach::Partitions(_) | Reach::ChangedPartitions => {
                // Of a file of another spec, its partition does not tell whether it is concerned.
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
        Some(Clash::about(Cause::Replaced { side: self.side, partitions }, files))
    }
}

/// Whether two partitions are of the same fields.
fn of_one_kind(one: &str, other: &str) -> bool {
    let fields = |partition: &'_ str| -> Vec<String> {
        let parts = partition.split('/').filter_map(|part| part.split_once('='));
        parts.map(|(field, _)| field.to_owned()).collect()
    };
    fields(one) == fields(other)
}

impl FilePlan {
    /// Merges the files, or says what clashes.
    pub fn merge(files: &Files<'_>, [ours, theirs]: [History; 2]) -> Result<FilePlan, Box<Clash>> {
        let ours = Change::new(Side::Ours, files, ours);
        let theirs = Change::new(Side::Theirs, files, theirs);
        if let Some(clash) = ours.outreach(&theirs).or_else(|| theirs.outreach(&ours)) {
            return Err(Box::new(clash));
        }
        let mut groups = group(files.base, &ours, &theirs);
        let reach = theirs.history.reach.clone();
        let mut plan = FilePlan { reach, ..FilePlan::default() };
        let here = states(files.ours);
        let grouped: HashSet<(String, Fingerprint)> = groups
            .values()
            .flat_map(|group| group.base.iter().chain(&group.ours).chain(&group.theirs))
            .map(owned_state)
            .collect();
        let free = |file: &&&File| !grouped.contains(&owned_state(file));
        let is_here = |file: &&File| here.contains(&file.state());
        plan.taken = owned(theirs.added.iter().filter(free).filter(|file| !is_here(file)));
        let snapshot = |file: &File| file.entry.snapshot_id;
        let is_new = |file: &File| {
            theirs.appended(file) && snapshot(file).is_some_and(|id| !files.unclear.contains(&id))
        };
        let doubtful = plan.taken.iter().filter(|file| !is_new(file));
        let doubtful: Vec<File> = doubtful.filter(|_| !files.unclear.is_empty()).cloned().collect();
        if !doubtful.is_empty() {
            return Err(Box::new(Clash::about(Cause::Picked, doubtful)));
        }
        plan.dropped = owned(theirs.removed.iter().filter(free).filter(|file| is_here(file)));
        plan.elsewhere = [&ours, &theirs].map(|change| change.replaced(free));
        plan.replaced = [&ours, &theirs].map(|change| {
            if change.history.tidies { Replaced::default() } else { change.replaced(|_| true) }
        });
        for mut group in std::mem::take(&mut groups).into_values() {
            group.unclear = !files.unclear.is_empty();
            match group.arranged(&ours, &theirs) {
                Some(Side::Ours) => plan.take_theirs(&group),
                Some(Side::Theirs) => {}
                None => plan.groups.push(group),
            }
        }
        Ok(plan)
    }

    /// Takes their files of a group in place of ours.
    pub fn take_theirs(&mut self, group: &Group) {
        self.settles = true;
        let (ours, theirs) = (states(&group.ours), states(&group.theirs));
        let lacks = |set: &HashSet<State<'_>>, file: &&File| !set.contains(&file.state());
        self.taken.extend(group.theirs.iter().filter(|file| lacks(&ours, file)).cloned());
        self.dropped.extend(group.ours.iter().filter(|file| lacks(&theirs, file)).cloned());
    }
}

impl Group {
    /// The side that only arranged the group's rows otherwise, where one did.
    fn arranged(&self, ours: &Change<'_>, theirs: &Change<'_>) -> Option<Side> {
        let rows = |files: &[File]| files.iter().map(|file| ours.live.count(file)).sum::<u64>();
        // Rows that were added before they were arranged would show in the count.
        let tidies = |change: &Change<'_>, files: &[File]| {
            change.history.tidies && rows(files) == rows(&self.base)
        };
        if tidies(theirs, &self.theirs) {
            return Some(Side::Theirs);
        }
        tidies(ours, &self.ours).then_some(Side::Ours)
    }
}

/// The files that both sides changed, by partition, with those that came in their place.
fn group(base: &[File], ours: &Change<'_>, theirs: &Change<'_>) -> BTreeMap<Key, Group> {
    let removed: HashMap<State<'_>, &File> =
        ours.removed.iter().map(|file| (file.state(), *file)).collect();
    let contested: Vec<&File> =
        theirs.removed.iter().filter(|file| removed.contains_key(&file.state())).copied().collect();
    if contested.is_empty() {
        return BTreeMap::new();
    }
    let replacing = |change: &Change<'_>| -> Vec<File> {
        owned(change.added.iter().filter(|file| !change.appended(file)))
    };
    let (our_new, their_new) = (replacing(ours), replacing(theirs));
    // Where rows may have moved between partitions of different kinds, they are looked at together.
    let files = base.iter().chain(&our_new).chain(&their_new);
    let specs: HashSet<i32> = files.map(|file| file.spec_id).collect();
    let key = |file: &File| match specs.len() {
        1 => key(file),
        _ => (0, String::new()),
    };
    let mut groups: BTreeMap<Key, Group> =
        contested.iter().map(|file| (key(file), Group::default())).collect();
    let (gone_here, gone_there) = (states_of(&ours.removed), states_of(&theirs.removed));
    for file in base {
        let Some(group) = groups.get_mut(&key(file)) else { continue };
        let here = !gone_here.contains(&file.state());
        let there = !gone_there.contains(&file.state());
        if here && there {
            continue;
        }
        group.base.push(file.clone());
        if here {
            group.ours.push(file.clone());
        }
        if there {
            group.theirs.push(file.clone());
        }
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
        group.leaks = new < all;
        group.tidy = ours.history.tidies && theirs.history.tidies;
    }
    groups
}

fn key(file: &File) -> Key {
    (file.spec_id, file.partition.clone())
}

/// Where a file lies, and which rows of it are gone.
pub(super) fn owned_state(file: &File) -> (String, Fingerprint) {
    (file.location.clone(), file.state().1)
}

fn states(files: &[File]) -> HashSet<State<'_>> {
    files.iter().map(|file| file.state()).collect()
}

fn states_of<'a>(files: &[&'a File]) -> HashSet<State<'a>> {
    files.iter().map(|file| file.state()).collect()
}

fn owned<'a, 'b: 'a>(files: impl Iterator<Item = &'a &'b File>) -> Vec<File> {
    files.map(|file| File::clone(file)).collect()
}
