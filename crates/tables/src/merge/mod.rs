//! Merging two states of a table by what is in it, from the state that both come from.
//!
//! The shape of the table, its files and, where both sides changed the same files, its rows are merged
//! three ways, each by itself. [`Tables::merge`] works out what that comes to and writes nothing;
//! [`Tables::apply_merge`] makes it the next state of our side. What both sides cannot have together is
//! a [`Clash`], which names the files and rows.

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
use self::record::Again;
pub use self::rows::RowBudget;
use self::rows::{MergedGroup, Reading, Settled};
use self::shape::{Shape, Three};
use crate::commit::manifests::{Addition, Removal};
use crate::commit::{self, Change, Kind, stamp};
use crate::entry::moved;
use crate::row_ids::{CHANGED, ROW_ID, has_row_ids};
use crate::storage::Undo;
use crate::{DataFile, Error, Result, ScanPlan, Staged, Table, Tables};

/// What merging two states of a table comes to.
#[derive(Debug)]
pub enum Merged {
    /// What our side has.
    Ours,
    /// Something new, which [`Tables::apply_merge`] makes.
    Both(Box<TableMerge>),
    /// Nothing: both sides changed what they cannot have together.
    Clashes(Vec<Clash>),
}

/// A merge of two states of a table that is worked out and not made.
#[derive(Debug)]
pub struct TableMerge {
    base: Table,
    ours: Table,
    theirs: Table,
    /// The merged table without its rows, to read and write rows for.
    shaped: Table,
    shape: Shape,
    taken: Vec<Arc<DataFile>>,
    dropped: Vec<Arc<DataFile>>,
    rewrites: Vec<Rewrite>,
    reach: Reach,
    kind: Kind,
    rows: MergedRows,
    /// Whether the other side has snapshots that ours does not come from yet. A merge is to be known
    /// even where it changes no row: what both sides do later is a change since then.
    records: bool,
    /// What our side is to say of it, where it is a commit's change.
    again: Again,
    /// Whether too little is known of what the sides did since the base to say that rows which come are not
    /// there already.
    doubtful: bool,
    /// Whether it is of two branches, and not of a branch and a commit's change.
    of_branches: bool,
    /// Whether it is a change of our side as any other.
    goes_on: bool,
    /// The side that has just the files that the merged table has.
    rows_of: Option<Side>,
    /// What theirs may keep of ids and numbers: what was given when both sides were one.
    given: Given,
}

/// The first row id that a table has not given away, and the last sequence number that it has.
type Given = (u64, i64);

/// What a merge does to our side, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergedRows {
    /// Rows in files that come, or that are written because both sides changed their files.
    pub rows_added: u64,
    /// Rows that go.
    pub rows_removed: u64,
    /// Data files taken from the other side.
    pub files_added: u64,
    /// Our data files that go.
    pub files_removed: u64,
    /// Whether rows that stayed count as added and as removed, since they were written again.
    pub whole_files: bool,
}

/// Rows that are to be written.
#[derive(Debug)]
enum Rewrite {
    /// What the rows of a group come to.
    Group(MergedGroup),
    /// All rows of files of theirs, whose columns have other ids in the merged table, or of which rows
    /// are gone.
    Anew(Vec<Arc<DataFile>>),
}

/// A merge that was made.
#[derive(Debug)]
pub struct MadeMerge {
    /// The new state of our side.
    pub table: Table,
    /// The data files that were written for it.
    pub staged: Vec<Staged>,
}

impl TableMerge {
    /// What it does to our side.
    pub fn rows(&self) -> MergedRows {
        self.rows
    }

    /// Whether rows are only added.
    pub fn only_adds(&self) -> bool {
        self.kind == Kind::Adds
    }

    /// Whether rows come of which nobody can say that they are not there already, should a commit have been
    /// picked from one side to the other: older snapshots are not known any more.
    pub fn may_repeat(&self) -> bool {
        self.doubtful && self.rows.rows_added > 0
    }

    /// Whether it changes columns, partitioning, order or properties of our side.
    pub fn reshapes(&self) -> bool {
        !self.shape.is_ours()
    }
}

