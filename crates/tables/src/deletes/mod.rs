//! Delete files, which delete rows of data files without rewriting them.
//!
//! [`attach`] finds the delete files that apply to each data file. [`RowDeletes::deleted`] reads
//! these files and returns the positions of the deleted rows, for all kinds of delete files. Delete
//! files that may refer to many data files of a partition are read together, and only once. So the
//! cost is linear in the number of files.

mod delete_file_index;
mod deletion_vector_reader;
mod deletion_vector_writer;
mod equality_deletes;
mod position_delete_writer;
mod position_deletes;
mod row_deletes;
mod shared_read;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use iceberg::spec::{DataContentType, DataFileFormat, ManifestEntryRef};
use object_store::path::Path;

pub(crate) use self::delete_file_index::{attach, named};
pub(crate) use self::equality_deletes::DeletedKeys;
pub(crate) use self::position_delete_writer::write_deletes;
pub(crate) use self::position_deletes::PositionsByFile;
pub use self::row_deletes::RowDeletes;
use self::shared_read::SharedRead;
use crate::read::FileLocation;
use crate::types::schema::names_of;
use crate::{Error, Result};

/// Maximum number of delete files read concurrently.
const READS_MAX: usize = 8;

/// A hash that identifies a list of delete files.
pub type Fingerprint = u128;

/// The identity of a delete file: its location and an offset in the file. A Puffin file can contain
/// many deletion vectors, each at another offset.
pub type DeleteKey = (String, i64);

/// Returns the location and the offset that identify the delete file of a manifest entry.
pub(crate) fn place_of(file: &iceberg::spec::DataFile) -> (&str, i64) {
    (file.file_path(), file.content_offset().unwrap_or_default())
}

/// A delete file, or one deletion vector of a Puffin file.
#[derive(Debug)]
pub struct DeleteFile {
    path: Path,
    /// The manifest entry.
    pub entry: ManifestEntryRef,
    /// The id of the file's partition spec.
    pub spec_id: i32,
}

impl DeleteFile {
    pub(crate) fn new(path: Path, entry: ManifestEntryRef, spec_id: i32) -> Self {
        DeleteFile { path, entry, spec_id }
    }

    fn location(&self) -> &str {
        self.entry.data_file.file_path()
    }

    fn file_location(&self) -> FileLocation {
        let bytes = self.entry.data_file.file_size_in_bytes();
        FileLocation { location: self.location().to_owned(), path: self.path.clone(), bytes }
    }

    fn sequence_number(&self) -> i64 {
        self.entry.sequence_number.unwrap_or_default()
    }

    /// Returns the identity of the delete file.
    fn key(&self) -> (&str, i64) {
        place_of(&self.entry.data_file)
    }

    fn owned_key(&self) -> DeleteKey {
        let (location, at) = self.key();
        (location.to_owned(), at)
    }

    fn is_vector(&self) -> bool {
        self.entry.data_file.file_format() == DataFileFormat::Puffin
    }

    fn is_equality(&self) -> bool {
        self.entry.data_file.content_type() == DataContentType::EqualityDeletes
    }

    /// Rejects a delete file in an unsupported format.
    fn check(&self) -> Result<()> {
        let format = self.entry.data_file.file_format();
        if matches!(format, DataFileFormat::Parquet | DataFileFormat::Puffin) {
            return Ok(());
        }
        let feature = format!("delete files of format {format}");
        Err(Error::Unsupported { location: self.location().to_owned(), feature })
    }
}

/// The delete files that apply to one data file.
#[derive(Debug)]
pub(crate) struct Deletes {
    /// The deletion vector. If it exists, position delete files are ignored.
    vector: Option<Arc<DeleteFile>>,
    /// Position delete files that apply only to this data file.
    own: Vec<Arc<DeleteFile>>,
    /// Position delete files that may refer to several data files.
    positions: Option<DeleteFileRange<PositionsByFile>>,
    /// Equality delete files, grouped by partition and compared columns.
    equality: Vec<DeleteFileRange<DeletedKeys>>,
    fingerprint: Fingerprint,
}

/// A group of delete files that are read together, ordered by sequence number.
#[derive(Debug)]
struct DeleteGroup<T> {
    files: Vec<Arc<DeleteFile>>,
    /// For each index, the fingerprint of the list of files from this index to the end.
    fingerprints: Vec<Fingerprint>,
    /// The columns whose values equality deletes compare; empty for position deletes.
    columns: Vec<arrow::datatypes::FieldRef>,
    content: SharedRead<T>,
}

/// The files of a group from an index to the end.
#[derive(Debug)]
struct DeleteFileRange<T> {
    group: Arc<DeleteGroup<T>>,
    from: usize,
}

impl<T> DeleteGroup<T> {
    fn new(files: Vec<Arc<DeleteFile>>, columns: Vec<arrow::datatypes::FieldRef>) -> Self {
        let mut fingerprints = Vec::with_capacity(files.len());
        // The fingerprints include the names and types of the compared columns. Cached keys depend
        // on them, and schema evolution can change them.
        let found: Vec<_> = columns
            .iter()
            .map(|column| (column.data_type().to_string(), names_of(column)))
            .collect();
        let mut last = if found.is_empty() { 0 } else { fingerprint(found) };
        for file in files.iter().rev() {
            last = fingerprint((file.key(), last));
            fingerprints.push(last);
        }
        fingerprints.reverse();
        DeleteGroup { files, fingerprints, columns, content: SharedRead::default() }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprints.first().copied().unwrap_or_default()
    }
}

impl<T> DeleteFileRange<T> {
    fn files(&self) -> &[Arc<DeleteFile>] {
        &self.group.files[self.from..]
    }

    fn fingerprint(&self) -> Fingerprint {
        self.group.fingerprints[self.from]
    }
}

fn fingerprint(of: impl Hash) -> Fingerprint {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &of).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(0) << 64) | half(1)
}

impl Deletes {
    /// Creates the set of delete files that apply to a data file; `None` if the set is empty.
    fn new(
        vector: Option<Arc<DeleteFile>>,
        own: Vec<Arc<DeleteFile>>,
        positions: Option<DeleteFileRange<PositionsByFile>>,
        equality: Vec<DeleteFileRange<DeletedKeys>>,
    ) -> Option<Self> {
        if vector.is_none() && own.is_empty() && positions.is_none() && equality.is_empty() {
            return None;
        }
        let mut equal: Vec<Fingerprint> =
            equality.iter().map(DeleteFileRange::fingerprint).collect();
        equal.sort_unstable();
        let fingerprint = fingerprint((
            vector.iter().map(|file| file.key()).collect::<Vec<_>>(),
            own.iter().map(|file| file.key()).collect::<Vec<_>>(),
            positions.as_ref().map(DeleteFileRange::fingerprint),
            equal,
        ));
        Some(Deletes { vector, own, positions, equality, fingerprint })
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the delete files that may apply to the data file.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Arc<DeleteFile>> {
        let positions = self.positions.iter().flat_map(DeleteFileRange::files);
        let equality = self.equality.iter().flat_map(DeleteFileRange::files);
        let own = self.vector.iter().chain(&self.own);
        own.chain(positions).chain(equality)
    }

    /// Returns the identities of the delete files.
    pub(crate) fn files(&self) -> impl Iterator<Item = DeleteKey> {
        self.each().map(|file| file.owned_key())
    }
}

/// Delete files grouped by data file or another key.
type DeleteFilesByKey<K> = HashMap<K, Vec<Arc<DeleteFile>>>;
