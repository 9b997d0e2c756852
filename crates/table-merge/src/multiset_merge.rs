//! Three-way merge of rows in files that both sides changed.
//!
//! Rows have no key and are identified by all their values. The changes of a side are the
//! differences in the number of equal rows. So the layout of files and compaction do not matter.
//! Deletes of different rows can always be merged. If both sides deleted the same row, they may
//! also have updated it, possibly moving it to another partition. Deletes of the same row can be
//! merged in two cases: if both sides have the same rows afterwards, or if neither side added a row
//! to any file. With [`EqualChanges::Conflict`], they are never merged.
//!
//! [`EqualChanges::Conflict`]: crate::EqualChanges::Conflict

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_tables::{
    BatchStream, DataFile, Error, Result, Tables, own_columns, read_with_schema, with_row_ids,
    without_ids, without_ids_after_base, without_lineage,
};
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};

use crate::conflict::{Cause, Conflict};
use crate::files::{FileMergeGroup, ReplacedFiles};
use crate::group_decision::{GroupDecision, decide, is_new};
use crate::row_lineage::BaseCounters;

/// Maximum number of rows in the sample of a conflict.
pub(crate) const ROWS_SHOWN: usize = 10;

/// The hash that identifies a row: the first half of the SHA-256 of its values, for which
/// collisions need not be considered.
pub(crate) type RowHash = [u8; 16];

/// For each row, the number of its copies in the base, on our side and on their side.
pub(crate) type RowCounts = HashMap<RowHash, [u32; 3]>;

/// The result of merging the rows of a group of files.
#[derive(Debug)]
pub(crate) enum GroupResult {
    Ours,
    Theirs,
    /// Merged rows that have to be written, because they are not in the files of either side.
    Rows(MergedGroup),
    Conflict(Conflict),
}

/// The rows of a group that have to be written.
#[derive(Debug)]
pub(crate) struct MergedGroup {
    /// The files of the group on our side, and on their side. Together, these files contain enough
    /// copies of each wanted row.
    ours: Vec<Arc<DataFile>>,
    theirs: Vec<Arc<DataFile>>,
    /// The number of times that each row is wanted in the merged table.
    wanted: Arc<HashMap<RowHash, u32>>,
    /// For each row, the number of copies on their side that may be skipped, because our side has
    /// the same copies.
    skippable: Arc<HashMap<RowHash, u32>>,
    /// Number of wanted rows that our table does not have.
    pub rows_added: u64,
    /// Number of rows in our table that are not wanted.
    pub rows_removed: u64,
}

/// Merges the rows of files that both sides changed.
pub(crate) struct RowMerger<'a> {
    pub tables: &'a Tables,
    /// The columns of the merged table, with the field ids of the base, of our side and of their
    /// side.
    pub schemas: [SchemaRef; 3],
    /// True if rewritten rows keep their row ids.
    pub has_row_ids: bool,
    /// Counters of the last common snapshot, which determine the row ids that rows of their side
    /// may keep.
    pub base_counters: BaseCounters,
}

/// The number of rows in files changed by both sides that a merge may still compare. All tables of
/// the merge share this budget.
#[derive(Debug)]
pub struct RowBudget {
    max: u64,
    remaining: u64,
}

impl RowBudget {
    /// Creates the budget of a merge that has already used `spent` rows.
    pub fn new(tables: &Tables, spent: u64) -> Self {
        let max = tables.options().merge_rows_max;
        RowBudget { max, remaining: max.saturating_sub(spent) }
    }

    /// Returns the number of rows that were already taken from the budget.
    pub fn spent(&self) -> u64 {
        self.max - self.remaining
    }

    /// Returns the total budget.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Uses a part of the budget. Returns false if the budget is not sufficient.
    pub(crate) fn spend(&mut self, rows: u64) -> bool {
        match self.remaining.checked_sub(rows) {
            Some(remaining) => {
                self.remaining = remaining;
                true
            }
            None => false,
        }
    }
}

