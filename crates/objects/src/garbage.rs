//! Deletion of unreferenced files: files of replaced and deleted objects, and of interrupted
//! writes.
//!
//! The record of unreferenced files is first marked as being deleted, if it has not changed since
//! it was read. A commit that references a file expects the record without this mark. So either the
//! commit fails, or the file is kept, even if several processes use the lake.

use std::time::Duration;

use bytes::Bytes;
use headwater_store::{RefPrecondition, WriteBatch};

use crate::content::UnreferencedContent;
use crate::objects::relative;
use crate::record::{GARBAGE, UnreferencedFiles, decode, garbage_ref, put, remove};
use crate::{Objects, Result};

/// Time for which an unreferenced file is kept, because running requests may still read it.
const KEPT: Duration = Duration::from_secs(600);

/// Number of records per read.
const CHUNK: usize = 500;

impl Objects {
    /// Deletes the files that are unreferenced for longer than 10 minutes. Returns their number.
    pub async fn collect_garbage(&self) -> Result<u64> {
        self.collect_garbage_after(KEPT).await
    }

    /// Like [`Objects::collect_garbage`], with an explicit retention for unreferenced files.
    pub async fn collect_garbage_after(&self, kept: Duration) -> Result<u64> {
        let mut deleted = 0;
        let mut after: Option<String> = None;
        loop {
            let found = self.0.store.references(GARBAGE, after.as_deref(), CHUNK).await?;
            let Some((last, _)) = found.last() else { return Ok(deleted) };
            after = Some(last.clone());
            for (name, value) in found {
                let garbage: UnreferencedFiles = decode(&name, &value)?;
                if !self.is_due(&garbage, kept)
                    || !self.start_deletion(&name, value, &garbage).await?
                {
                    continue;
                }
                deleted += garbage.blobs.len() as u64;
                self.delete_blobs(&garbage.blobs).await?;
                self.apply(vec![remove(name)]).await?;
            }
        }
    }

    fn is_due(&self, garbage: &UnreferencedFiles, kept: Duration) -> bool {
        let active = self.0.active.lock();
        let age = (self.now() - garbage.since).to_std().unwrap_or_default();
        age >= kept && !garbage.blobs.iter().any(|blob| active.contains(blob))
    }

    /// Marks files as being deleted, so that later commits cannot reference them. Returns false if
    /// the record has changed since it was read, because a commit may now reference the files.
    async fn start_deletion(
        &self,
        name: &str,
        stored: Bytes,
        garbage: &UnreferencedFiles,
    ) -> Result<bool> {
        if garbage.deleting {
            return Ok(true);
        }
        let deleting = UnreferencedFiles { deleting: true, ..garbage.clone() };
        let change = put(name.to_owned(), &deleting, RefPrecondition::Value(stored))?;
        // The mark is not synced. A power failure that undoes it also ends all writes that have not
        // referenced their files yet.
        let batch = WriteBatch { refs: vec![change], relaxed: true, ..WriteBatch::default() };
        match self.0.store.apply(batch).await {
            Ok(_) => Ok(true),
            Err(headwater_store::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the file of a write whose commit failed with a conflict, if another process has
    /// collected the file. That process may have deleted it before it was complete, so that no
    /// record lists it now. Keeps a file that is still listed as garbage.
    pub(crate) async fn delete_collected(&self, written: &UnreferencedContent) -> Result<()> {
        let Some(expected) = written.garbage_record() else { return Ok(()) };
        let stored = self.0.store.reference(&garbage_ref(&written.name)).await?;
        if stored.as_ref() == Some(expected) {
            return Ok(());
        }
        self.delete_blobs(std::slice::from_ref(&written.name)).await
    }

    async fn delete_blobs(&self, blobs: &[String]) -> Result<()> {
        let locations: Vec<String> = blobs.iter().map(|blob| self.location(blob)).collect();
        self.0.storage.delete(&locations).await?;
        // An interrupted write to a local folder leaves a file whose name ends with `#1`.
        if let Some(folder) = &self.0.folder {
            for blob in blobs {
                let _ = tokio::fs::remove_file(folder.join(format!("{}#1", relative(blob)))).await;
            }
        }
        Ok(())
    }
}
