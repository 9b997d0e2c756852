//! Snapshot summaries: added, removed and total counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use iceberg::spec::{DataContentType, DataFile, DataFileFormat, Operation, Struct, Summary};

use crate::table::{DeleteTotals, Totals, content_bytes};

/// Counts of the files that a commit adds and removes.
#[derive(Debug, Default)]
pub(crate) struct FileCounts {
    added: Totals,
    removed: Totals,
    /// Number of added and of removed deletion vectors. The counts of delete files include them.
    vectors: [u64; 2],
    partitions: HashSet<Struct>,
}

/// The effect of a change on the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitKind {
    /// Rows are only added.
    Append,
    /// Rows are added, removed or changed.
    Modify,
    /// Files are rewritten, but no rows change.
    Compact,
}

impl FileCounts {
    /// Counts an added data file or delete file.
    pub(crate) fn add(&mut self, file: &DataFile) {
        count(&mut self.added, file);
        self.vectors[0] += u64::from(is_vector(file));
        self.partitions.insert(file.partition().clone());
    }

    /// Counts a removed data file or delete file.
    pub(crate) fn remove(&mut self, file: &DataFile) {
        count(&mut self.removed, file);
        self.vectors[1] += u64::from(is_vector(file));
        self.partitions.insert(file.partition().clone());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.added == Totals::default() && self.removed == Totals::default()
    }

    /// Returns the number of removed data files.
    pub(crate) fn files_removed(&self) -> u64 {
        self.removed.files
    }

    /// Returns the totals after the commit.
    pub(crate) fn totals(&self, before: Totals) -> Totals {
        let after =
            |before: u64, added: u64, removed: u64| (before + added).saturating_sub(removed);
        let (added, removed) = (self.added.deletes, self.removed.deletes);
        Totals {
            rows: after(before.rows, self.added.rows, self.removed.rows),
            files: after(before.files, self.added.files, self.removed.files),
            bytes: after(before.bytes, self.added.bytes, self.removed.bytes),
            deletes: DeleteTotals {
                files: after(before.deletes.files, added.files, removed.files),
                positions: after(before.deletes.positions, added.positions, removed.positions),
                keys: after(before.deletes.keys, added.keys, removed.keys),
            },
        }
    }

    /// Builds the summary. Ignores the caller's values for properties that Iceberg defines.
    pub(crate) fn summarise(
        &self,
        before: Totals,
        kind: CommitKind,
        extra: BTreeMap<String, String>,
    ) -> Summary {
        let totals = self.totals(before);
        let mut properties: HashMap<String, String> = extra.into_iter().collect();
        let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
        set("engine-name", "headwater".to_owned());
        set("engine-version", env!("CARGO_PKG_VERSION").to_owned());
        let counts = [
            ("added-data-files", self.added.files),
            ("added-records", self.added.rows),
            ("added-files-size", self.added.bytes),
            ("deleted-data-files", self.removed.files),
            ("deleted-records", self.removed.rows),
            ("removed-files-size", self.removed.bytes),
            ("added-delete-files", self.added.deletes.files),
            // All delete files except vectors are position deletes: Headwater writes no others.
            ("added-position-delete-files", self.added.deletes.files - self.vectors[0]),
            ("added-dvs", self.vectors[0]),
            ("removed-dvs", self.vectors[1]),
            ("added-position-deletes", self.added.deletes.positions),
            ("removed-delete-files", self.removed.deletes.files),
            ("removed-position-deletes", self.removed.deletes.positions),
            ("removed-equality-deletes", self.removed.deletes.keys),
            ("changed-partition-count", self.partitions.len() as u64),
        ];
        for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            set(key, count.to_string());
        }
        let totals = [
            ("total-records", totals.rows),
            ("total-data-files", totals.files),
            ("total-files-size", totals.bytes),
            ("total-delete-files", totals.deletes.files),
            ("total-position-deletes", totals.deletes.positions),
            ("total-equality-deletes", totals.deletes.keys),
        ];
        for (key, count) in totals {
            set(key, count.to_string());
        }
        Summary { operation: self.operation(kind), additional_properties: properties }
    }

    fn deletes_rows(&self) -> bool {
        self.removed.files > 0 || self.added.deletes.files > 0
    }

    fn operation(&self, kind: CommitKind) -> Operation {
        match kind {
            CommitKind::Append => Operation::Append,
            CommitKind::Compact => Operation::Replace,
            CommitKind::Modify if self.added.files == 0 && self.deletes_rows() => Operation::Delete,
            CommitKind::Modify => Operation::Overwrite,
        }
    }
}

fn is_vector(file: &DataFile) -> bool {
    file.file_format() == DataFileFormat::Puffin
}

fn count(totals: &mut Totals, file: &DataFile) {
    if file.content_type() != DataContentType::Data {
        totals.deletes.add(file);
        totals.bytes += content_bytes(file);
        return;
    }
    totals.rows += file.record_count();
    totals.files += 1;
    totals.bytes += file.file_size_in_bytes();
}
