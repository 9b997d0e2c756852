//! The merge of two states of a table: a plan for files, and for rows in files that both sides
//! changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use headwater_tables::{
    ChangeScope, CommitKind, DataFile, Error, LAST_UPDATED, ROW_ID, Result, ScanPlan,
    SnapshotAncestry, Table, Tables, edited_metadata, has_row_ids,
};
use iceberg::spec::{Datum, FormatVersion, PrimitiveLiteral, StructType, TableMetadata};

use crate::conflict::{Cause, Conflict, MergeSide};
use crate::files::{FileMergeGroup, FilePlan, LiveRowCounts, MergeFiles};
use crate::included_changes::IncludedChanges;
use crate::key_conflicts;
use crate::lost_updates::{self, SideChange};
use crate::merge_inputs::{EqualChanges, MergeInputs};
use crate::metadata::{MergeStates, MergedMetadata};
use crate::multiset_merge::{GroupResult, MergedGroup, RowBudget, RowMerger};
use crate::row_lineage::BaseCounters;
use crate::side_history::{MergeAncestry, SideHistory};
use crate::summary::ReplayedChanges;

/// The result of merging two states of a table.
#[derive(Debug)]
pub enum TableMergeResult {
    /// Our side already has the merged state, so there is nothing to commit.
    Ours,
    /// The merge, which is committed with [`TableMerge::commit`].
    Both(Box<TableMerge>),
    /// The changes conflict.
    Conflicts(Vec<Conflict>),
}

/// A merge that was computed, but is not committed yet.
#[derive(Debug)]
pub struct TableMerge {
    pub(crate) base: Table,
    pub(crate) ours: Table,
    pub(crate) theirs: Table,
    /// The merged table without rows. The merge reads and writes rows with this table's schema.
    pub(crate) merged_table: Table,
    pub(crate) shape: MergedMetadata,
    pub(crate) files_to_add: Vec<Arc<DataFile>>,
    pub(crate) files_to_remove: Vec<Arc<DataFile>>,
    pub(crate) rewrites: Vec<RowsToWrite>,
    pub(crate) reach: ChangeScope,
    pub(crate) kind: CommitKind,
    pub(crate) rows: MergeCounts,
    /// True if their side has snapshots that are not ancestors of our side. The merge is then
    /// recorded even if it changes no row, so that later merges use the merged state as their base.
    pub(crate) records: bool,
    /// The changes that are replayed or reverted, if the merge is a cherry-pick or revert.
    pub(crate) again: ReplayedChanges,
    /// True if too few snapshots are known. Our side may then already have some of the added rows.
    pub(crate) doubtful: bool,
    /// False for the change of one commit that is applied to a branch; true for a merge of
    /// branches.
    pub(crate) of_branches: bool,
    /// True if the merge is committed as an ordinary change of our side, whose snapshot does not
    /// record the other side.
    pub(crate) goes_on: bool,
    /// The side whose data files are exactly the data files of the merged table, if there is one.
    pub(crate) rows_of: Option<MergeSide>,
    /// The counters of the last common snapshot. Rows of their side keep only ids and sequence
    /// numbers that were assigned up to that snapshot.
    pub(crate) base_counters: BaseCounters,
    /// For each change, such as a cherry-picked one, that both sides contain and the base does not:
    /// the summary properties of the snapshot before the change and of the snapshot that made it.
    pub(crate) shared: Vec<[HashMap<String, String>; 2]>,
}

/// The numbers of rows and files that a merge changes on our side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeCounts {
    /// Number of rows in added files, and in files that were rewritten because both sides changed
    /// them.
    pub rows_added: u64,
    /// Number of removed rows.
    pub rows_removed: u64,
    /// Number of data files added from the other side.
    pub files_added: u64,
    /// Number of data files of our side that are removed.
    pub files_removed: u64,
    /// True if the numbers of rows include unchanged rows, because whole files were rewritten.
    pub whole_files: bool,
}

/// Rows that the merge has to write.
#[derive(Debug)]
pub(crate) enum RowsToWrite {
    /// The merged rows of a group of files that both sides changed.
    Group(MergedGroup),
    /// All rows of files from the other side that have deleted rows, or in which column ids differ
    /// from those of the merged table.
    RewriteAll(Vec<Arc<DataFile>>),
}

