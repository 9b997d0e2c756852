//! The collected differences of rows: counts, and one page of rows.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use headwater_model::{ChangeKind, RowDiff};
use serde_json::Value;

use crate::compared_columns::ComparedColumns;
use crate::row_encoding::{EncodedRowDecoder, to_json};
use crate::row_pairing::{DifferingRow, RowChange};

/// Maximum encoded bytes of rows in one page; as JSON, the rows are a few times larger.
pub(crate) const PAGE_BYTES_MAX: usize = 8 << 20;

/// Maximum number of the changed rows whose columns are compared at once, and their maximum size in
/// bytes.
const LOOKED_AT_ROWS: usize = 1024;
const LOOKED_AT_BYTES: usize = 4 << 20;

/// The requested page of differing rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageRange {
    pub skip: u64,
    pub limit: usize,
    /// Size in bytes at which the page ends.
    pub bytes_max: usize,
}

/// A collector of differing rows, in order.
#[derive(Debug)]
pub(crate) struct PageCollector<'a> {
    compared: &'a ComparedColumns,
    key: EncodedRowDecoder,
    rest: EncodedRowDecoder,
    window: PageRange,
    seen: u64,
    /// Bytes of the collected rows.
    pub bytes: usize,
    full: bool,
    kept: Vec<RowChange>,
    /// Changed rows whose columns are not compared yet: the encoded row before and after the
    /// change.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    waiting_bytes: usize,
    changed_in: BTreeMap<String, u64>,
    /// Numbers of removed, added and changed rows.
    pub counts: (u64, u64, u64),
}

impl<'a> PageCollector<'a> {
    pub(crate) fn new(compared: &'a ComparedColumns, window: PageRange) -> Self {
        let (key, rest) = compared.parts();
        let codec = |places: &[usize]| {
            EncodedRowDecoder::new(
                places.iter().map(|place| compared.columns[*place].data_type.clone()),
            )
        };
        PageCollector {
            key: codec(&key),
            rest: codec(&rest),
            compared,
            window,
            seen: 0,
            bytes: 0,
            full: window.limit == 0,
            kept: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            changed_in: BTreeMap::new(),
            counts: (0, 0, 0),
        }
    }

    /// Counts a row, and collects it if it is in the page.
    pub(crate) fn take(&mut self, change: RowChange) -> Result<(), ArrowError> {
        match &change {
            RowChange::Single(entry) if entry.more < 0 => {
                self.counts.0 += entry.more.unsigned_abs();
            }
            RowChange::Single(entry) => self.counts.1 += entry.more.unsigned_abs(),
            RowChange::Pair { before, after, .. } => {
                self.counts.2 += 1;
                self.waiting_bytes += before.len() + after.len();
                self.waiting.push((before.clone(), after.clone()));
                if self.waiting.len() >= LOOKED_AT_ROWS || self.waiting_bytes >= LOOKED_AT_BYTES {
                    self.compare_pending()?;
                }
            }
        }
        self.keep(change);
        Ok(())
    }

    fn keep(&mut self, change: RowChange) {
        let at = self.seen;
        self.seen += 1;
        if self.full || at < self.window.skip {
            return;
        }
        let bytes = self.bytes.saturating_add(change.bytes());
        let too_long = bytes > self.window.bytes_max && !self.kept.is_empty();
        if self.kept.len() >= self.window.limit || too_long {
            self.full = true;
            return;
        }
        self.bytes = bytes;
        self.kept.push(change);
    }

