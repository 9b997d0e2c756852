//! Rows of files that both sides changed, merged three ways.
//!
//! A row has no name: it is known by its values. What a side took away and what it added is the
//! difference of how often each row is there, so that it does not matter how the side wrote its files,
//! or whether it arranged them otherwise. Two sides that took away different rows merge; where both took
//! away the same row, only if neither added any, here or elsewhere, or if both came to the same: one that
//! both took away may be one that they changed, and which lies in another partition since.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};

use super::clash::{Cause, Clash};
use super::files::{Group, Replaced};
use crate::read::read;
use crate::row_ids::{own, own_columns, with_row_ids, without_ids, without_later};
use crate::{BatchStream, DataFile, Error, Result, Tables};

/// How many rows of a clash are shown.
pub(super) const ROWS_SHOWN: usize = 10;

/// A row by its values: half of their SHA-256, which nobody can make two rows share.
pub(super) type RowKey = [u8; 16];

/// How often each row is there: in the base, with us, with them.
pub(super) type Counts = HashMap<RowKey, [u32; 3]>;

/// What becomes of a group.
#[derive(Debug)]
pub(super) enum Settled {
    Ours,
    Theirs,
    /// Neither side's files hold what the rows come to.
    Rows(MergedGroup),
    Clash(Clash),
}

/// The rows of a group that are to be written.
#[derive(Debug)]
pub(super) struct MergedGroup {
    /// Our files and theirs, in which each row is as often as it is to be, or more.
    ours: Vec<Arc<DataFile>>,
    theirs: Vec<Arc<DataFile>>,
    /// How often each row is to be there.
    wanted: Arc<HashMap<RowKey, u32>>,
    /// How many rows of theirs that are equal to one of ours can be passed over.
    spare: Arc<HashMap<RowKey, u32>>,
    /// Rows that are to be there and are not with us, and the other way round.
    pub rows_added: u64,
    pub rows_removed: u64,
}

/// What rows are read with.
pub(super) struct Reading<'a> {
    pub tables: &'a Tables,
    /// The columns of the merged table, under the ids that they have in the base, with us, with them.
    pub schemas: [SchemaRef; 3],
    /// Whether rows that are written again keep ids.
    pub has_row_ids: bool,
    /// The first row id, and the last sequence number, that the base had not given away, and had.
    pub given: (u64, i64),
}

/// How many rows of files that both sides changed one merge may yet compare, in whatever tables.
#[derive(Debug)]
pub struct RowBudget {
    max: u64,
    left: u64,
}

impl RowBudget {
    /// A budget of which some is spent already.
    pub(crate) fn new(max: u64, spent: u64) -> Self {
        RowBudget { max, left: max.saturating_sub(spent) }
    }

    /// How much of it is spent.
    pub fn spent(&self) -> u64 {
        self.max - self.left
    }

