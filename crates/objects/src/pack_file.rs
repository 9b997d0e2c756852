//! Pack files of functions: files that belong to no bucket.
//!
//! The files are stored with the contents of objects, and are made durable and deleted in the same
//! way. A pack file has a name, and its content never changes. No protocol lists pack files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use headwater_model::{ErrorCode, Problem, Timestamp};
use headwater_store::{RefChange, RefPrecondition};

use crate::content::ContentStream;
use crate::objects::relative;
use crate::record::{PACK_FILES, PackFileRecord, decode, pack_file_ref, put};
use crate::{Error, Objects, Result};

/// Maximum number of attempts to change a pack file while other requests change it.
const ATTEMPTS: usize = 30;

/// Number of records per read.
const PAGE: usize = 1_000;

/// Number of bytes that are read from a pack file at once.
const PART_BYTES: usize = 1 << 20;

/// The content of a pack file.
pub enum PackFileContent {
    /// A file on this machine. It remains readable if the pack file is deleted.
    File(File),
    /// The parts of a file in a cloud object store.
    Parts(ContentStream),
}

impl Objects {
    /// Stores the first `bytes` of a file as a pack file. If a pack file of this name exists,
    /// replaces its file and its time. The pack file is durable on return.
    pub async fn put_pack_file(&self, name: &str, file: Arc<File>, bytes: u64) -> Result<()> {
        let written = match &self.0.folder {
            Some(folder) => self.copy_from_disk(file, bytes, folder).await?,
            None => self.write(parts(file, bytes)).await?,
        };
        let corrupt = || Error::Corrupt { name: pack_file_ref(name) };
        let blob = written.blob.clone().ok_or_else(corrupt)?;
        let record = PackFileRecord { blob, stored: self.now() };
        let reference = pack_file_ref(name);
        for _ in 0..ATTEMPTS {
            let stored = self.0.store.reference(&reference).await?;
            let mut refs: Vec<RefChange> = written.garbage().into_iter().collect();
            if let Some(stored) = &stored {
                let replaced: PackFileRecord = decode(&reference, stored)?;
                refs.extend(self.discard(vec![replaced.blob.name])?);
            }
            let expected = stored.map_or(RefPrecondition::Absent, RefPrecondition::Value);
            refs.push(put(reference.clone(), &record, expected)?);
            if self.apply(refs).await? {
                return Ok(());
            }
        }
        self.delete_collected(&written).await?;
        Err(Error::Conflict { key: name.to_owned() })
    }

    /// Opens a pack file.
    ///
    /// Errors: [`Error::NoObject`].
    pub async fn open_pack_file(&self, name: &str) -> Result<PackFileContent> {
        let reference = pack_file_ref(name);
        let stored = self.0.store.reference(&reference).await?;
        let stored = stored.ok_or_else(|| Error::NoObject { key: name.to_owned() })?;
        let PackFileRecord { blob, .. } = decode(&reference, &stored)?;
        if let Some(folder) = &self.0.folder {
            let path = folder.join(relative(&blob.name));
            let opened = tokio::fs::File::open(path).await;
            let opened = opened.map_err(|error| failed(&error))?;
            return Ok(PackFileContent::File(opened.into_std().await));
        }
        let size = blob.size;
        Ok(PackFileContent::Parts(self.read(vec![blob], 0..size).await?))
    }

    /// Returns the names of all pack files, and the times at which they were last stored.
    pub async fn pack_files(&self) -> Result<Vec<(String, Timestamp)>> {
        let (mut pack_files, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.0.store.references(PACK_FILES, after.as_deref(), PAGE).await?;
            for (reference, value) in &page {
                let record: PackFileRecord = decode(reference, value)?;
                pack_files
                    .push((reference.trim_start_matches(PACK_FILES).to_owned(), record.stored));
            }
            after = page.last().map(|(reference, _)| reference.clone());
            if page.len() < PAGE {
                return Ok(pack_files);
            }
        }
    }

    /// Deletes a pack file that was last stored at the given time. Does nothing if the pack file is
    /// missing, or has been stored again since then.
    pub async fn delete_pack_file(&self, name: &str, stored_at: Timestamp) -> Result<()> {
        let name = pack_file_ref(name);
        let Some(stored) = self.0.store.reference(&name).await? else { return Ok(()) };
        let record: PackFileRecord = decode(&name, &stored)?;
        if record.stored != stored_at {
            return Ok(());
        }
        let mut refs: Vec<RefChange> = self.discard(vec![record.blob.name])?.into_iter().collect();
        refs.push(RefChange { name, expected: RefPrecondition::Value(stored), value: None });
        self.apply(refs).await.map(drop)
    }
}

/// Returns the content of a file in parts.
fn parts(file: Arc<File>, bytes: u64) -> ContentStream {
    let next = move |offset: u64| {
        let file = file.clone();
        async move {
            if offset >= bytes {
                return Ok(None);
            }
            let length = usize::try_from(bytes - offset).unwrap_or(PART_BYTES).min(PART_BYTES);
            let read = move || -> std::io::Result<Bytes> {
                let mut part = BytesMut::zeroed(length);
                file.read_exact_at(&mut part, offset)?;
                Ok(part.freeze())
            };
            let read = tokio::task::spawn_blocking(read).await;
            let part = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let part = part.map_err(|error| problem(&error))?;
            Ok::<_, Problem>(Some((part, offset + length as u64)))
        }
    };
    Box::pin(stream::try_unfold(0, next))
}

fn failed(error: &std::io::Error) -> Error {
    Error::Content(Box::new(problem(error)))
}

fn problem(error: &std::io::Error) -> Problem {
    let mut problem = Problem::new(ErrorCode::Storage, "a function's pack file cannot be read");
    problem.causes.push(error.to_string());
    problem
}