impl TableMerge {
    /// Returns the numbers of changed rows and files.
    pub fn rows(&self) -> MergeCounts {
        self.rows
    }

    /// Returns true if rows are only added.
    pub fn only_adds(&self) -> bool {
        self.kind == CommitKind::Append
    }

    /// Returns true if our side may already have some of the added rows. Older snapshots are then
    /// unknown, so a commit may have been cherry-picked from one side to the other.
    pub fn may_repeat(&self) -> bool {
        self.doubtful && self.rows.rows_added > 0
    }

    /// Returns true if columns, partition fields, the sort order or properties of our side change.
    pub fn changes_metadata(&self) -> bool {
        !self.shape.is_ours()
    }
}

/// Merges two states of a table with their merge base. Reads metadata, and the rows of files that
/// both sides changed. Nothing is written.
pub async fn merge(
    tables: &Tables,
    states: MergeInputs<'_>,
    budget: &mut RowBudget,
) -> Result<TableMergeResult> {
    let MergeInputs { base, ours, theirs, equal_changes } = states;
    let three =
        MergeStates { base: base.metadata(), ours: ours.metadata(), theirs: theirs.metadata() };
    if three.ours.uuid() != three.theirs.uuid() || three.base.uuid() != three.ours.uuid() {
        return Ok(TableMergeResult::Conflicts(vec![Conflict::new(Cause::Recreated)]));
    }
    let mut past = MergeAncestry::read(tables, base, [ours, theirs]).boxed().await;
    let known = past.read_merged(tables).boxed().await;
    let doubtful = !known || past.sides.iter().any(|side| IncludedChanges::of(side).unclear);
    let again = ReplayedChanges::of(&past.base, &past.sides[1]);
    let base_plan = tables.plan(base, None).await?;
    let [our_plan, their_plan] = [tables.plan(ours, None).await?, tables.plan(theirs, None).await?];
    let common = past.common(tables, base_plan.files()).boxed().await?;
    let histories = past.histories(&common);
    if let Some(conflict) = recreated(three, &histories) {
        return Ok(TableMergeResult::Conflicts(vec![conflict]));
    }
    let mut conflicts = Vec::new();
    let shape = MergedMetadata::merge(three, &mut conflicts)?;
    if shape.as_ref().is_some_and(|shape| shape.mixes_column_ids(&common)) {
        conflicts.push(Conflict::new(Cause::DuplicateCherryPick));
    }
    let base_files = common.base.as_slice();
    let [our_files, their_files] = [&our_plan, &their_plan].map(ScanPlan::files);
    let files = MergeFiles {
        base: base_files,
        ours: our_files,
        theirs: their_files,
        live: LiveRowCounts::of(tables, [base_files, our_files, their_files]).boxed().await?,
        unclear: &common.unclear,
        equal_changes,
    };
    let source_only_appends_or_compacts = histories[1].only_appends_or_compacts;
    let changes_keys = !key_conflicts::no_key_changed(&histories);
    let base_counters = BaseCounters::read(tables, &mut past, three.ours).boxed().await;
    let plan = match FilePlan::merge(&files, histories) {
        Ok(plan) => plan,
        Err(conflict) => {
            conflicts.push(*conflict);
            return Ok(TableMergeResult::Conflicts(conflicts));
        }
    };
    let (Some(shape), true) = (shape, conflicts.is_empty()) else {
        return Ok(TableMergeResult::Conflicts(conflicts));
    };
    let merged_table = match merged_table(ours, &shape) {
        Ok(merged_table) => merged_table,
        Err(conflict) => return Ok(TableMergeResult::Conflicts(vec![*conflict])),
    };
    conflicts.extend(check_nulls(&shape, &files));
    conflicts.extend(check_rows(tables, states, &merged_table, &plan, budget).await?);
    let mut merge = TableMerge::new(states, merged_table, shape);
    merge.reach = plan.reach.clone();
    merge.records = !SnapshotAncestry::of(ours).descends_from(&SnapshotAncestry::of(theirs));
    merge.again = again;
    merge.doubtful = doubtful;
    merge.base_counters = base_counters;
    merge.shared = past.shared_properties(&common.same);
    let groups = GroupMerger { source_only_appends_or_compacts, conflicts, budget: &mut *budget };
    match merge.merge_groups(tables, plan, groups).await? {
        TableMergeResult::Both(mut merge) => {
            merge.rows_of = merge.side_of_rows(&files);
            key_conflicts::checked(tables, merge, &files, changes_keys, budget).boxed().await
        }
        other => Ok(other),
    }
}

