//! Finds the new versions of rows that both sides changed, for display in a conflict.
//!
//! Rows have no key, so the new version of a row is only a guess. The guess does not affect the
//! merge. A row of the base is paired with the most similar new row in the files of a side. If no
//! new row is similar, the row counts as deleted.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::TryStreamExt;
use headwater_tables::{DataFile, Error, Result, read_with_schema};

use crate::multiset_merge::{RowCounts, RowMerger, row_hashes};

/// Maximum number of new rows of a side that are compared with rows of the base.
const CANDIDATES_MAX: usize = 10_000;

/// A row that both sides changed, in its three states.
#[derive(Debug, Clone)]
pub struct ChangedRow {
    /// The row in the base.
    pub base: RecordBatch,
    /// The row on our side; `None` if it was deleted.
    pub ours: Option<RecordBatch>,
    /// The row on their side; `None` if it was deleted.
    pub theirs: Option<RecordBatch>,
}

impl RowMerger<'_> {
    /// Pairs rows of the base with new rows in the files of both sides.
    pub(crate) async fn pair(
        &self,
        base: &[RecordBatch],
        files: [&[Arc<DataFile>]; 2],
        counts: &RowCounts,
    ) -> Result<Vec<ChangedRow>> {
        let Some(first) = base.first() else { return Ok(Vec::new()) };
        let internal = |error: ArrowError| Error::internal("merged", error);
        let base = concat_batches(&first.schema(), base).map_err(internal)?;
        let mut sides = Vec::new();
        for (index, files) in files.into_iter().enumerate() {
            let new = self.new_rows(files, index + 1, counts).await?;
            sides.push(match new {
                Some(new) => closest(&base, &new).map_err(internal)?,
                None => vec![None; base.num_rows()],
            });
        }
        let mut sides = sides.into_iter();
        let (ours, theirs) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
        let rows = ours.into_iter().zip(theirs).enumerate();
        Ok(rows
            .map(|(row, (ours, theirs))| ChangedRow { base: base.slice(row, 1), ours, theirs })
            .collect())
    }

    /// Returns the rows that occur more often in the files of one side than in the files of the
    /// base, up to a limit; `None` if there are no such rows.
    async fn new_rows(
        &self,
        files: &[Arc<DataFile>],
        side: usize,
        counts: &RowCounts,
    ) -> Result<Option<RecordBatch>> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let mut found: Vec<RecordBatch> = Vec::new();
        let mut remaining = CANDIDATES_MAX;
        let mut batches = read_with_schema(self.tables, &self.schemas[side], files)?;
        while remaining > 0
            && let Some(batch) = batches.try_next().await.map_err(Error::Input)?
        {
            let is_new = |key| counts.get(&key).is_some_and(|count| count[side] > count[0]);
            let new =
                row_hashes(&batch).map_err(internal)?.into_iter().map(|key| Some(is_new(key)));
            let new = filter_record_batch(&batch, &new.collect::<BooleanArray>());
            let new = new.map_err(internal)?;
            let new = new.slice(0, new.num_rows().min(remaining));
            remaining -= new.num_rows();
            found.push(new);
        }
        let Some(first) = found.first() else { return Ok(None) };
        let all = concat_batches(&first.schema(), &found).map_err(internal)?;
        Ok((all.num_rows() > 0).then_some(all))
    }
}

/// Returns the most similar new row for each row of the base. Both rows must have equal values in
/// the first column, or in more than half of the columns. Among several candidates, one with an
/// equal first column is preferred, then the one with the most equal columns. A single row of the
/// base and a single new row are always paired.
fn closest(base: &RecordBatch, new: &RecordBatch) -> Result<Vec<Option<RecordBatch>>, ArrowError> {
    let columns = base.num_columns();
    let single = base.num_rows() == 1 && new.num_rows() == 1;
    let equal = equal_columns(base, new)?;
    let mut used = HashSet::new();
    let mut found = Vec::new();
    for scores in equal {
        let best = scores
            .into_iter()
            .enumerate()
            .filter(|(row, _)| !used.contains(row))
            .max_by_key(|(row, score)| (*score, std::cmp::Reverse(*row)));
        let close = |(first, count): (bool, usize)| single || first || count * 2 > columns;
        let best = best.filter(|(_, score)| close(*score)).map(|(row, _)| row);
        used.extend(best);
        found.push(best.map(|row| new.slice(row, 1)));
    }
    Ok(found)
}

/// Compares each row of `base` with each row of `new`. For each pair of rows, returns two values:
/// true if the first columns are equal, and the number of equal columns.
fn equal_columns(
    base: &RecordBatch,
    new: &RecordBatch,
) -> Result<Vec<Vec<(bool, usize)>>, ArrowError> {
    let mut scores = vec![vec![(false, 0); new.num_rows()]; base.num_rows()];
    for index in 0..base.num_columns().min(new.num_columns()) {
        let (one, other) = (base.column(index), new.column(index));
        if one.data_type() != other.data_type() {
            continue;
        }
        let converter = RowConverter::new(vec![SortField::new(one.data_type().clone())])?;
        let ours = converter.convert_columns(&[Arc::clone(one)])?;
        let theirs = converter.convert_columns(&[Arc::clone(other)])?;
        for (row, scores) in scores.iter_mut().enumerate() {
            for (candidate, score) in scores.iter_mut().enumerate() {
                if ours.row(row) == theirs.row(candidate) {
                    score.0 |= index == 0;
                    score.1 += 1;
                }
            }
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn batch(rows: &[[i64; 3]]) -> RecordBatch {
        let column = |at: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(row[at])).collect::<Int64Array>())
        };
        RecordBatch::try_from_iter([("a", column(0)), ("b", column(1)), ("c", column(2))]).unwrap()
    }

    #[test]
    fn the_most_similar_row_is_paired() {
        let check = |base: &[[i64; 3]], new: &[[i64; 3]], expected: &[Option<[i64; 3]>]| {
            let found = closest(&batch(base), &batch(new)).unwrap();
            let expected: Vec<_> =
                expected.iter().map(|row| row.map(|row| batch(&[row]))).collect();
            assert_eq!(found, expected, "{base:?} {new:?}");
        };
        check(&[[1, 2, 3]], &[[9, 9, 3], [1, 8, 8]], &[Some([1, 8, 8])]);
        check(
            &[[1, 2, 3], [4, 5, 6]],
            &[[4, 5, 7], [1, 2, 9]],
            &[Some([1, 2, 9]), Some([4, 5, 7])],
        );
        check(&[[1, 2, 3]], &[[9, 2, 3], [9, 9, 9]], &[Some([9, 2, 3])]);
        check(&[[1, 2, 3]], &[[9, 9, 9]], &[Some([9, 9, 9])]);
        check(&[[1, 2, 3], [4, 5, 6]], &[[9, 9, 9]], &[None, None]);
    }
}