    /// Compares the columns of the pending changed rows.
    fn compare_pending(&mut self) -> Result<(), ArrowError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let before = self.rest.decode(waiting.iter().map(|(before, _)| before.as_slice()))?;
        let after = self.rest.decode(waiting.iter().map(|(_, after)| after.as_slice()))?;
        let differing = self.rest.differing(&before, &after)?;
        for (name, rows) in self.remaining_names().into_iter().zip(differing) {
            let count = rows.iter().filter(|differs| **differs).count() as u64;
            *self.changed_in.entry(name).or_default() += count;
        }
        Ok(())
    }

    fn remaining_names(&self) -> Vec<String> {
        let (_, rest) = self.compared.parts();
        rest.iter().map(|place| self.compared.columns[*place].name.clone()).collect()
    }

    /// Returns true if the page is full and more rows follow.
    pub(crate) fn is_done(&self) -> bool {
        self.full && self.has_more()
    }

    /// Returns true if rows follow the page.
    pub(crate) fn has_more(&self) -> bool {
        let shown = self.window.skip + self.kept.len() as u64;
        self.window.limit > 0 && self.seen > shown
    }

    /// Returns for each column the number of changed rows in which the column differs.
    pub(crate) fn changed_in(&mut self) -> Result<BTreeMap<String, u64>, ArrowError> {
        self.compare_pending()?;
        Ok(std::mem::take(&mut self.changed_in))
    }

    /// Returns the rows of the page.
    pub(crate) fn rows(&self) -> Result<Vec<RowDiff>, ArrowError> {
        let sides = |change: &RowChange| match change {
            RowChange::Single(entry) if entry.more < 0 => (Some(entry.rest.clone()), None),
            RowChange::Single(entry) => (None, Some(entry.rest.clone())),
            RowChange::Pair { before, after, .. } => (Some(before.clone()), Some(after.clone())),
        };
        let sides: Vec<_> = self.kept.iter().map(sides).collect();
        let mut before = self.json(sides.iter().map(|(before, _)| before.as_deref()))?.into_iter();
        let mut after = self.json(sides.iter().map(|(_, after)| after.as_deref()))?.into_iter();
        let mut changed = self.changed()?.into_iter();
        let rows = self.kept.iter().map(|change| match change {
            RowChange::Single(entry) if entry.more < 0 => RowDiff {
                kind: ChangeKind::Removed,
                before: before.next(),
                after: None,
                changed: Vec::new(),
                times: entry.more.unsigned_abs(),
            },
            RowChange::Single(entry) => RowDiff {
                kind: ChangeKind::Added,
                before: None,
                after: after.next(),
                changed: Vec::new(),
                times: entry.more.unsigned_abs(),
            },
            RowChange::Pair { .. } => RowDiff {
                kind: ChangeKind::Changed,
                before: before.next(),
                after: after.next(),
                changed: changed.next().unwrap_or_default(),
                times: 1,
            },
        });
        Ok(rows.collect())
    }

    /// Returns the rows of one side as JSON. For each row of the page, `rest` has the encoded
    /// columns that are not in the key, or `None` if this side lacks the row.
    fn json<'b>(
        &self,
        rest: impl Iterator<Item = Option<&'b [u8]>>,
    ) -> Result<Vec<Value>, ArrowError> {
        let rows = self.kept.iter().zip(rest).filter_map(|(change, rest)| Some((change, rest?)));
        let rows: Vec<(&[u8], &[u8])> = rows
            .map(|(change, rest)| match change {
                RowChange::Single(DifferingRow { key, .. }) | RowChange::Pair { key, .. } => {
                    (key.as_slice(), rest)
                }
            })
            .collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let key = self.key.decode(rows.iter().map(|(key, _)| *key))?;
        let rest = self.rest.decode(rows.iter().map(|(_, rest)| *rest))?;
        let (key_places, rest_places) = self.compared.parts();
        let places = key_places.into_iter().chain(rest_places);
        let mut columns: Vec<(usize, ArrayRef)> = places.zip(key.into_iter().chain(rest)).collect();
        columns.sort_by_key(|(place, _)| *place);
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        to_json(&self.compared.schema(), columns)
    }

    /// Returns the differing columns of each changed row.
    fn changed(&self) -> Result<Vec<Vec<String>>, ArrowError> {
        let pairs: Vec<(&[u8], &[u8])> = self
            .kept
            .iter()
            .filter_map(|change| match change {
                RowChange::Pair { before, after, .. } => {
                    Some((before.as_slice(), after.as_slice()))
                }
                RowChange::Single(_) => None,
            })
            .collect();
        let before = self.rest.decode(pairs.iter().map(|(before, _)| *before))?;
        let after = self.rest.decode(pairs.iter().map(|(_, after)| *after))?;
        let differing = self.rest.differing(&before, &after)?;
        let names = self.remaining_names();
        let of_row = |row: usize| {
            let columns = names.iter().zip(&differing).filter(|(_, rows)| rows[row]);
            columns.map(|(name, _)| name.clone()).collect()
        };
        Ok((0..pairs.len()).map(of_row).collect())
    }
}