impl RowMerger<'_> {
    /// Merges the rows of a group of files.
    pub async fn merge_group(
        &self,
        group: &FileMergeGroup,
        budget: &mut RowBudget,
    ) -> Result<GroupResult> {
        let all = group.base.iter().chain(&group.ours).chain(&group.theirs);
        if !budget.spend(all.map(|file| file.rows).sum()) {
            let cause = Cause::TooManyRows { limit: budget.max() };
            return Ok(GroupResult::Conflict(Conflict::about(cause, group.base.clone())));
        }
        if let Err(error) = converter(&self.schemas[0]) {
            let reason = format!("rows cannot be compared: {error}");
            let cause = Cause::Incomparable { reason };
            return Ok(GroupResult::Conflict(Conflict::about(cause, group.base.clone())));
        }
        let mut counts = RowCounts::new();
        for (state, files) in [&group.base, &group.ours, &group.theirs].into_iter().enumerate() {
            counts = self.count(files, state, counts).await?;
        }
        match decide(&counts, group) {
            GroupDecision::Ours => Ok(GroupResult::Ours),
            GroupDecision::Theirs => Ok(GroupResult::Theirs),
            GroupDecision::Rows { wanted, rows_added, rows_removed } => {
                let (ours, theirs) = (group.ours.clone(), group.theirs.clone());
                let (wanted, skippable) = (Arc::new(wanted), Arc::new(skippable(&counts)));
                Ok(GroupResult::Rows(MergedGroup {
                    ours,
                    theirs,
                    wanted,
                    skippable,
                    rows_added,
                    rows_removed,
                }))
            }
            GroupDecision::Conflict(rows) if rows.iter().any(|key| is_new(&counts[key])) => {
                Ok(GroupResult::Conflict(Conflict::about(
                    Cause::DuplicateCherryPick,
                    group.base.clone(),
                )))
            }
            GroupDecision::Conflict(rows) => {
                let total = rows.iter().map(|key| u64::from(counts[key][0])).sum();
                self.conflict(group, &rows, &counts, total).await.map(GroupResult::Conflict)
            }
        }
    }

    /// Returns true if, on both sides, the files that replaced other files contain no new row. Then
    /// no deleted row was moved to another file. Returns false if the check would exceed the
    /// budget.
    pub async fn only_deletes(
        &self,
        groups: &[FileMergeGroup],
        elsewhere: &[ReplacedFiles; 2],
        budget: &mut RowBudget,
    ) -> Result<bool> {
        let groups = groups.iter().map(|group| [&group.base, &group.ours, &group.theirs]);
        let [ours, theirs] = elsewhere;
        let none = &Vec::new();
        let replaced = [[&ours.old, &ours.new, none], [&theirs.old, none, &theirs.new]];
        for three in groups.chain(replaced) {
            let all = three.into_iter().flatten();
            if !budget.spend(all.map(|file| file.rows).sum()) {
                return Ok(false);
            }
            let mut counts = RowCounts::new();
            for (state, files) in three.into_iter().enumerate() {
                counts = self.count(files, state, counts).await?;
            }
            if counts.values().any(|[base, ours, theirs]| ours > base || theirs > base) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn count(
        &self,
        files: &[Arc<DataFile>],
        state: usize,
        mut counts: RowCounts,
    ) -> Result<RowCounts> {
        let mut batches = read_with_schema(self.tables, &self.schemas[state], files)?;
        while let Some(batch) = batches.try_next().await.map_err(Error::Input)? {
            let counting = tokio::task::spawn_blocking(move || {
                for key in row_hashes(&batch)? {
                    counts.entry(key).or_default()[state] += 1;
                }
                Ok::<_, ArrowError>(counts)
            });
            let counted = counting.await.map_err(|error| Error::internal("merged", error))?;
            counts = counted.map_err(|error| Error::internal("merged", error))?;
        }
        Ok(counts)
    }

    /// Creates a conflict about rows of a group's base, with a sample of these rows.
    async fn conflict(
        &self,
        group: &FileMergeGroup,
        rows: &HashSet<RowHash>,
        counts: &RowCounts,
        total: u64,
    ) -> Result<Conflict> {
        let mut conflict = Conflict::about(Cause::Rows, group.base.clone());
        conflict.rows_total = Some(total);
        let mut batches = read_with_schema(self.tables, &self.schemas[0], &group.base)?;
        let mut remaining = ROWS_SHOWN.min(total as usize);
        while remaining > 0
            && let Some(batch) = batches.try_next().await.map_err(Error::Input)?
        {
            let internal = |error: ArrowError| Error::internal("merged", error);
            let among =
                row_hashes(&batch).map_err(internal)?.into_iter().map(|key| rows.contains(&key));
            let mask: BooleanArray = among.map(Some).collect();
            let found = filter_record_batch(&batch, &mask).map_err(internal)?;
            let found = found.slice(0, found.num_rows().min(remaining));
            remaining -= found.num_rows();
            if found.num_rows() > 0 {
                conflict.rows.push(found);
            }
        }
        let files = [group.ours.as_slice(), group.theirs.as_slice()];
        conflict.changed = self.pair(&conflict.rows, files, counts).await?;
        Ok(conflict)
    }

    /// Returns all rows of files of their side, so that these files can be rewritten.
    pub fn read_their_files(&self, files: &[Arc<DataFile>]) -> Result<BatchStream> {
        let BaseCounters { next_row_id, sequence_number } = self.base_counters;
        let rows = read_with_schema(self.tables, &self.to_rewrite(2), files)?;
        Ok(rows
            .map(move |batch| without_ids_after_base(&batch?, next_row_id, sequence_number))
            .boxed())
    }

    fn to_rewrite(&self, side: usize) -> SchemaRef {
        let schema = &self.schemas[side];
        if self.has_row_ids { with_row_ids(schema) } else { schema.clone() }
    }

    /// Returns the merged rows of a group: first the rows in files of our side, then the rows in
    /// files of their side.
    pub fn rows_of(&self, group: &MergedGroup) -> Result<BatchStream> {
        let ours = read_with_schema(self.tables, &self.to_rewrite(1), &group.ours)?;
        let theirs = self.read_their_files(&group.theirs)?;
        let batches = ours.chain(theirs);
        let (remaining, skippable) =
            (HashMap::clone(&group.wanted), HashMap::clone(&group.skippable));
        let picker = RowSelector { remaining, skippable, used_ids: RoaringTreemap::new() };
        let rows = stream::try_unfold((batches, picker), |(mut batches, mut picker)| async move {
            let Some(batch) = batches.try_next().await? else { return Ok(None) };
            let picked = picker.pick(&batch)?;
            Ok::<_, ArrowError>(Some((picked, (batches, picker))))
        });
        Ok(rows.boxed())
    }
}

/// Returns the number of copies on their side that may be skipped for each row, because our side
/// also has them. If our side has the row and their side has more copies than the base, this is the
/// number of copies in the base; otherwise, it is 0.
fn skippable(counts: &RowCounts) -> HashMap<RowHash, u32> {
    let equal =
        counts.iter().filter(|(_, [base, ours, theirs])| *base > 0 && *ours > 0 && theirs > base);
    equal.map(|(key, [base, _, _])| (*key, *base)).collect()
}

/// Selects the wanted rows of a group, first from the files of our side.
struct RowSelector {
    /// The number of times that each row must still be returned.
    remaining: HashMap<RowHash, u32>,
    /// For each row, how many copies with a used row id may still be skipped.
    skippable: HashMap<RowHash, u32>,
    /// The row ids that were used before.
    used_ids: RoaringTreemap,
}

impl RowSelector {
    /// Returns the wanted rows of a batch. Rows with equal values can have different row ids, and
    /// each id must be used only once. A row whose id was already used is skipped, if enough other
    /// copies of the row follow. Otherwise, the row gets a new id.
    fn pick(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let state = own_columns(batch.schema_ref());
        let ids = (state < batch.num_columns())
            .then(|| batch.column(state).as_primitive::<Int64Type>().clone());
        let mut without_id = Vec::new();
        let mut picked = Vec::with_capacity(batch.num_rows());
        for (row, key) in row_hashes(&without_lineage(batch)?)?.into_iter().enumerate() {
            let id = ids.as_ref().filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row) as u64);
            let id_is_used = id.is_some_and(|id| self.used_ids.contains(id));
            let is_wanted = self.is_wanted(key, id_is_used);
            picked.push(Some(is_wanted));
            if is_wanted && id_is_used {
                without_id.push(row);
            } else if let Some(id) = id.filter(|_| is_wanted) {
                self.used_ids.insert(id);
            }
        }
        let batch =
            if without_id.is_empty() { batch.clone() } else { without_ids(batch, &without_id)? };
        filter_record_batch(&batch, &BooleanArray::from(picked))
    }

    fn is_wanted(&mut self, key: RowHash, id_is_used: bool) -> bool {
        let Some(remaining) = self.remaining.get_mut(&key).filter(|remaining| **remaining > 0)
        else {
            return false;
        };
        if id_is_used
            && let Some(skippable) =
                self.skippable.get_mut(&key).filter(|skippable| **skippable > 0)
        {
            *skippable -= 1;
            return false;
        }
        *remaining -= 1;
        true
    }
}

pub(crate) fn converter(schema: &Schema) -> Result<RowConverter, ArrowError> {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    RowConverter::new(fields.collect())
}

/// Returns the hashes of a batch's rows.
pub(crate) fn row_hashes(batch: &RecordBatch) -> Result<Vec<RowHash>, ArrowError> {
    let rows = converter(&batch.schema())?.convert_columns(batch.columns())?;
    let hash = |row: arrow::row::Row<'_>| {
        let mut hash = RowHash::default();
        hash.copy_from_slice(&Sha256::digest(row.data())[..16]);
        hash
    };
    Ok(rows.iter().map(hash).collect())
}
