//! Three-way merge of two states of a table by content.
//!
//! Metadata, files and, where both sides changed the same files, rows are merged separately.
//! [`Tables::merge`] computes the result and writes nothing; [`Tables::apply_merge`] commits it to
//! our side. Incompatible changes are reported as [`Clash`]es with the affected files and rows.

mod clash;
mod columns;
mod common;
mod files;
pub(crate) mod history;
pub(crate) mod lineage;
mod lost;
mod paired;
mod record;
mod rows;
mod shape;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use iceberg::spec::{Datum, FormatVersion, ManifestContentType, PrimitiveLiteral, TableMetadata};

pub use self::clash::{Cause, Clash, Side};
use self::files::{FilePlan, Files, Group, LiveRows};
use self::history::{History, Past, Reach};
use self::lineage::Lineage;
pub use self::lineage::READ_UP_TO;
pub use self::paired::ChangedRow;
use self::record::ReplayedChanges;
pub use self::rows::RowBudget;
use self::rows::{GroupResult, MergedGroup, RowReader};
use self::shape::{Shape, Three};
use crate::commit::manifests::{Addition, Removal};
use crate::commit::{self, Change, Kind, stamp};
use crate::entry::with_row_id;
use crate::row_ids::{LAST_UPDATED, ROW_ID, has_row_ids};
use crate::storage::Undo;
use crate::{DataFile, Error, Result, ScanPlan, Staged, Table, Tables};

/// The result of merging two states of a table.
#[derive(Debug)]
pub enum Merged {
    /// Our side already has the result.
    Ours,
    /// A new state, to commit with [`Tables::apply_merge`].
    Both(Box<TableMerge>),
    /// The changes conflict.
    Clashes(Vec<Clash>),
}

/// A computed merge that is not yet committed.
#[derive(Debug)]
pub struct TableMerge {
    base: Table,
    ours: Table,
    theirs: Table,
    /// The merged table without its rows, to read and write rows for.
    merged_table: Table,
    shape: Shape,
    files_to_add: Vec<Arc<DataFile>>,
    files_to_remove: Vec<Arc<DataFile>>,
    rewrites: Vec<Rewrite>,
    reach: Reach,
    kind: Kind,
    rows: MergedRows,
    /// True if the other side has snapshots that ours does not descend from. Then the merge is
    /// recorded even if it changes no row, so that later changes are relative to it.
    records: bool,
    /// The replayed and reverted changes, if the merge applies a commit.
    again: ReplayedChanges,
    /// True if the history is too incomplete to exclude that added rows already exist.
    doubtful: bool,
    /// True if this merges two branches, not a branch and a commit's change.
    of_branches: bool,
    /// True if this is an ordinary change of our side.
    goes_on: bool,
    /// The side that has exactly the files of the merged table.
    rows_of: Option<Side>,
    /// The ids and sequence numbers that rows of theirs may keep: those assigned in the base.
    base_counters: BaseCounters,
}

/// The next row id and the last sequence number of a table.
type BaseCounters = (u64, i64);

/// Counts of the changes of our side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergedRows {
    /// Rows in added files, and in rewritten files that both sides changed.
    pub rows_added: u64,
    /// Removed rows.
    pub rows_removed: u64,
    /// Data files added from the other side.
    pub files_added: u64,
    /// Data files of ours that are removed.
    pub files_removed: u64,
    /// True if unchanged rows are counted as added and removed, because they were rewritten.
    pub whole_files: bool,
}

/// Rows to write.
#[derive(Debug)]
enum Rewrite {
    /// The merged rows of a group.
    Group(MergedGroup),
    /// All rows of files of theirs with other column ids, or with deleted rows.
    RewriteAll(Vec<Arc<DataFile>>),
}

/// A committed merge.
#[derive(Debug)]
pub struct MadeMerge {
    /// The new state of our side.
    pub table: Table,
    /// The data files written.
    pub staged: Vec<Staged>,
}

impl TableMerge {
    /// Returns the counts of changed rows and files.
    pub fn rows(&self) -> MergedRows {
        self.rows
    }

    /// Returns true if rows are only added.
    pub fn only_adds(&self) -> bool {
        self.kind == Kind::Append
    }

    /// Returns true if added rows may already exist, because a commit may have been cherry-picked
    /// between the sides and older snapshots are unknown.
    pub fn may_repeat(&self) -> bool {
        self.doubtful && self.rows.rows_added > 0
    }

    /// Returns true if columns, partition fields, sort order or properties of our side change.
    pub fn reshapes(&self) -> bool {
        !self.shape.is_ours()
    }
}

