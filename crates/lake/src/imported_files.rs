//! Which files were imported into a table, so that none is imported twice.
//!
//! The list is part of the table's snapshot: its summary names, under [`IMPORTS_KEY`], objects of
//! the store that hold it. So the list follows branches, merges and time travel as the rows do, and
//! stands or falls with the commit. A list is kept in pieces of growing size, merged as they grow,
//! so that remembering one more of many files writes little.
//!
//! A file is its path and its content: the same content under another path is another file, and a
//! path with new content is to be imported again. Size and times on disk only save reading what has
//! not been touched.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use headwater_model::{ObjectId, TableName};
use headwater_store::Store;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The key of a snapshot's summary that names the list.
pub const IMPORTS_KEY: &str = "headwater.imports";

/// The time within which two changes of a file may carry the same time of change.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// Size and times of a file or object, read without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Time of the last change of the directory entry, in nanoseconds since 1970.
    pub changed_ns: i128,
}

/// A file that was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFile {
    path: String,
    bytes: u64,
    /// The first half of the SHA-256 of its bytes on disk, in hexadecimal digits.
    hash: String,
    /// When content and entry were changed last; none where it was so short before the import that
    /// another change could carry the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<(i128, i128)>,
}

impl ImportedFile {
    /// Returns the path or URL that the file was imported from.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Records a file by its path without symbolic links, its state on disk, and its hash.
    pub fn new(path: &str, stamp: FileStamp, hash: [u8; 16]) -> Self {
        let FileStamp { bytes, modified_ns, changed_ns } = stamp;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = now.as_nanos() as i128 - changed_ns > CLOCK_TICK.as_nanos() as i128;
        ImportedFile {
            path: path.to_owned(),
            bytes,
            hash: hex::encode(hash),
            times: settled.then_some((modified_ns, changed_ns)),
        }
    }
}

/// The files of one import, to be added to the list of its table.
#[derive(Debug, Clone)]
pub struct ImportedFiles {
    /// The files.
    pub files: Vec<ImportedFile>,
    /// Whether files may be imported although they were before.
    pub again: bool,
    /// What the snapshot's summary said when the import chose its files.
    pub known: Option<String>,
}

/// One piece of a list: the object that holds it, and how many files are in it.
#[derive(Debug, Clone, Copy)]
struct Piece {
    id: ObjectId,
    files: usize,
}

impl ImportedFiles {
    /// The summary value with these files added to the list `current`; the pieces to store are put
    /// into `objects`. `ImportedMeanwhile` where another commit imported one of the files.
    pub async fn add_to(
        &self,
        store: &dyn Store,
        table: &TableName,
        current: Option<&str>,
        objects: &mut Vec<Bytes>,
    ) -> Result<String> {
        if !self.again && current != self.known.as_deref() {
            let imported = Imported::load(store, table, current).await?;
            if let Some(file) = self.files.iter().find(|file| imported.has(&file.path, &file.hash))
            {
                let (file, table) = (file.path.clone(), table.clone());
                return Err(Error::ImportedMeanwhile { file, table });
            }
        }
        let mut pieces = parse(table, current)?;
        let mut newest = self.files.clone();
        while let Some(last) = pieces.pop_if(|last| last.files < 2 * newest.len()) {
            let mut merged = load_piece(store, table, &last).await?;
            merged.append(&mut newest);
            newest = merged;
        }
        let bytes = serde_json::to_vec(&newest).map_err(|error| corrupt(table, &error))?;
        pieces.push(Piece { id: ObjectId::of(&bytes), files: newest.len() });
        objects.push(bytes.into());
        let text: Vec<String> =
            pieces.iter().map(|piece| format!("{}:{}", piece.id, piece.files)).collect();
        Ok(text.join(" "))
    }
}

/// The files that were imported into a table.
#[derive(Debug, Default)]
pub struct Imported(HashMap<String, Vec<ImportedFile>>);

impl Imported {
    /// A list of these files.
    pub fn of(files: Vec<ImportedFile>) -> Self {
        let mut imported = Imported::default();
        for file in files {
            imported.0.entry(file.path.clone()).or_default().push(file);
        }
        imported
    }

    /// Reports whether the list has the file.
    pub fn has_file(&self, file: &ImportedFile) -> bool {
        self.has(&file.path, &file.hash)
    }