/// Returns the conflicts about values in dropped columns, and about the format version.
async fn check_rows(
    tables: &Tables,
    states: MergeInputs<'_>,
    merged_table: &Table,
    plan: &FilePlan,
    budget: &mut RowBudget,
) -> Result<Vec<Conflict>> {
    let mut conflicts = Vec::new();
    let sides = [(MergeSide::Ours, states.ours), (MergeSide::Theirs, states.theirs)];
    for ((side, table), replaced) in sides.into_iter().zip(&plan.replaced) {
        let (base, merged) = (states.base.metadata(), merged_table.metadata());
        let change = SideChange { base, merged, side, table, replaced };
        conflicts.extend(lost_updates::check(tables, &change, budget).boxed().await?);
    }
    if merged_table.metadata().format_version() == FormatVersion::V1 {
        let reason = Error::OldFormat { version: "1" }.to_string();
        conflicts.push(Conflict::new(Cause::Schema { reason }));
    }
    Ok(conflicts)
}

/// The context for merging the groups of files that both sides changed.
struct GroupMerger<'a> {
    /// True if their side, the source of the merge, only appended rows and compacted files.
    source_only_appends_or_compacts: bool,
    /// The conflicts that were found so far.
    conflicts: Vec<Conflict>,
    budget: &'a mut RowBudget,
}

impl TableMerge {
    fn new(states: MergeInputs<'_>, merged_table: Table, shape: MergedMetadata) -> Self {
        TableMerge {
            base: states.base.clone(),
            ours: states.ours.clone(),
            theirs: states.theirs.clone(),
            merged_table,
            shape,
            files_to_add: Vec::new(),
            files_to_remove: Vec::new(),
            rewrites: Vec::new(),
            reach: ChangeScope::Rows,
            kind: CommitKind::Modify,
            rows: MergeCounts::default(),
            records: false,
            again: ReplayedChanges::default(),
            doubtful: false,
            of_branches: true,
            goes_on: false,
            rows_of: None,
            base_counters: BaseCounters::default(),
            shared: Vec::new(),
        }
    }

    async fn merge_groups(
        mut self,
        tables: &Tables,
        mut plan: FilePlan,
        context: GroupMerger<'_>,
    ) -> Result<TableMergeResult> {
        let GroupMerger { source_only_appends_or_compacts, mut conflicts, budget } = context;
        let merger = self.row_merger(tables);
        let groups = std::mem::take(&mut plan.groups);
        let mut only_deletes = None;
        for group in &groups {
            let mut result = merger.merge_group(group, budget).await?;
            let may_split = group.rows_may_move && group.equal_changes == EqualChanges::Merge;
            if matches!(result, GroupResult::Conflict(_)) && may_split {
                if only_deletes.is_none() {
                    only_deletes =
                        Some(merger.only_deletes(&groups, &plan.elsewhere, budget).await?);
                }
                if only_deletes == Some(true) {
                    // No row moved to another partition, so this group can be merged independently
                    // of the other groups.
                    let whole = FileMergeGroup { rows_may_move: false, ..group.clone() };
                    result = merger.merge_group(&whole, budget).await?;
                }
            }
            match result {
                GroupResult::Ours => {}
                GroupResult::Theirs => plan.take_theirs(group),
                GroupResult::Rows(merged) => {
                    self.rows.rows_added += merged.rows_added;
                    self.rows.rows_removed += merged.rows_removed;
                    self.rewrite_group(merged, &group.ours);
                }
                GroupResult::Conflict(conflict) => conflicts.push(conflict),
            }
        }
        if !conflicts.is_empty() {
            return Ok(TableMergeResult::Conflicts(conflicts));
        }
        let settles = plan.settles;
        self.count(tables, &plan).await?;
        self.add_files(plan);
        self.kind = self.kind(source_only_appends_or_compacts, settles);
        if !self.changes_files() && self.shape.is_ours() && !self.records {
            return Ok(TableMergeResult::Ours);
        }
        Ok(TableMergeResult::Both(Box::new(self)))
    }