impl Tables {
    /// Computes the merge of two states of a table with the merge base `base`. Reads metadata, and
    /// rows of files that both sides changed. Writes nothing.
    pub async fn merge(
        &self,
        base: &Table,
        ours: &Table,
        theirs: &Table,
        budget: &mut RowBudget,
    ) -> Result<Merged> {
        let three =
            Three { base: base.metadata(), ours: ours.metadata(), theirs: theirs.metadata() };
        if three.ours.uuid() != three.theirs.uuid() || three.base.uuid() != three.ours.uuid() {
            return Ok(Merged::Clashes(vec![Clash::new(Cause::Identity)]));
        }
        let mut past = Past::read(self, base, [ours, theirs]).boxed().await;
        let known = past.read_merged(self).boxed().await;
        let doubtful = !known || past.sides.iter().any(|side| side.contained_changes().unclear);
        let again = ReplayedChanges::of(&past.base, &past.sides[1]);
        let plans = (
            self.plan(base, None).await?,
            self.plan(ours, None).await?,
            self.plan(theirs, None).await?,
        );
        let common = past.common(self, plans.0.files()).boxed().await?;
        let histories = past.histories(&common.same);
        if let Some(clash) = recreated(three, &histories) {
            return Ok(Merged::Clashes(vec![clash]));
        }
        let mut clashes = Vec::new();
        let shape = Shape::merge(three, &mut clashes)?;
        if shape.as_ref().is_some_and(|shape| shape.mixes(&common)) {
            clashes.push(Clash::new(Cause::Picked));
        }
        let base_files = common.base.as_slice();
        let [our_files, their_files] = [&plans.1, &plans.2].map(ScanPlan::files);
        let live = LiveRows::of(self, [base_files, our_files, their_files]).boxed().await?;
        let unclear = &common.unclear;
        let files = Files { base: base_files, ours: our_files, theirs: their_files, live, unclear };
        let compacts = histories[1].only_appends_or_compacts;
        // If ours does not descend from the base, it may have assigned the same ids to its own
        // rows.
        let base_counters = if histories[0].from_base { base_counters(three.base) } else { (0, 0) };
        let plan = match FilePlan::merge(&files, histories) {
            Ok(plan) => plan,
            Err(clash) => {
                clashes.push(*clash);
                return Ok(Merged::Clashes(clashes));
            }
        };
        let (Some(shape), true) = (shape, clashes.is_empty()) else {
            return Ok(Merged::Clashes(clashes));
        };
        let merged_table = match merged_table(ours, &shape) {
            Ok(merged_table) => merged_table,
            Err(clash) => return Ok(Merged::Clashes(vec![*clash])),
        };
        clashes.extend(check_nulls(&shape, &files));
        let sides = [(Side::Ours, ours), (Side::Theirs, theirs)];
        for (side, replaced) in sides.into_iter().zip(&plan.replaced) {
            let states = (three.base, merged_table.metadata());
            clashes.extend(lost::check(self, states, side, replaced, budget).boxed().await?);
        }
        if merged_table.metadata().format_version() == FormatVersion::V1 {
            let reason = Error::OldFormat { version: "1" }.to_string();
            clashes.push(Clash::new(Cause::Shape { reason }));
        }
        let merge = TableMerge {
            base: base.clone(),
            ours: ours.clone(),
            theirs: theirs.clone(),
            merged_table,
            shape,
            files_to_add: Vec::new(),
            files_to_remove: Vec::new(),
            rewrites: Vec::new(),
            reach: plan.reach.clone(),
            kind: Kind::Modify,
            rows: MergedRows::default(),
            records: !Lineage::of(ours).descends_from(&Lineage::of(theirs)),
            again,
            doubtful,
            of_branches: true,
            goes_on: false,
            rows_of: None,
            base_counters,
        };
        match self.merge_groups(merge, plan, (compacts, clashes), budget).await? {
            Merged::Both(mut merge) => {
                merge.rows_of = merge.side_of_rows(&files);
                Ok(Merged::Both(merge))
            }
            other => Ok(other),
        }
    }

    /// Returns true if the changes since a state of a table only compacted rows; if `appends`, they
    /// may also have appended some.
    pub async fn only_arranged(&self, base: &Table, now: &Table, appends: bool) -> bool {
        let (before, after) = (base.metadata(), now.metadata());
        let same_shape = before.uuid() == after.uuid()
            && before.current_schema_id() == after.current_schema_id()
            && before.default_partition_spec_id() == after.default_partition_spec_id()
            && before.properties() == after.properties();
        if !same_shape {
            return false;
        }
        if base.snapshot_id() == now.snapshot_id() {
            return true;
        }
        let past = Past::read(self, base, [now, base]).boxed().await;
        let [history, _] = past.histories(&HashSet::new());
        history.only_appends_or_compacts
            && history.compacts
            && (appends || history.appends.is_empty())
    }

