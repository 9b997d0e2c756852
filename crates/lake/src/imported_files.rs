//! The list of files that were imported into a table. An import skips the files in this list.
//!
//! The list belongs to the table's snapshot: the snapshot summary contains, under the key
//! [`IMPORTS_KEY`], the ids of the store objects with the list. So branches, merges and time travel
//! apply to the list, and a commit changes rows and list atomically. A list is stored in segments,
//! which are merged as in an LSM tree, so that adding one file writes little data.
//!
//! A file is identified by its path and the hash of its content. So the same content under another
//! path is another file, and a path whose content has changed is imported again. Size and times of
//! a file are compared only to avoid reading files that have not changed.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use headwater_model::{ObjectId, TableName};
use headwater_store::Store;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The key of the snapshot summary that holds the object ids of the list.
pub const IMPORTS_KEY: &str = "headwater.imports";

/// The resolution of file timestamps. Two changes of a file within this time may have the same
/// timestamp.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// The size and times of a file or object, which are known without reading its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttributes {
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Time of the last change of the directory entry, in nanoseconds since 1970.
    pub changed_ns: i128,
}

/// An imported file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFile {
    path: String,
    bytes: u64,
    /// The first half of the SHA-256 of the file's bytes on disk, in hexadecimal digits.
    hash: String,
    /// The time of the last change of the content (mtime) and of the directory entry (ctime), in
    /// nanoseconds. `None` if the file changed less than [`CLOCK_TICK`] before the import: a change
    /// after the import could then leave both times equal, so the file must be read again to detect
    /// a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<(i128, i128)>,
}

impl ImportedFile {
    /// Returns the path or URL from which the file was imported.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Creates a record of an imported file. `path` contains no symbolic links.
    pub fn new(path: &str, stamp: FileAttributes, hash: [u8; 16]) -> Self {
        let FileAttributes { bytes, modified_ns, changed_ns } = stamp;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_reliable = now.as_nanos() as i128 - changed_ns > CLOCK_TICK.as_nanos() as i128;
        ImportedFile {
            path: path.to_owned(),
            bytes,
            hash: hex::encode(hash),
            times: is_reliable.then_some((modified_ns, changed_ns)),
        }
    }
}

/// The files of one import, which are to be added to the list of the table.
#[derive(Debug, Clone)]
pub struct ImportedFiles {
    /// The imported files.
    pub files: Vec<ImportedFile>,
    /// True to import files again that are already in the list.
    pub again: bool,
    /// The value of [`IMPORTS_KEY`] in the snapshot summary when the import selected its files.
    pub known: Option<String>,
}

/// A segment of a list: the id of its store object, and the number of files in it.
#[derive(Debug, Clone, Copy)]
struct ImportListSegment {
    id: ObjectId,
    files: usize,
}

impl ImportedFiles {
    /// Adds these files to the list `current`, and returns the new value for the snapshot summary.
    /// The new segments are added to `objects`. Fails with `ImportedMeanwhile` if another commit
    /// has imported one of these files after `known` was read.
    pub async fn add_to(
        &self,
        store: &dyn Store,
        table: &TableName,
        current: Option<&str>,
        objects: &mut Vec<Bytes>,
    ) -> Result<String> {
        if !self.again && current != self.known.as_deref() {
            let imported = ImportedFileMap::load(store, table, current).await?;
            if let Some(file) = self.files.iter().find(|file| imported.has(&file.path, &file.hash))
            {
                let (file, table) = (file.path.clone(), table.clone());
                return Err(Error::ImportedMeanwhile { file, table });
            }
        }
        let mut segments = parse(table, current)?;
        let mut newest = self.files.clone();
        while let Some(last) = segments.pop_if(|last| last.files < 2 * newest.len()) {
            let mut merged = load_segment(store, table, &last).await?;
            merged.append(&mut newest);
            newest = merged;
        }
        let bytes = serde_json::to_vec(&newest).map_err(|error| corrupt(table, &error))?;
        segments.push(ImportListSegment { id: ObjectId::of(&bytes), files: newest.len() });
        objects.push(bytes.into());
        let text: Vec<String> =
            segments.iter().map(|segment| format!("{}:{}", segment.id, segment.files)).collect();
        Ok(text.join(" "))
    }
}

/// The list of files that were imported into a table, by path.
#[derive(Debug, Default)]
pub struct ImportedFileMap(HashMap<String, Vec<ImportedFile>>);

impl ImportedFileMap {
    /// Creates a list of files.
    pub fn of(files: Vec<ImportedFile>) -> Self {
        let mut imported = ImportedFileMap::default();
        for file in files {
            imported.0.entry(file.path.clone()).or_default().push(file);
        }
        imported
    }

    /// Returns true if the list contains the file.
    pub fn has_file(&self, file: &ImportedFile) -> bool {
        self.has(&file.path, &file.hash)
    }