    /// Returns a merger of the rows of both sides, in the columns of the merged table.
    pub(crate) fn row_merger<'t>(&self, tables: &'t Tables) -> RowMerger<'t> {
        let base = self.base.metadata();
        let schemas = self.shape.schemas(base, &self.merged_table.schema());
        let has_row_ids = has_row_ids(self.merged_table.metadata());
        RowMerger { tables, schemas, has_row_ids, base_counters: self.base_counters }
    }
}

/// Returns true if a file may have row ids or sequence numbers that were assigned after the last
/// common snapshot. Our side may have assigned the same values to different rows.
fn has_new_ids(file: &DataFile, base: BaseCounters) -> bool {
    let entry = &file.entry.data_file;
    let within = |id: i32, last: i128| {
        let nulls = entry.null_value_counts().get(&id);
        if nulls.is_some() && nulls == entry.value_counts().get(&id) {
            return true;
        }
        match entry.upper_bounds().get(&id).map(Datum::literal) {
            Some(PrimitiveLiteral::Long(bound)) => i128::from(*bound) <= last,
            _ => false,
        }
    };
    file.has_column(ROW_ID)
        && !(within(ROW_ID, i128::from(base.next_row_id) - 1)
            && within(LAST_UPDATED, i128::from(base.sequence_number)))
}

/// Returns a conflict if a side dropped the table and created it again. This affects all columns
/// and rows.
fn recreated(three: MergeStates<'_>, histories: &[SideHistory; 2]) -> Option<Conflict> {
    let both = three.schema_changed(MergeSide::Ours) && three.schema_changed(MergeSide::Theirs);
    let mut sides = [MergeSide::Ours, MergeSide::Theirs].into_iter().zip(histories);
    let (side, _) = sides.find(|(side, history)| {
        let base = three.base.current_schema().as_struct();
        both && history.reach == ChangeScope::All && dropped_columns(base, three.of(*side))
    })?;
    Some(Conflict::new(Cause::Replaced { side, partitions: None }))
}

/// Returns true if a side does not have all columns of the base.
fn dropped_columns(base: &StructType, side: &TableMetadata) -> bool {
    let columns = side.current_schema();
    base.fields().iter().any(|field| columns.field_by_id(field.id).is_none())
}

/// Returns the merged table without its rows, or a conflict if its metadata is invalid.
fn merged_table(ours: &Table, shape: &MergedMetadata) -> std::result::Result<Table, Box<Conflict>> {
    let edit = |builder| {
        shape.apply(builder).map_err(|error: iceberg::Error| Error::internal("merged", error))
    };
    match edited_metadata(ours, edit) {
        Ok(metadata) => Ok(ours.unstored(metadata)),
        Err(error) => Err(Box::new(Conflict::new(Cause::Schema { reason: error.to_string() }))),
    }
}

/// Returns the conflicts about nulls in columns that the other side made required.
fn check_nulls(shape: &MergedMetadata, files: &MergeFiles<'_>) -> Vec<Conflict> {
    let conflicts = shape.required().iter().filter_map(|required| {
        let added = match required.side {
            MergeSide::Ours => files.added(files.theirs),
            MergeSide::Theirs => files.added(files.ours),
        };
        let lacks = |file: &&Arc<DataFile>| {
            (file.has_column(required.id) || !required.has_default)
                && file.null_count(required.id) != Some(0)
        };
        let lacking: Vec<_> = added.into_iter().filter(lacks).cloned().collect();
        let cause = Cause::Nulls { column: required.name.clone(), side: required.side };
        (!lacking.is_empty()).then(|| Conflict::about(cause, lacking))
    });
    conflicts.collect()
}