    async fn merge_groups(
        &self,
        mut merge: TableMerge,
        mut plan: FilePlan,
        (compacts, mut clashes): (bool, Vec<Clash>),
        budget: &mut RowBudget,
    ) -> Result<Merged> {
        let reader = self.reader(&merge);
        let groups = std::mem::take(&mut plan.groups);
        let mut only_deletes = None;
        for group in &groups {
            let mut result = reader.merge_group(group, budget).await?;
            if matches!(result, GroupResult::Clash(_)) && group.rows_may_move {
                if only_deletes.is_none() {
                    only_deletes =
                        Some(reader.only_deletes(&groups, &plan.elsewhere, budget).await?);
                }
                if only_deletes == Some(true) {
                    // No row moved to another partition.
                    let whole = Group { rows_may_move: false, ..group.clone() };
                    result = reader.merge_group(&whole, budget).await?;
                }
            }
            match result {
                GroupResult::Ours => {}
                GroupResult::Theirs => plan.take_theirs(group),
                GroupResult::Rows(merged) => {
                    merge.rows.rows_added += merged.rows_added;
                    merge.rows.rows_removed += merged.rows_removed;
                    merge.rewrite_group(merged, &group.ours);
                }
                GroupResult::Clash(clash) => clashes.push(clash),
            }
        }
        if !clashes.is_empty() {
            return Ok(Merged::Clashes(clashes));
        }
        let settles = plan.settles;
        merge.count(self, &plan).await?;
        merge.add_files(plan);
        merge.kind = merge.kind(compacts, settles);
        if !merge.changes_files() && merge.shape.is_ours() && !merge.records {
            return Ok(Merged::Ours);
        }
        Ok(Merged::Both(Box::new(merge)))
    }

    /// Creates a budget of rows to compare, part of which is already used.
    pub fn row_budget(&self, spent: u64) -> RowBudget {
        RowBudget::new(self.options().merge_rows_max, spent)
    }

    fn reader(&self, merge: &TableMerge) -> RowReader<'_> {
        let base = merge.base.metadata();
        let schemas = merge.shape.schemas(base, &merge.merged_table.schema());
        let has_row_ids = has_row_ids(merge.merged_table.metadata());
        RowReader { tables: self, schemas, has_row_ids, base_counters: merge.base_counters }
    }

    /// Commits a merge to our side; `summary` is added to its snapshot's summary. On failure,
    /// deletes what it wrote.
    pub async fn apply_merge(
        &self,
        merge: &TableMerge,
        summary: BTreeMap<String, String>,
    ) -> Result<MadeMerge> {
        let mut undo = Undo::new(Arc::clone(self.storage()));
        let mut staged = Vec::new();
        for rewrite in &merge.rewrites {
            match self.rewrite(merge, rewrite).await {
                Ok(written) => {
                    written.locations().for_each(|location| undo.add(location.to_owned()));
                    staged.push(written);
                }
                Err(error) => {
                    undo.run().await;
                    return Err(error);
                }
            }
        }
        match self.commit_merge(merge, &staged, summary).await {
            Ok(table) => {
                undo.keep();
                Ok(MadeMerge { table, staged })
            }
            Err(error) => {
                undo.run().await;
                Err(error)
            }
        }
    }

    async fn rewrite(&self, merge: &TableMerge, rewrite: &Rewrite) -> Result<Staged> {
        let reader = self.reader(merge);
        let rows = match rewrite {
            Rewrite::Group(group) => reader.rows_of(group)?,
            Rewrite::RewriteAll(files) => reader.all_of_theirs(files)?,
        };
        self.write(&merge.merged_table, rows).await
    }

    async fn commit_merge(
        &self,
        merge: &TableMerge,
        staged: &[Staged],
        mut summary: BTreeMap<String, String>,
    ) -> Result<Table> {
        let shape = |builder| {
            merge.shape.apply(builder).map_err(|error| commit::evolve::rejected("merged", &error))
        };
        if !merge.changes_files() && !merge.records {
            return commit::store_metadata(self, &merge.ours, shape).await;
        }
        summary.extend(merge.record());
        let (builder, after) = merge.builder()?;
        let change = Change {
            removal: Removal::files(&merge.files_to_remove),
            staged: Staged::all(staged),
            additions: merge.additions(&after)?,
            kind: merge.kind,
            reach: merge.reach.clone(),
            dangling: Vec::new(),
            summary,
        };
        change.commit(self, &merge.ours, &after, builder).await
    }
}