impl Tables {
    /// Works out what merging two states of a table comes to that come from `base`. Reads metadata, and
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
        let doubtful = !known || past.sides.iter().any(|side| side.had().unclear);
        let again = Again::of(&past.base, &past.sides[1]);
        let plans = (
            self.plan(base, None).await?,
            self.plan(ours, None).await?,
            self.plan(theirs, None).await?,
        );
        let common = past.common(self, plans.0.files()).boxed().await?;
        let histories = past.histories(&common.same);
        if let Some(clash) = remade(three, &histories) {
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
        let arranges = histories[1].tidies;
        // Where ours does not come from the base, it may have given the same ids to rows of its own.
        let given = if histories[0].from_base { given(three.base) } else { (0, 0) };
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
        let shaped = match shaped(ours, &shape) {
            Ok(shaped) => shaped,
            Err(clash) => return Ok(Merged::Clashes(vec![*clash])),
        };
        clashes.extend(check_nulls(&shape, &files));
        let sides = [(Side::Ours, ours), (Side::Theirs, theirs)];
        for (side, replaced) in sides.into_iter().zip(&plan.replaced) {
            let states = (three.base, shaped.metadata());
            clashes.extend(lost::check(self, states, side, replaced, budget).boxed().await?);
        }
        if shaped.metadata().format_version() == FormatVersion::V1 {
            let reason = Error::OldFormat { version: "1" }.to_string();
            clashes.push(Clash::new(Cause::Shape { reason }));
        }
        let merge = TableMerge {
            base: base.clone(),
            ours: ours.clone(),
            theirs: theirs.clone(),
            shaped,
            shape,
            taken: Vec::new(),
            dropped: Vec::new(),
            rewrites: Vec::new(),
            reach: plan.reach.clone(),
            kind: Kind::Changes,
            rows: MergedRows::default(),
            records: !Lineage::of(ours).comes_from(&Lineage::of(theirs)),
            again,
            doubtful,
            of_branches: true,
            goes_on: false,
            rows_of: None,
            given,
        };
        match self.settle(merge, plan, (arranges, clashes), budget).await? {
            Merged::Both(mut merge) => {
                merge.rows_of = merge.side_of_rows(&files);
                Ok(Merged::Both(merge))
            }
            other => Ok(other),
        }
    }