    /// How much there was of it.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Spends some of it; not where that is more than is left.
    pub(super) fn spend(&mut self, rows: u64) -> bool {
        match self.left.checked_sub(rows) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Reading<'_> {
    /// Merges the rows of a group.
    pub async fn settle(&self, group: &Group, budget: &mut RowBudget) -> Result<Settled> {
        let all = group.base.iter().chain(&group.ours).chain(&group.theirs);
        if !budget.spend(all.map(|file| file.rows).sum()) {
            let cause = Cause::TooManyRows { limit: budget.max() };
            return Ok(Settled::Clash(Clash::about(cause, group.base.clone())));
        }
        if let Err(error) = converter(&self.schemas[0]) {
            let reason = format!("rows cannot be compared: {error}");
            let cause = Cause::Incomparable { reason };
            return Ok(Settled::Clash(Clash::about(cause, group.base.clone())));
        }
        let mut counts = Counts::new();
        for (place, files) in [&group.base, &group.ours, &group.theirs].into_iter().enumerate() {
            counts = self.count(files, place, counts).await?;
        }
        match decide(&counts, group) {
            Decision::Ours => Ok(Settled::Ours),
            Decision::Theirs => Ok(Settled::Theirs),
            Decision::Rows { wanted, rows_added, rows_removed } => {
                let (ours, theirs) = (group.ours.clone(), group.theirs.clone());
                let (wanted, spare) = (Arc::new(wanted), Arc::new(spare(&counts)));
                Ok(Settled::Rows(MergedGroup {
                    ours,
                    theirs,
                    wanted,
                    spare,
                    rows_added,
                    rows_removed,
                }))
            }
            Decision::Clash(rows) if rows.iter().any(|key| is_new(&counts[key])) => {
                Ok(Settled::Clash(Clash::about(Cause::Picked, group.base.clone())))
            }
            Decision::Clash(rows) => {
                let total = rows.iter().map(|key| u64::from(counts[key][0])).sum();
                self.clash(group, &rows, &counts, total).await.map(Settled::Clash)
            }
        }
    }

    /// Whether neither side has a row, in files that came in place of others, which those had not: then
    /// rows that are gone are nowhere else. No where it takes more rows to know than may be compared.
    pub async fn only_takes(
        &self,
        groups: &[Group],
        elsewhere: &[Replaced; 2],
        budget: &mut RowBudget,
    ) -> Result<bool> {
        let groups = groups.iter().map(|group| [&group.base, &group.ours, &group.theirs]);
        let [ours, theirs] = elsewhere;
        let none = &Vec::new();
        let beside = [[&ours.gone, &ours.come, none], [&theirs.gone, none, &theirs.come]];
        for three in groups.chain(beside) {
            let all = three.into_iter().flatten();
            if !budget.spend(all.map(|file| file.rows).sum()) {
                return Ok(false);
            }
            let mut counts = Counts::new();
            for (place, files) in three.into_iter().enumerate() {
                counts = self.count(files, place, counts).await?;
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
        place: usize,
        mut counts: Counts,
    ) -> Result<Counts> {
        let mut batches = read(self.tables, &self.schemas[place], files, None, None)?;
        while let Some(batch) = batches.try_next().await.map_err(Error::Input)? {
            let counting = tokio::task::spawn_blocking(move || {
                for key in keys(&batch)? {
                    counts.entry(key).or_default()[place] += 1;
                }
                Ok::<_, ArrowError>(counts)
            });
            let counted = counting.await.map_err(|error| Error::internal("merged", error))?;
            counts = counted.map_err(|error| Error::internal("merged", error))?;
        }
        Ok(counts)
    }

    /// A clash about some rows of a group's base, a few of which are read to be shown.
    async fn clash(
        &self,
        group: &Group,
        rows: &HashSet<RowKey>,
        counts: &Counts,
        total: u64,
    ) -> Result<Clash> {
        let mut clash = Clash::about(Cause::Rows, group.base.clone());
        clash.rows_total = Some(total);
        let mut batches = read(self.tables, &self.schemas[0], &group.base, None, None)?;
        let mut left = ROWS_SHOWN.min(total as usize);
        while left > 0
            && let Some(batch) = batches.try_next().await.map_err(Error::Input)?
        {
            let internal = |error: ArrowError| Error::internal("merged", error);
            let among = keys(&batch).map_err(internal)?.into_iter().map(|key| rows.contains(&key));
            let mask: BooleanArray = among.map(Some).collect();
            let found = filter_record_batch(&batch, &mask).map_err(internal)?;
            let found = found.slice(0, found.num_rows().min(left));
            left -= found.num_rows();
            if found.num_rows() > 0 {
                clash.rows.push(found);
            }
        }
        let files = [group.ours.as_slice(), group.theirs.as_slice()];
        clash.changed = self.pair(&clash.rows, files, counts).await?;
        Ok(clash)
    }

    /// All rows of files of theirs, to be written again.
    pub fn all_of_theirs(&self, files: &[Arc<DataFile>]) -> Result<BatchStream> {
        let given = self.given;
        let rows = read(self.tables, &self.to_rewrite(2), files, None, None)?;
        Ok(rows.map(move |batch| without_later(&batch?, given)).boxed())
    }

    fn to_rewrite(&self, side: usize) -> SchemaRef {
        let schema = &self.schemas[side];
        if self.has_row_ids { with_row_ids(schema) } else { schema.clone() }
    }

    /// The rows of a group as they come to be, ours in our order and then theirs.
    pub fn rows_of(&self, group: &MergedGroup) -> Result<BatchStream> {
        let ours = read(self.tables, &self.to_rewrite(1), &group.ours, None, None)?;
        let theirs = self.all_of_theirs(&group.theirs)?;
        let batches = ours.chain(theirs);
        let (left, spare) = (HashMap::clone(&group.wanted), HashMap::clone(&group.spare));
        let picking = Picking { left, spare, given: RoaringTreemap::new() };
        let rows =
            stream::try_unfold((batches, picking), |(mut batches, mut picking)| async move {
                let Some(batch) = batches.try_next().await? else { return Ok(None) };
                let picked = picking.pick(&batch)?;
                Ok::<_, ArrowError>(Some((picked, (batches, picking))))
            });
        Ok(rows.boxed())
    }
}

/// How many rows of theirs can be passed over of those that ours has as well and that are to be there more
/// often: as many as there were.
fn spare(counts: &Counts) -> HashMap<RowKey, u32> {
    let equal =
        counts.iter().filter(|(_, [base, ours, theirs])| *base > 0 && *ours > 0 && theirs > base);
    equal.map(|(key, [base, _, _])| (*key, *base)).collect()
}

/// Picks the rows of a group that are to be there, ours first.
struct Picking {
    /// How often each row is yet to come.
    left: HashMap<RowKey, u32>,
    /// How often one of theirs can yet be passed over that has the id of one that came.
    spare: HashMap<RowKey, u32>,
    /// The ids of rows that came.
    given: RoaringTreemap,
}

impl Picking {
    /// The rows of a batch that are to be there. Equal rows are told apart by nothing but their ids, of which
    /// each comes once: a row of theirs that came as one of ours is passed over as long as others like it are
    /// left, and has no id of its own otherwise.
    fn pick(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let place = own_columns(batch.schema_ref());
        let ids = (place < batch.num_columns())
            .then(|| batch.column(place).as_primitive::<Int64Type>().clone());
        let mut again = Vec::new();
        let mut picked = Vec::with_capacity(batch.num_rows());
        for (row, key) in keys(&own(batch)?)?.into_iter().enumerate() {
            let id = ids.as_ref().filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row) as u64);
            let twice = id.is_some_and(|id| self.given.contains(id));
            let takes = self.takes(key, twice);
            picked.push(Some(takes));
            if takes && twice {
                again.push(row);
            } else if let Some(id) = id.filter(|_| takes) {
                self.given.insert(id);
            }
        }
        let batch = if again.is_empty() { batch.clone() } else { without_ids(batch, &again)? };
        filter_record_batch(&batch, &BooleanArray::from(picked))
    }

    fn takes(&mut self, key: RowKey, twice: bool) -> bool {
        let Some(left) = self.left.get_mut(&key).filter(|left| **left > 0) else { return false };
        if twice && let Some(spare) = self.spare.get_mut(&key).filter(|spare| **spare > 0) {
            *spare -= 1;
            return false;
        }
        *left -= 1;
        true
    }
}

pub(super) fn converter(schema: &Schema) -> Result<RowConverter, ArrowError> {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    RowConverter::new(fields.collect())
}

/// What rows are known by.
pub(super) fn keys(batch: &RecordBatch) -> Result<Vec<RowKey>, ArrowError> {
    let rows = converter(&batch.schema())?.convert_columns(batch.columns())?;
    let key = |row: arrow::row::Row<'_>| {
        let mut key = RowKey::default();
        key.copy_from_slice(&Sha256::digest(row.data())[..16]);
        key
    };
    Ok(rows.iter().map(key).collect())
}