fn base_counters(metadata: &TableMetadata) -> BaseCounters {
    (metadata.next_row_id(), metadata.last_sequence_number())
}

/// Returns true if a file may have row ids or sequence numbers assigned since the base, which our
/// side may have assigned as well.
fn has_new_ids(file: &DataFile, (next_row_id, sequence_number): BaseCounters) -> bool {
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
        && !(within(ROW_ID, i128::from(next_row_id) - 1)
            && within(LAST_UPDATED, i128::from(sequence_number)))
}

/// Returns the first row id of a file, if all its ids were assigned in the base.
fn known_ids(file: &DataFile, (next_row_id, _): BaseCounters) -> Option<i64> {
    let first = file.entry.data_file.first_row_id()?;
    let end = u64::try_from(first).ok()?.checked_add(file.rows)?;
    (end <= next_row_id).then_some(first)
}

/// Returns the conflict with a side that recreated the table, and so intended both its columns and
/// its rows.
fn recreated(three: Three<'_>, histories: &[History; 2]) -> Option<Clash> {
    let both = three.reshaped(Side::Ours) && three.reshaped(Side::Theirs);
    let mut sides = [Side::Ours, Side::Theirs].into_iter().zip(histories);
    let (side, _) = sides.find(|(side, history)| {
        let base = three.base.current_schema().as_struct();
        both && history.reach == Reach::All && dropped_columns(base, three.of(*side))
    })?;
    Some(Clash::new(Cause::Replaced { side, partitions: None }))
}

/// Returns true if a side lacks a column of the base.
fn dropped_columns(base: &iceberg::spec::StructType, side: &TableMetadata) -> bool {
    let columns = side.current_schema();
    base.fields().iter().any(|field| columns.field_by_id(field.id).is_none())
}

/// Returns the merged table without its rows, or a conflict if its metadata is invalid.
fn merged_table(ours: &Table, shape: &Shape) -> std::result::Result<Table, Box<Clash>> {
    let made = stamp::detach_logs(ours.metadata()).and_then(|(bare, _)| {
        let rejected = |error: iceberg::Error| Error::internal("merged", error);
        commit::build(shape.apply(bare.into_builder(None)).map_err(rejected)?)
    });
    match made {
        Ok(metadata) => {
            Ok(Table::new(ours.metadata_location().to_owned(), metadata, ours.totals(), 0))
        }
        Err(error) => Err(Box::new(Clash::new(Cause::Shape { reason: error.to_string() }))),
    }
}

/// Returns the conflicts about nulls in columns that the other side made required.
fn check_nulls(shape: &Shape, files: &Files<'_>) -> Vec<Clash> {
    let clashes = shape.required().iter().filter_map(|required| {
        let added = match required.side {
            Side::Ours => files.added(files.theirs),
            Side::Theirs => files.added(files.ours),
        };
        let lacks = |file: &&Arc<DataFile>| {
            (file.has_column(required.id) || !required.has_default)
                && file.null_count(required.id) != Some(0)
        };
        let lacking: Vec<_> = added.into_iter().filter(lacks).cloned().collect();
        let cause = Cause::Nulls { column: required.name.clone(), side: required.side };
        (!lacking.is_empty()).then(|| Clash::about(cause, lacking))
    });
    clashes.collect()
}

impl TableMerge {
    /// Rewrites a group in place of our files.
    fn rewrite_group(&mut self, merged: MergedGroup, ours: &[Arc<DataFile>]) {
        self.files_to_remove.extend(ours.iter().cloned());
        self.rewrites.push(Rewrite::Group(merged));
    }

