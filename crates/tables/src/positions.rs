//! Rows of one data file, by their positions in it.

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

/// Positions of rows in a data file, the first row's being 0. Compressed: a million rows in a run
/// take a few bytes, a million spread ones about two megabytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positions(RoaringTreemap);

impl Positions {
    /// No positions.
    pub fn new() -> Self {
        Positions::default()
    }

    /// Adds a position; false where it was there already.
    pub fn insert(&mut self, position: u64) -> bool {
        self.0.insert(position)
    }

    /// Whether a position is among them.
    pub fn contains(&self, position: u64) -> bool {
        self.0.contains(position)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The positions in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter()
    }

    /// The first and the last; none where there are none.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        self.0.min().zip(self.0.max())
    }

    /// The positions from one on, in order.
    pub fn from(&self, first: u64) -> impl Iterator<Item = u64> + '_ {
        let mut rest = self.0.iter();
        rest.advance_to(first);
        rest
    }

    /// How many lie before one.
    pub fn before(&self, end: u64) -> u64 {
        self.0.range_cardinality(..end)
    }

    /// Adds the positions of another set.
    pub fn add_all(&mut self, other: &Positions) {
        self.0 |= &other.0;
    }

    /// Whether all positions of another set are among them.
    pub fn has_all(&self, other: &Positions) -> bool {
        other.0.is_subset(&self.0)
    }

    /// Bytes that they take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.serialized_size()
    }

    /// The bytes of a 64-bit Roaring bitmap in the portable form.
    pub(crate) fn to_portable(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        // A vector takes every byte.
        let _ = self.0.serialize_into(&mut bytes);
        bytes
    }

    /// The positions of such a bitmap; none where it cannot be read, or has bytes to spare.
    pub(crate) fn from_portable(mut bytes: &[u8]) -> Option<Self> {
        let positions = RoaringTreemap::deserialize_from(&mut bytes).ok()?;
        bytes.is_empty().then_some(Positions(positions))
    }

    /// Which of a file's `rows` are not among them.
    pub(crate) fn rest(&self, rows: u64) -> RowSelection {
        let mut selectors: Vec<RowSelector> = Vec::new();
        let mut next = 0;
        for position in self.iter().take_while(|position| *position < rows) {
            if position > next {
                selectors.push(RowSelector::select((position - next) as usize));
            }
            match selectors.last_mut() {
                Some(last) if last.skip => last.row_count += 1,
                _ => selectors.push(RowSelector::skip(1)),
            }
            next = position + 1;
        }
        if rows > next {
            selectors.push(RowSelector::select((rows - next) as usize));
        }
        selectors.into()
    }
}

impl FromIterator<u64> for Positions {
    fn from_iter<I: IntoIterator<Item = u64>>(positions: I) -> Self {
        Positions(positions.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(positions: &[u64], rows: u64) -> Vec<(bool, usize)> {
        let selection = positions.iter().copied().collect::<Positions>().rest(rows);
        selection.iter().map(|selector| (selector.skip, selector.row_count)).collect()
    }

    #[test]
    fn the_rest_of_a_file_is_what_lies_between() {
        assert_eq!(rest(&[], 3), [(false, 3)]);
        assert_eq!(rest(&[0, 1, 2], 3), [(true, 3)]);
        assert_eq!(rest(&[1], 3), [(false, 1), (true, 1), (false, 1)]);
        assert_eq!(rest(&[0, 2, 9], 3), [(true, 1), (false, 1), (true, 1)]);
    }

    #[test]
    fn a_position_is_there_once() {
        let mut positions = Positions::new();
        assert!(positions.insert(7) && !positions.insert(7));
        assert_eq!(
            (positions.len(), positions.contains(7), positions.is_empty()),
            (1, true, false)
        );
    }
}