    /// The files that another list does not have, by path.
    pub fn without(&self, other: &Imported) -> Vec<ImportedFile> {
        let files = self.0.values().flatten().filter(|file| !other.has_file(file));
        let mut files: Vec<ImportedFile> = files.cloned().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Reads the list that a snapshot's summary names.
    pub async fn load(store: &dyn Store, table: &TableName, value: Option<&str>) -> Result<Self> {
        let mut imported = Imported::default();
        for piece in parse(table, value)? {
            for file in load_piece(store, table, &piece).await? {
                imported.0.entry(file.path.clone()).or_default().push(file);
            }
        }
        Ok(imported)
    }

    /// Reports whether a file of that path was ever imported.
    pub fn has_path(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Reports whether the file was imported and is unchanged since; its content need not be read.
    pub fn is_untouched(&self, path: &str, stamp: FileStamp) -> bool {
        let times = Some((stamp.modified_ns, stamp.changed_ns));
        let entries = self.0.get(path).into_iter().flatten();
        entries.into_iter().any(|entry| entry.bytes == stamp.bytes && entry.times == times)
    }

    /// Reports whether this content was imported from that path.
    pub fn has(&self, path: &str, hash: &str) -> bool {
        self.0.get(path).is_some_and(|entries| entries.iter().any(|entry| entry.hash == hash))
    }
}

fn parse(table: &TableName, value: Option<&str>) -> Result<Vec<Piece>> {
    let piece = |text: &str| {
        let (id, files) = text.split_once(':')?;
        Some(Piece { id: ObjectId::from_str(id).ok()?, files: files.parse().ok()? })
    };
    let pieces: Option<Vec<Piece>> =
        value.unwrap_or_default().split_whitespace().map(piece).collect();
    pieces.ok_or_else(|| corrupt(table, &"its summary is malformed"))
}

async fn load_piece(
    store: &dyn Store,
    table: &TableName,
    piece: &Piece,
) -> Result<Vec<ImportedFile>> {
    let Some(bytes) = store.object(&piece.id).await? else {
        return Err(corrupt(table, &format!("object `{}` is missing", piece.id)));
    };
    serde_json::from_slice(&bytes).map_err(|error| corrupt(table, &error))
}

fn corrupt(table: &TableName, reason: &dyn std::fmt::Display) -> Error {
    Error::ImportState { table: table.clone(), reason: reason.to_string() }
}

/// The number of files in each piece, for tests.
#[cfg(test)]
fn sizes(value: &str) -> Vec<usize> {
    let table = TableName::new("public", "t").unwrap();
    parse(&table, Some(value)).unwrap().iter().map(|piece| piece.files).collect()
}

#[cfg(test)]
mod tests {
    use headwater_store::{Batch, MemoryStore};

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
    async fn a_list_grows_file_by_file_in_few_pieces() {
        let store = MemoryStore::new();
        let table = TableName::new("public", "t").unwrap();
        let mut value: Option<String> = None;
        for number in 0..300 {
            let files = vec![file(number)];
            let import = ImportedFiles { files, again: false, known: value.clone() };
            let mut objects = Vec::new();
            let next = import.add_to(&store, &table, value.as_deref(), &mut objects).await.unwrap();
            store.apply(Batch { objects, ..Batch::default() }).await.unwrap();
            value = Some(next);
        }
        let value = value.unwrap();
        assert!(sizes(&value).len() <= 10, "{:?}", sizes(&value));
        let imported = Imported::load(&store, &table, Some(&value)).await.unwrap();
        assert!((0..300).all(|number| imported.has(&file(number).path, &file(number).hash)));
        assert!(!imported.has("/d/300.csv", &file(300).hash));
    }

    #[tokio::test]
    async fn a_file_that_another_import_brought_is_found_out() {
        let store = MemoryStore::new();
        let table = TableName::new("public", "t").unwrap();
        let import = |known| ImportedFiles { files: vec![file(1)], again: false, known };
        let mut objects = Vec::new();
        let value = import(None).add_to(&store, &table, None, &mut objects).await.unwrap();
        store.apply(Batch { objects, ..Batch::default() }).await.unwrap();
        let second = import(None).add_to(&store, &table, Some(&value), &mut Vec::new()).await;
        assert!(matches!(second, Err(Error::ImportedMeanwhile { .. })));
    }
}