/// What counts of rows come to.
enum Decision {
    Ours,
    Theirs,
    Rows {
        wanted: HashMap<RowKey, u32>,
        rows_added: u64,
        rows_removed: u64,
    },
    /// The rows that both sides changed.
    Clash(HashSet<RowKey>),
}

/// Whether both sides have a row more often than the base.
fn is_new([base, ours, theirs]: &[u32; 3]) -> bool {
    ours > base && theirs > base
}

/// Decides about the rows of a group.
fn decide(counts: &Counts, &Group { leaks, tidy, unclear, .. }: &Group) -> Decision {
    let all = || counts.values();
    // What both only added is there twice, also where it lies among other rows.
    if !leaks && !tidy && all().all(|[_, ours, theirs]| ours == theirs) {
        return Decision::Ours;
    }
    let only_takes = |side: usize| all().all(|count| count[side] <= count[0]);
    let only_taken = !leaks && only_takes(1) && only_takes(2);
    // Of several equal rows, nobody can tell which ones a side took away if it left some.
    let clashes = |[base, ours, theirs]: &[u32; 3]| {
        ours < base && theirs < base && !(only_taken && *ours == 0 && *theirs == 0)
            || unclear && is_new(&[*base, *ours, *theirs])
    };
    let clashing: HashSet<RowKey> =
        counts.iter().filter(|(_, count)| clashes(count)).map(|(key, _)| *key).collect();
    if !clashing.is_empty() {
        return Decision::Clash(clashing);
    }
    let merged = |[base, ours, theirs]: [u32; 3]| (ours + theirs).saturating_sub(base);
    if all().all(|count| merged(*count) == count[1]) {
        return Decision::Ours;
    }
    if all().all(|count| merged(*count) == count[2]) {
        return Decision::Theirs;
    }
    let differences = |less: fn(u32, u32) -> u32| {
        all().map(|count| u64::from(less(merged(*count), count[1]))).sum::<u64>()
    };
    Decision::Rows {
        rows_added: differences(u32::saturating_sub),
        rows_removed: differences(|merged, ours| ours.saturating_sub(merged)),
        wanted: counts.iter().map(|(key, count)| (*key, merged(*count))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges lists of rows: what they come to, or those that clash.
    fn check(base: &[u8], ours: &[u8], theirs: &[u8], expected: Result<&[u8], &[u8]>) {
        check_group(&Group::default(), base, ours, theirs, expected);
    }

    fn check_group(
        group: &Group,
        base: &[u8],
        ours: &[u8],
        theirs: &[u8],
        expected: Result<&[u8], &[u8]>,
    ) {
        let mut counts = Counts::new();
        for (place, rows) in [base, ours, theirs].into_iter().enumerate() {
            for row in rows {
                counts.entry([*row; 16]).or_default()[place] += 1;
            }
        }
        let sorted = |rows: &[u8]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        let found = match decide(&counts, group) {
            Decision::Ours => Ok(sorted(ours)),
            Decision::Theirs => Ok(sorted(theirs)),
            Decision::Rows { wanted, .. } => {
                let rows = wanted.iter().flat_map(|(key, count)| vec![key[0]; *count as usize]);
                Ok(sorted(&rows.collect::<Vec<_>>()))
            }
            Decision::Clash(rows) => {
                Err(sorted(&rows.iter().map(|key| key[0]).collect::<Vec<_>>()))
            }
        };
        assert_eq!(found, expected.map(sorted).map_err(sorted), "{base:?} {ours:?} {theirs:?}");
    }

    #[test]
    fn rows_are_merged_by_how_often_they_are_there() {
        check(&[1, 2, 3], &[1, 2], &[2, 3], Ok(&[2]));
        check(&[1, 2, 3], &[1, 2, 9], &[1, 3], Ok(&[1, 9]));
        check(&[1, 2], &[1, 2, 2], &[1, 2, 3], Ok(&[1, 2, 2, 3]));
        check(&[1, 2], &[1, 7], &[1, 7], Ok(&[1, 7]));
        check(&[1, 2, 3], &[1], &[2], Ok(&[]));
        check(&[1, 2, 3], &[3], &[1, 2, 3], Ok(&[3]));
        check(&[1, 2, 3], &[1, 2, 3], &[3, 4], Ok(&[3, 4]));
        check(&[1, 1, 2], &[2], &[1, 1], Ok(&[]));
    }

    #[test]
    fn rows_that_may_have_gone_elsewhere_go_once() {
        let leaking = Group { leaks: true, ..Group::default() };
        check_group(&leaking, &[1, 2], &[2], &[2], Err(&[1]));
        check_group(&leaking, &[1, 2], &[2], &[1], Ok(&[]));
        check_group(&leaking, &[1, 2], &[2, 3], &[1, 2], Ok(&[2, 3]));
    }

    #[test]
    fn rows_that_both_only_added_are_there_twice() {
        let tidy = Group { tidy: true, ..Group::default() };
        check_group(&tidy, &[1], &[1, 2], &[1, 2], Ok(&[1, 2, 2]));
        check_group(&tidy, &[1], &[1], &[1], Ok(&[1]));
    }

    #[test]
    fn rows_that_may_be_the_same_are_not_taken_for_two() {
        let unclear = Group { unclear: true, ..Group::default() };
        check_group(&unclear, &[1, 2], &[1, 2, 5, 8], &[1, 2, 5, 9], Err(&[5]));
        check_group(&unclear, &[1, 2], &[1, 2, 8], &[1, 9], Ok(&[1, 8, 9]));
        check_group(&unclear, &[1, 2], &[1, 5], &[1, 5], Ok(&[1, 5]));
    }

    #[test]
    fn rows_that_both_changed_clash() {
        check(&[1, 2], &[1, 8], &[1, 9], Err(&[2]));
        check(&[1, 2], &[1], &[1, 9], Err(&[2]));
        check(&[1, 2, 3], &[1, 8, 3], &[7, 9, 3], Err(&[2]));
        check(&[1, 1, 1], &[1, 1], &[1], Err(&[1]));
    }
}