    /// Counts the rows of added and removed files; a file that only gets deletes counts by its
    /// deleted rows.
    async fn count(&mut self, tables: &Tables, plan: &FilePlan) -> Result<()> {
        self.rows.rows_added += tables.live_rows(plan.files_to_add.clone()).await?;
        self.rows.rows_removed += tables.live_rows(plan.files_to_remove.clone()).await?;
        let files_to_remove: HashMap<&str, &Arc<DataFile>> =
            plan.files_to_remove.iter().map(|file| (file.location.as_str(), file)).collect();
        for file in &plan.files_to_add {
            if let Some(before) = files_to_remove.get(file.location.as_str()) {
                let after = tables.live_rows(vec![file.clone()]).await?;
                let both = after.min(tables.live_rows(vec![Arc::clone(before)]).await?);
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

    /// Adds the planned files. Files with other column ids or with deletes are rewritten.
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
            self.rewrites.push(Rewrite::RewriteAll(to_rewrite));
        }
    }

    fn side_of_rows(&self, files: &Files<'_>) -> Option<Side> {
        if !self.changes_files() {
            return Some(Side::Ours);
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
        same.then_some(Side::Theirs)
    }

    fn changes_files(&self) -> bool {
        !(self.files_to_add.is_empty()
            && self.files_to_remove.is_empty()
            && self.rewrites.is_empty())
    }

    /// Returns the kind of the change. Rows that existed in other files are not added, even if no
    /// file of ours is removed for them.
    fn kind(&self, compacts: bool, settles: bool) -> Kind {
        if !self.changes_files() {
            Kind::Compact
        } else if self.files_to_remove.is_empty() && self.rewrites.is_empty() && !settles {
            Kind::Append
        } else if compacts
            && self.rewrites.is_empty()
            && self.rows.rows_added == self.rows.rows_removed
        {
            Kind::Compact
        } else {
            Kind::Modify
        }
    }

    /// Returns the merged metadata's builder, with all partition specs of added files.
    fn builder(&self) -> Result<(iceberg::spec::TableMetadataBuilder, TableMetadata)> {
        let rejected = |error: iceberg::Error| commit::evolve::rejected("merged", &error);
        let theirs = self.theirs.metadata();
        let specs: HashSet<i32> = self.files_to_add.iter().map(|file| file.spec_id).collect();
        let with_specs = |mut builder: iceberg::spec::TableMetadataBuilder| {
            for id in &specs {
                if let Some(spec) = theirs.partition_spec_by_id(*id) {
                    let unbound = shape::unbound(spec).map_err(rejected)?;
                    builder = builder.add_partition_spec(unbound).map_err(rejected)?;
                }
            }
            Ok::<_, Error>(builder)
        };
        let builder = self.shape.apply(commit::builder_of(&self.ours)?).map_err(rejected)?;
        let (bare, _) = stamp::detach_logs(self.ours.metadata())?;
        let bare = self.shape.apply(bare.into_builder(None)).map_err(rejected)?;
        Ok((with_specs(builder)?, commit::build(with_specs(bare)?)?))
    }

    /// Returns the added files by their partition spec in the merged table.
    fn additions(&self, after: &TableMetadata) -> Result<Vec<Addition>> {
        let mut found: BTreeMap<i32, Addition> = BTreeMap::new();
        let mut known: HashMap<i32, iceberg::spec::PartitionSpecRef> = HashMap::new();
        for file in &self.files_to_add {
            let order = file.entry.data_file.sort_order_id();
            let order = order.and_then(|id| order_in(after, self.theirs.metadata(), id));
            let spec = if let Some(spec) = known.get(&file.spec_id) {
                spec.clone()
            } else {
                let spec = spec_in(after, self.theirs.metadata(), file.spec_id)?;
                known.insert(file.spec_id, spec.clone());
                spec
            };
            let addition = found.entry(spec.spec_id()).or_insert_with(|| Addition {
                content: ManifestContentType::Data,
                schema: after.current_schema().clone(),
                spec,
                files: Vec::new(),
            });
            let ids = known_ids(file, self.base_counters).filter(|_| has_row_ids(after));
            addition.files.push(with_row_id(&file.entry.data_file, order, ids)?);
        }
        Ok(found.into_values().collect())
    }
}

/// Returns the id of the merged table's sort order that equals one of theirs; none if there is
/// none.
fn order_in(after: &TableMetadata, theirs: &TableMetadata, id: i32) -> Option<i32> {
    let wanted = theirs.sort_order_by_id(i64::from(id))?;
    let mut orders = after.sort_orders_iter();
    let found = orders.find(|order| order.fields == wanted.fields)?;
    i32::try_from(found.order_id).ok()
}

/// Returns the partition spec of the merged table that equals one of theirs.
fn spec_in(
    after: &TableMetadata,
    theirs: &TableMetadata,
    id: i32,
) -> Result<iceberg::spec::PartitionSpecRef> {
    let missing = || Error::internal("merged", "a partition spec is unknown");
    let wanted = theirs.partition_spec_by_id(id).ok_or_else(missing)?;
    let mut specs = after.partition_specs_iter();
    specs.find(|spec| spec.is_compatible_with(wanted)).cloned().ok_or_else(missing)
}
