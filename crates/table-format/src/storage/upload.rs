//! Uploads one file. A large file is uploaded in parts.
//!
//! The file is not visible before the upload completes. A failed or cancelled upload is aborted, so
//! that the store keeps no parts.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use super::Storage;
use crate::{Error, Result};

/// Size of a part, in bytes. Cloud stores require a minimum size, and allow at most 10,000 parts.
const PART_BYTES: usize = 8 << 20;

/// Maximum number of parts uploaded concurrently.
const PART_UPLOADS_MAX: usize = 8;

/// The upload of one file.
pub struct Upload {
    storage: Arc<Storage>,
    location: String,
    /// The data that is collected for the next part.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    sent_bytes: u64,
    /// The multipart upload; `None` until the first part is full.
    parts: Option<MultipartParts>,
}

/// A multipart upload.
struct MultipartParts {
    upload: Box<dyn MultipartUpload>,
    running: JoinSet<object_store::Result<()>>,
}

impl Upload {
    /// Creates an upload to a location.
    pub fn new(storage: Arc<Storage>, location: String) -> Self {
        let (pending, pending_bytes, sent_bytes) = (Vec::new(), 0, 0);
        Upload { storage, location, pending, pending_bytes, sent_bytes, parts: None }
    }

    /// Returns the location of the uploaded file.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Adds bytes and uploads full parts.
    pub async fn put(&mut self, mut bytes: Bytes) -> Result<()> {
        while self.pending_bytes + bytes.len() >= PART_BYTES {
            let rest = bytes.split_off(PART_BYTES - self.pending_bytes);
            self.pending.push(bytes);
            self.pending_bytes = PART_BYTES;
            self.upload_part().await?;
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.pending_bytes += bytes.len();
            self.pending.push(bytes);
        }
        Ok(())
    }

    async fn upload_part(&mut self) -> Result<()> {
        let failed = |error| Error::storage(&self.location, error);
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let path = self.storage.path_of(&self.location)?;
                let upload = self.storage.start_multipart(&path).await.map_err(failed)?;
                none.insert(MultipartParts { upload, running: JoinSet::new() })
            }
        };
        while parts.running.len() >= PART_UPLOADS_MAX {
            parts.next().await.map_err(failed)?;
        }
        let payload: PutPayload = std::mem::take(&mut self.pending).into_iter().collect();
        self.sent_bytes += payload.content_length() as u64;
        self.pending_bytes = 0;
        parts.running.spawn(parts.upload.put_part(payload));
        Ok(())
    }

    /// Uploads the bytes that remain. On success, the file exists. On failure, the upload is
    /// aborted.
    pub async fn finish(mut self) -> Result<()> {
        let ended = self.complete().await;
        match ended {
            // The upload is complete, so there is nothing to abort.
            Ok(()) => self.parts = None,
            Err(_) => self.abort().await,
        }
        ended
    }

    async fn complete(&mut self) -> Result<()> {
        if self.parts.is_none() {
            let content: PutPayload = std::mem::take(&mut self.pending).into_iter().collect();
            return self.storage.put_new(&self.location, content).await;
        }
        if self.pending_bytes > 0 {
            self.upload_part().await?;
        }
        let ended = match &mut self.parts {
            Some(parts) => parts.complete().await,
            None => Ok(()),
        };
        if let Err(error) = ended
            && !exists(&self.storage, &self.location, self.sent_bytes).await
        {
            return Err(Error::storage(&self.location, error));
        }
        Ok(())
    }

    /// Aborts the upload. The store then deletes the parts.
    pub async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            parts.abort(&self.location).await;
        }
    }
}

/// Returns true if the file exists with this size. The upload was then completed, although its
/// response was lost.
async fn exists(storage: &Storage, location: &str, bytes: u64) -> bool {
    let Ok(path) = storage.path_of(location) else { return false };
    storage.object_store().head(&path).await.is_ok_and(|found| found.size == bytes)
}

impl MultipartParts {
    /// Waits until one part has been uploaded.
    async fn next(&mut self) -> object_store::Result<()> {
        match self.running.join_next().await {
            Some(Ok(sent)) => sent,
            Some(Err(source)) => Err(object_store::Error::JoinError { source }),
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        while !self.running.is_empty() {
            self.next().await?;
        }
        self.upload.complete().await.map(drop)
    }

    async fn abort(mut self, location: &str) {
        self.running.shutdown().await;
        if let Err(error) = self.upload.abort().await {
            tracing::warn!(%location, %error, "could not abort a multipart upload; its parts remain");
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        let location = std::mem::take(&mut self.location);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { parts.abort(&location).await });
        }
    }
}
