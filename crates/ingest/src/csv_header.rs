//! The column names of a CSV file, and their matching with the names of other columns.

use std::collections::{HashMap, HashSet};

/// Maximum number of columns that an import may give a table. A larger number usually means that
/// data was read as column names.
pub(crate) const COLUMNS_MAX: usize = 10_000;

/// Returns usable names from a header row. Names are trimmed. Missing names (`column_3`) and
/// duplicate names (`price`, `price_2`) get numbers.
pub(crate) fn names<'a>(header: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut names = Vec::new();
    for (index, text) in header.enumerate() {
        let text = text.trim();
        let wanted =
            if text.is_empty() { format!("column_{}", index + 1) } else { text.to_owned() };
        let mut name = wanted.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        names.push(name);
    }
    names
}

/// Returns names for the columns of a file without a header.
pub(crate) fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("column_{number}")).collect()
}

/// Index of columns by name. A name matches exactly, or else case-insensitively. If several columns
/// match, the first one is used.
#[derive(Debug, Default, Clone)]
pub(crate) struct ColumnIndex {
    exact: HashMap<String, usize>,
    folded: HashMap<String, usize>,
}

impl ColumnIndex {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut index = ColumnIndex::default();
        for (at, name) in names.enumerate() {
            index.insert(name, at);
        }
        index
    }

    pub fn insert(&mut self, name: &str, at: usize) {
        self.exact.insert(name.to_owned(), at);
        self.folded.entry(name.to_lowercase()).or_insert(at);
    }

    pub fn get(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name).copied();
        exact.or_else(|| self.folded.get(&name.to_lowercase()).copied())
    }

    /// Returns the index of an exact name.
    pub fn get_exact(&self, name: &str) -> Option<usize> {
        self.exact.get(name).copied()
    }
}

/// Maps each column of a file to an index in `names`. A column matches a name case-insensitively
/// only if no other column of the file matches this name exactly.
pub(crate) fn map_columns(columns: &[String], names: &ColumnIndex) -> Vec<Option<usize>> {
    let exact: HashSet<usize> = columns.iter().filter_map(|name| names.get_exact(name)).collect();
    let mut taken = HashSet::new();
    let place = |name: &String| {
        let place = match names.get_exact(name) {
            Some(place) => Some(place),
            None => names.get(name).filter(|place| !exact.contains(place)),
        };
        place.filter(|place| taken.insert(*place))
    };
    columns.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn missing_and_repeated_names_are_numbered() {
        let header = [" id ", "", "price", "price", "price_2", "price"];
        let expected = ["id", "column_2", "price", "price_2", "price_2_2", "price_3"];
        assert_eq!(names(header.into_iter()), expected);
        assert_eq!(numbered(2), ["column_1", "column_2"]);
    }

    #[test]
    fn columns_are_matched_as_written_and_then_without_case() {
        let index = ColumnIndex::new(["id", "Origin", "a", "A"].into_iter());
        let check = |columns: &[&str], expected: &[Option<usize>]| {
            assert_eq!(map_columns(&owned(columns), &index), expected, "{columns:?}");
        };
        check(&["ID", "origin"], &[Some(0), Some(1)]);
        check(&["A", "a", "Id"], &[Some(3), Some(2), Some(0)]);
        check(&["ID", "id"], &[None, Some(0)]);
        check(&["new"], &[None]);
    }
}
