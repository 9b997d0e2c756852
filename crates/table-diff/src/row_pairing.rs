//! Pairs rows by key: a removed and an added row with the same key become one changed row.
//!
//! Rows arrive in key order, and removed rows before added rows of the same key, so at most two
//! rows are buffered.

use crate::row_encoding::has_null;

/// An encoded row that differs between the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DifferingRow {
    /// Encoded key, or the whole row if there is no key.
    pub key: Vec<u8>,
    /// Encoded columns that are not part of the key.
    pub rest: Vec<u8>,
    /// Number of copies of the row on the second side, minus the number on the first side.
    pub more: i64,
}

/// Change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowChange {
    /// One or several equal rows that were removed or added.
    Single(DifferingRow),
    /// Changed row.
    Pair { key: Vec<u8>, before: Vec<u8>, after: Vec<u8> },
}

impl RowChange {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            RowChange::Single(entry) => entry.key.len() + entry.rest.len(),
            RowChange::Pair { key, before, after } => key.len() + before.len() + after.len(),
        }
    }
}

/// The pairing of rows that arrive in key order, and its counts.
#[derive(Debug, Default)]
pub(crate) struct RowPairing {
    keyed: bool,
    held: Vec<DifferingRow>,
    /// The current key, if it has several rows on one side.
    several: Option<Vec<u8>>,
    /// Number of keys with several rows on one side.
    pub duplicate_keys: u64,
    /// Number of rows with a null in their key.
    pub null_keys: u64,
}

impl RowPairing {
    pub(crate) fn new(keyed: bool) -> Self {
        RowPairing { keyed, ..RowPairing::default() }
    }

    /// Adds the next row. Emits the changes that are complete now.
    pub(crate) fn take(&mut self, entry: DifferingRow, pass_on: &mut impl FnMut(RowChange)) {
        if !self.keyed {
            return pass_on(RowChange::Single(entry));
        }
        if has_null(&entry.key) {
            self.null_keys += entry.more.unsigned_abs();
            self.finish(pass_on);
            return pass_on(RowChange::Single(entry));
        }
        if self.several.as_ref() == Some(&entry.key) {
            return pass_on(RowChange::Single(entry));
        }
        if self.held.first().is_some_and(|held| held.key != entry.key) {
            self.finish(pass_on);
        }
        self.held.push(entry);
        if !self.may_pair() {
            self.duplicate_keys += 1;
            self.several = self.held.first().map(|held| held.key.clone());
            self.held.drain(..).map(RowChange::Single).for_each(pass_on);
        }
    }

    /// Emits the buffered rows.
    pub(crate) fn finish(&mut self, pass_on: &mut impl FnMut(RowChange)) {
        let mut held = std::mem::take(&mut self.held);
        match (held.pop(), held.pop()) {
            (Some(after), Some(before)) => {
                pass_on(RowChange::Pair { key: after.key, before: before.rest, after: after.rest });
            }
            (Some(single), None) => pass_on(RowChange::Single(single)),
            (None, _) => {}
        }
    }

    /// Returns true if the buffered rows are one removed row, one added row, or one of each.
    fn may_pair(&self) -> bool {
        matches!(
            self.held.iter().map(|entry| entry.more).collect::<Vec<_>>()[..],
            [-1 | 1] | [-1, 1]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, rest: &str, more: i64) -> DifferingRow {
        let flag = if key.is_empty() { "\u{1}" } else { "\0" };
        let key = format!("{flag}{key}").into_bytes();
        DifferingRow { key, rest: rest.as_bytes().to_vec(), more }
    }

    fn check(keyed: bool, entries: &[(&str, &str, i64)], expected: &[&str], told: (u64, u64)) {
        let mut pairing = RowPairing::new(keyed);
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut pass_on = |change: RowChange| {
            found.push(match change {
                RowChange::Single(entry) => {
                    format!("{}{} {:+}", text(&entry.key[1..]), text(&entry.rest), entry.more)
                }
                RowChange::Pair { key, before, after } => {
                    format!("{}{}>{}", text(&key[1..]), text(&before), text(&after))
                }
            });
        };
        for (key, rest, more) in entries {
            pairing.take(entry(key, rest, *more), &mut pass_on);
        }
        pairing.finish(&mut pass_on);
        assert_eq!(found, expected);
        assert_eq!((pairing.duplicate_keys, pairing.null_keys), told);
    }

    #[test]
    fn a_removed_and_an_added_row_of_a_key_are_a_changed_row() {
        let entries = [("a", "1", -1), ("a", "2", 1), ("b", "1", -1), ("c", "1", 1)];
        check(true, &entries, &["a1>2", "b1 -1", "c1 +1"], (0, 0));
        check(false, &entries[..2], &["a1 -1", "a2 +1"], (0, 0));
    }

    #[test]
    fn several_rows_of_a_key_are_reported_and_not_paired() {
        let entries =
            [("a", "1", -1), ("a", "2", -1), ("a", "3", 1), ("b", "1", -1), ("b", "2", 1)];
        check(true, &entries, &["a1 -1", "a2 -1", "a3 +1", "b1>2"], (1, 0));
        check(true, &[("a", "1", 2)], &["a1 +2"], (1, 0));
    }

    #[test]
    fn a_null_is_no_key() {
        let entries = [("a", "1", -1), ("", "1", -1), ("", "2", 2)];
        check(true, &entries, &["a1 -1", "1 -1", "2 +2"], (0, 3));
    }
}