    /// Returns the files that are not in another list, sorted by path.
    pub fn without(&self, other: &ImportedFileMap) -> Vec<ImportedFile> {
        let files = self.0.values().flatten().filter(|file| !other.has_file(file));
        let mut files: Vec<ImportedFile> = files.cloned().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Reads the list of a snapshot from the value of its summary property.
    pub async fn load(store: &dyn Store, table: &TableName, value: Option<&str>) -> Result<Self> {
        let mut imported = ImportedFileMap::default();
        for segment in parse(table, value)? {
            for file in load_segment(store, table, &segment).await? {
                imported.0.entry(file.path.clone()).or_default().push(file);
            }
        }
        Ok(imported)
    }

    /// Returns true if a file with this path was imported.
    pub fn has_path(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Returns true if a file with this path was imported and still has the same size and times.
    pub fn is_untouched(&self, path: &str, stamp: FileAttributes) -> bool {
        let times = Some((stamp.modified_ns, stamp.changed_ns));
        let entries = self.0.get(path).into_iter().flatten();
        entries.into_iter().any(|entry| entry.bytes == stamp.bytes && entry.times == times)
    }

    /// Returns true if a file with this path and content hash was imported before.
    pub fn has(&self, path: &str, hash: &str) -> bool {
        self.0.get(path).is_some_and(|entries| entries.iter().any(|entry| entry.hash == hash))
    }
}

fn parse(table: &TableName, value: Option<&str>) -> Result<Vec<ImportListSegment>> {
    let segment = |text: &str| {
        let (id, files) = text.split_once(':')?;
        Some(ImportListSegment { id: ObjectId::from_str(id).ok()?, files: files.parse().ok()? })
    };
    let segments: Option<Vec<ImportListSegment>> =
        value.unwrap_or_default().split_whitespace().map(segment).collect();
    segments.ok_or_else(|| corrupt(table, &"the summary of the list is malformed"))
}

async fn load_segment(
    store: &dyn Store,
    table: &TableName,
    segment: &ImportListSegment,
) -> Result<Vec<ImportedFile>> {
    let Some(bytes) = store.object(&segment.id).await? else {
        return Err(corrupt(table, &format!("object `{}` is missing", segment.id)));
    };
    serde_json::from_slice(&bytes).map_err(|error| corrupt(table, &error))
}

fn corrupt(table: &TableName, reason: &dyn std::fmt::Display) -> Error {
    Error::ImportState { table: table.clone(), reason: reason.to_string() }
}

/// Returns the number of files in each segment of the list with this summary value.
#[cfg(test)]
fn sizes(value: &str) -> Vec<usize> {
    let table = TableName::new("public", "t").unwrap();
    parse(&table, Some(value)).unwrap().iter().map(|segment| segment.files).collect()
}

#[cfg(test)]
mod tests {
    use headwater_store::{MemoryStore, WriteBatch};

    use super::*;

    fn file(number: usize) -> ImportedFile {
        ImportedFile {
            path: format!("/d/{number}.csv"),
            bytes: 1,
            hash: format!("{number:032x}"),
            times: None,
        }
    }

    #[tokio::test]
    async fn a_list_that_grows_file_by_file_has_few_segments() {
        let store = MemoryStore::new();
        let table = TableName::new("public", "t").unwrap();
        let mut value: Option<String> = None;
        for number in 0..300 {
            let files = vec![file(number)];
            let import = ImportedFiles { files, again: false, known: value.clone() };
            let mut objects = Vec::new();
            let next = import.add_to(&store, &table, value.as_deref(), &mut objects).await.unwrap();
            store.apply(WriteBatch { objects, ..WriteBatch::default() }).await.unwrap();
            value = Some(next);
        }
        let value = value.unwrap();
        assert!(sizes(&value).len() <= 10, "{:?}", sizes(&value));
        let imported = ImportedFileMap::load(&store, &table, Some(&value)).await.unwrap();
        assert!((0..300).all(|number| imported.has(&file(number).path, &file(number).hash)));
        assert!(!imported.has("/d/300.csv", &file(300).hash));
    }

    #[tokio::test]
    async fn a_file_imported_by_another_commit_is_a_conflict() {
        let store = MemoryStore::new();
        let table = TableName::new("public", "t").unwrap();
        let import = |known| ImportedFiles { files: vec![file(1)], again: false, known };
        let mut objects = Vec::new();
        let value = import(None).add_to(&store, &table, None, &mut objects).await.unwrap();
        store.apply(WriteBatch { objects, ..WriteBatch::default() }).await.unwrap();
        let second = import(None).add_to(&store, &table, Some(&value), &mut Vec::new()).await;
        assert!(matches!(second, Err(Error::ImportedMeanwhile { .. })));
    }
}
