//! Sets of row positions in a data file.

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

/// Positions of rows in a data file, from 0, as a Roaring bitmap. A million consecutive positions
/// need a few bytes; a million scattered positions need about two megabytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positions(RoaringTreemap);

impl Positions {
    /// Creates an empty set.
    pub fn new() -> Self {
        Positions::default()
    }

    /// Adds a position. Returns false if the set already contained it.
    pub fn insert(&mut self, position: u64) -> bool {
        self.0.insert(position)
    }

    /// Returns true if the set contains a position.
    pub fn contains(&self, position: u64) -> bool {
        self.0.contains(position)
    }

    /// Returns the number of positions.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Returns true if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the positions in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter()
    }

    /// Returns the first and the last position; `None` if the set is empty.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        self.0.min().zip(self.0.max())
    }

    /// Returns the positions that are at least `first`, in order.
    pub fn from(&self, first: u64) -> impl Iterator<Item = u64> + '_ {
        let mut rest = self.0.iter();
        rest.advance_to(first);
        rest
    }

    /// Returns the number of positions less than `end`.
    pub fn before(&self, end: u64) -> u64 {
        self.0.range_cardinality(..end)
    }

    /// Adds all positions of another set.
    pub fn add_all(&mut self, other: &Positions) {
        self.0 |= &other.0;
    }

    /// Returns true if the set contains all positions of another set.
    pub fn has_all(&self, other: &Positions) -> bool {
        other.0.is_subset(&self.0)
    }

    /// Returns the approximate memory size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.serialized_size()
    }

    /// Serializes the positions as a 64-bit Roaring bitmap in the portable format.
    pub fn to_portable(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        // Writing to a vector cannot fail.
        let _ = self.0.serialize_into(&mut bytes);
        bytes
    }

    /// Deserializes a portable bitmap; `None` if it is invalid or followed by other bytes.
    pub fn from_portable(mut bytes: &[u8]) -> Option<Self> {
        let positions = RoaringTreemap::deserialize_from(&mut bytes).ok()?;
        bytes.is_empty().then_some(Positions(positions))
    }

    /// Returns the rows of a file with `rows` rows that are not in the set.
    pub fn rest(&self, rows: u64) -> RowSelection {
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
    fn the_remaining_rows_are_selected_in_runs() {
        assert_eq!(rest(&[], 3), [(false, 3)]);
        assert_eq!(rest(&[0, 1, 2], 3), [(true, 3)]);
        assert_eq!(rest(&[1], 3), [(false, 1), (true, 1), (false, 1)]);
        assert_eq!(rest(&[0, 2, 9], 3), [(true, 1), (false, 1), (true, 1)]);
    }

    #[test]
    fn a_position_is_inserted_once() {
        let mut positions = Positions::new();
        assert!(positions.insert(7) && !positions.insert(7));
        assert_eq!(
            (positions.len(), positions.contains(7), positions.is_empty()),
            (1, true, false)
        );
    }
}