impl TableMerge {
    /// Adds the rewritten rows of a group and removes our files of the group.
    fn rewrite_group(&mut self, merged: MergedGroup, ours: &[Arc<DataFile>]) {
        self.files_to_remove.extend(ours.iter().cloned());
        self.rewrites.push(RowsToWrite::Group(merged));
    }

    /// Counts the rows of added and removed files. For a file that only gets new deletes, only the
    /// newly deleted rows are counted.
    async fn count(&mut self, tables: &Tables, plan: &FilePlan) -> Result<()> {
        self.rows.rows_added += tables.deletes().live_rows(plan.files_to_add.clone()).await?;
        self.rows.rows_removed += tables.deletes().live_rows(plan.files_to_remove.clone()).await?;
        let files_to_remove: HashMap<&str, &Arc<DataFile>> =
            plan.files_to_remove.iter().map(|file| (file.location.as_str(), file)).collect();
        for file in &plan.files_to_add {
            if let Some(before) = files_to_remove.get(file.location.as_str()) {
                let after = tables.deletes().live_rows(vec![file.clone()]).await?;
                let both = after.min(tables.deletes().live_rows(vec![Arc::clone(before)]).await?);
                self.rows.rows_added -= both;
                self.rows.rows_removed -= both;
            }
        }
        let files_to_add: HashSet<&str> =
            plan.files_to_add.iter().map(|file| file.location.as_str()).collect();
        self.rows.whole_files |=
            files_to_add.iter().any(|file| !files_to_remove.contains_key(file))
                && files_to_remove.keys().any(|file| !files_to_add.contains(file));
        Ok(())
    }

    /// Adds the planned files to the merge. Files whose column ids differ from those of the merged
    /// table, and files with deletes, are rewritten.
    fn add_files(&mut self, plan: FilePlan) {
        let base_counters = self.base_counters;
        let needs_rewrite = |file: &Arc<DataFile>| {
            file.has_deletes()
                || self.shape.changes_ids_of(file)
                || has_new_ids(file, base_counters)
        };
        let (to_rewrite, files_to_add): (Vec<_>, Vec<_>) =
            plan.files_to_add.into_iter().partition(needs_rewrite);
        self.rows.files_added += (files_to_add.len() + to_rewrite.len()) as u64;
        self.rows.files_removed += plan.files_to_remove.len() as u64;
        self.files_to_add.extend(files_to_add);
        self.files_to_remove.extend(plan.files_to_remove);
        if !to_rewrite.is_empty() {
            self.rewrites.push(RowsToWrite::RewriteAll(to_rewrite));
        }
    }

    fn side_of_rows(&self, files: &MergeFiles<'_>) -> Option<MergeSide> {
        if !self.changes_files() {
            return Some(MergeSide::Ours);
        }
        if !self.rewrites.is_empty() {
            return None;
        }
        let mut here: HashSet<_> = files.ours.iter().map(|file| file.state()).collect();
        for file in &self.files_to_remove {
            here.remove(&file.state());
        }
        here.extend(self.files_to_add.iter().map(|file| file.state()));
        let same = here.len() == files.theirs.len()
            && files.theirs.iter().all(|file| here.contains(&file.state()));
        same.then_some(MergeSide::Theirs)
    }

    /// Returns true if files are added, removed or rewritten.
    pub(crate) fn changes_files(&self) -> bool {
        !(self.files_to_add.is_empty()
            && self.files_to_remove.is_empty()
            && self.rewrites.is_empty())
    }

    /// Returns the kind of the change. Added files can contain rows that our side already has in
    /// other files. The change is then not an append, even if it removes no file.
    fn kind(&self, source_only_appends_or_compacts: bool, settles: bool) -> CommitKind {
        if !self.changes_files() {
            CommitKind::Compact
        } else if self.files_to_remove.is_empty() && self.rewrites.is_empty() && !settles {
            CommitKind::Append
        } else if source_only_appends_or_compacts
            && self.rewrites.is_empty()
            && self.rows.rows_added == self.rows.rows_removed
        {
            CommitKind::Compact
        } else {
            CommitKind::Modify
        }
    }
}