    /// Whether what was done to a table since a state of it arranged rows otherwise and did no more, but
    /// for adding some where `appends` says that this does not matter.
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
        history.tidies && history.arranges && (appends || history.appends.is_empty())
    }

    async fn settle(
        &self,
        mut merge: TableMerge,
        mut plan: FilePlan,
        (arranges, mut clashes): (bool, Vec<Clash>),
        budget: &mut RowBudget,
    ) -> Result<Merged> {
        let reading = self.reading(&merge);
        let groups = std::mem::take(&mut plan.groups);
        let mut only_takes = None;
        for group in &groups {
            let mut settled = reading.settle(group, budget).await?;
            if matches!(settled, Settled::Clash(_)) && group.leaks {
                if only_takes.is_none() {
                    only_takes = Some(reading.only_takes(&groups, &plan.elsewhere, budget).await?);
                }
                if only_takes == Some(true) {
                    // No row of it went to another partition.
                    let whole = Group { leaks: false, ..group.clone() };
                    settled = reading.settle(&whole, budget).await?;
                }
            }
            match settled {
                Settled::Ours => {}
                Settled::Theirs => plan.take_theirs(group),
                Settled::Rows(merged) => {
                    merge.rows.rows_added += merged.rows_added;
                    merge.rows.rows_removed += merged.rows_removed;
                    merge.regroup(merged, &group.ours);
                }
                Settled::Clash(clash) => clashes.push(clash),
            }
        }
        if !clashes.is_empty() {
            return Ok(Merged::Clashes(clashes));
        }
        let settles = plan.settles;
        merge.count(self, &plan).await?;
        merge.take(plan);
        merge.kind = merge.kind(arranges, settles);
        if !merge.changes_files() && merge.shape.is_ours() && !merge.records {
            return Ok(Merged::Ours);
        }
        Ok(Merged::Both(Box::new(merge)))
    }

    /// How many rows a merge may compare, of which some are compared already.
    pub fn row_budget(&self, spent: u64) -> RowBudget {
        RowBudget::new(self.options().merge_rows_max, spent)
    }

    fn reading(&self, merge: &TableMerge) -> Reading<'_> {
        let base = merge.base.metadata();
        let schemas = merge.shape.schemas(base, &merge.shaped.schema());
        let has_row_ids = has_row_ids(merge.shaped.metadata());
        Reading { tables: self, schemas, has_row_ids, given: merge.given }
    }

    /// Makes a merge the next state of our side; `summary` goes into its snapshot's summary. Where it
    /// fails, what it wrote is removed.
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
        let reading = self.reading(merge);
        let rows = match rewrite {
            Rewrite::Group(group) => reading.rows_of(group)?,
            Rewrite::Anew(files) => reading.all_of_theirs(files)?,
        };
        self.write(&merge.shaped, rows).await
    }

    async fn commit_merge(
        &self,
        merge: &TableMerge,
        staged: &[Staged],
        mut summary: BTreeMap<String, String>,
    ) -> Result<Table> {
        let shape = |builder| {
            merge.shape.apply(builder).map_err(|error| commit::evolve::refused("merged", &error))
        };
        if !merge.changes_files() && !merge.records {
            return commit::store_metadata(self, &merge.ours, shape).await;
        }
        summary.extend(merge.record());
        let (builder, after) = merge.builder()?;
        let change = Change {
            removal: Removal::files(&merge.dropped),
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

fn given(metadata: &TableMetadata) -> Given {
    (metadata.next_row_id(), metadata.last_sequence_number())
}

/// Whether a file may hold ids of rows, or numbers, that its branch gave away since, as ours may have.
fn brings_ids(file: &DataFile, (next_row_id, sequence_number): Given) -> bool {
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
            && within(CHANGED, i128::from(sequence_number)))
}

/// The id of a file's first row, where those of all were given before.
fn known_ids(file: &DataFile, (next_row_id, _): Given) -> Option<i64> {
    let first = file.entry.data_file.first_row_id()?;
    let end = u64::try_from(first).ok()?.checked_add(file.rows)?;
    (end <= next_row_id).then_some(first)
}

/// A side that made the table anew meant its columns as well as its rows.
fn remade(three: Three<'_>, histories: &[History; 2]) -> Option<Clash> {
    let both = three.reshaped(Side::Ours) && three.reshaped(Side::Theirs);
    let mut sides = [Side::Ours, Side::Theirs].into_iter().zip(histories);
    let (side, _) = sides.find(|(side, history)| {
        let base = three.base.current_schema().as_struct();
        both && history.reach == Reach::All && dropped_columns(base, three.of(*side))
    })?;
    Some(Clash::new(Cause::Replaced { side, partitions: None }))
}

/// Whether a side lacks a column that was there.
fn dropped_columns(base: &iceberg::spec::StructType, side: &TableMetadata) -> bool {
    let columns = side.current_schema();
    base.fields().iter().any(|field| columns.field_by_id(field.id).is_none())
}

/// The merged table without its rows; a clash where the two shapes make none together.
fn shaped(ours: &Table, shape: &Shape) -> std::result::Result<Table, Box<Clash>> {
    let made = stamp::put_aside(ours.metadata()).and_then(|(bare, _)| {
        let refused = |error: iceberg::Error| Error::internal("merged", error);
        commit::build(shape.apply(bare.into_builder(None)).map_err(refused)?)
    });
    match made {
        Ok(metadata) => {
            Ok(Table::new(ours.metadata_location().to_owned(), metadata, ours.totals(), 0))
        }
        Err(error) => Err(Box::new(Clash::new(Cause::Shape { reason: error.to_string() }))),
    }
}

/// Rows without a value for a column that the other side lets have no nulls.
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
    /// Writes a group anew in place of our files.
    fn regroup(&mut self, merged: MergedGroup, ours: &[Arc<DataFile>]) {
        self.dropped.extend(ours.iter().cloned());
        self.rewrites.push(Rewrite::Group(merged));
    }

    /// Counts the rows of files that come and go; those of a file that only loses rows do neither.
    async fn count(&mut self, tables: &Tables, plan: &FilePlan) -> Result<()> {
        self.rows.rows_added += tables.live_rows(plan.taken.clone()).await?;
        self.rows.rows_removed += tables.live_rows(plan.dropped.clone()).await?;
        let dropped: HashMap<&str, &Arc<DataFile>> =
            plan.dropped.iter().map(|file| (file.location.as_str(), file)).collect();
        for file in &plan.taken {
            if let Some(before) = dropped.get(file.location.as_str()) {
                let after = tables.live_rows(vec![file.clone()]).await?;
                let both = after.min(tables.live_rows(vec![Arc::clone(before)]).await?);
                self.rows.rows_added -= both;
                self.rows.rows_removed -= both;
            }
        }
        let taken: HashSet<&str> = plan.taken.iter().map(|file| file.location.as_str()).collect();
        self.rows.whole_files |= taken.iter().any(|file| !dropped.contains_key(file))
            && dropped.keys().any(|file| !taken.contains(file));
        Ok(())
    }

    /// Takes over what becomes of files, those apart that are to be written anew: under other ids, or
    /// without the rows that their delete files take away, which say nothing of ours.
    fn take(&mut self, plan: FilePlan) {
        let given = self.given;
        let is_anew = |file: &Arc<DataFile>| {
            file.has_deletes() || self.shape.renumbers(file) || brings_ids(file, given)
        };
        let (anew, taken): (Vec<_>, Vec<_>) = plan.taken.into_iter().partition(is_anew);
        self.rows.files_added += (taken.len() + anew.len()) as u64;
        self.rows.files_removed += plan.dropped.len() as u64;
        self.taken.extend(taken);
        self.dropped.extend(plan.dropped);
        if !anew.is_empty() {
            self.rewrites.push(Rewrite::Anew(anew));
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
        for file in &self.dropped {
            here.remove(&file.state());
        }
        here.extend(self.taken.iter().map(|file| file.state()));
        let same = here.len() == files.theirs.len()
            && files.theirs.iter().all(|file| here.contains(&file.state()));
        same.then_some(Side::Theirs)
    }

    fn changes_files(&self) -> bool {
        !(self.taken.is_empty() && self.dropped.is_empty() && self.rewrites.is_empty())
    }

    /// What the merge does to rows of our side. Rows that were there in other files are not added, even
    /// where none of our files goes for them.
    fn kind(&self, arranges: bool, settles: bool) -> Kind {
        if !self.changes_files() {
            Kind::Arranges
        } else if self.dropped.is_empty() && self.rewrites.is_empty() && !settles {
            Kind::Adds
        } else if arranges
            && self.rewrites.is_empty()
            && self.rows.rows_added == self.rows.rows_removed
        {
            Kind::Arranges
        } else {
            Kind::Changes
        }
    }

    /// The builder of the merged metadata, with every partition spec that taken files have.
    fn builder(&self) -> Result<(iceberg::spec::TableMetadataBuilder, TableMetadata)> {
        let refused = |error: iceberg::Error| commit::evolve::refused("merged", &error);
        let theirs = self.theirs.metadata();
        let specs: HashSet<i32> = self.taken.iter().map(|file| file.spec_id).collect();
        let with_specs = |mut builder: iceberg::spec::TableMetadataBuilder| {
            for id in &specs {
                if let Some(spec) = theirs.partition_spec_by_id(*id) {
                    let unbound = shape::unbound(spec).map_err(refused)?;
                    builder = builder.add_partition_spec(unbound).map_err(refused)?;
                }
            }
            Ok::<_, Error>(builder)
        };
        let builder = self.shape.apply(commit::builder_of(&self.ours)?).map_err(refused)?;
        let (bare, _) = stamp::put_aside(self.ours.metadata())?;
        let bare = self.shape.apply(bare.into_builder(None)).map_err(refused)?;
        Ok((with_specs(builder)?, commit::build(with_specs(bare)?)?))
    }

    /// The files that are taken, by the partition spec that they have in the merged table.
    fn additions(&self, after: &TableMetadata) -> Result<Vec<Addition>> {
        let mut found: BTreeMap<i32, Addition> = BTreeMap::new();
        let mut known: HashMap<i32, iceberg::spec::PartitionSpecRef> = HashMap::new();
        for file in &self.taken {
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
            let ids = known_ids(file, self.given).filter(|_| has_row_ids(after));
            addition.files.push(moved(&file.entry.data_file, order, ids)?);
        }
        Ok(found.into_values().collect())
    }
}

/// The sort order of the merged table that says what one of theirs says; none where there is none.
fn order_in(after: &TableMetadata, theirs: &TableMetadata, id: i32) -> Option<i32> {
    let wanted = theirs.sort_order_by_id(i64::from(id))?;
    let mut orders = after.sort_orders_iter();
    let found = orders.find(|order| order.fields == wanted.fields)?;
    i32::try_from(found.order_id).ok()
}

/// The spec of the merged table that says what one of theirs says.
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
