//! One file on its way to the object store, in parts where it is large.
//!
//! Nothing of it can be seen before the end. What fails, or is dropped half-way, is called off, so that
//! the store keeps no parts of a file that will never be.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use super::Storage;
use crate::{Error, Result};

/// Bytes of a part. The clouds take no smaller ones, and ten thousand of them at most.
const PART_BYTES: usize = 8 << 20;

/// Parts that are under way at once.
const PARTS_AT_ONCE: usize = 8;

/// One file on its way.
pub(crate) struct Upload {
    storage: Arc<Storage>,
    location: String,
    /// What belongs to the part that is not full yet.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    sent_bytes: u64,
    /// None until the first part is full.
    parts: Option<Parts>,
}

/// An upload of several parts.
struct Parts {
    upload: Box<dyn MultipartUpload>,
    under_way: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(crate) fn new(storage: Arc<Storage>, location: String) -> Self {
        let (pending, pending_bytes, sent_bytes) = (Vec::new(), 0, 0);
        Upload { storage, location, pending, pending_bytes, sent_bytes, parts: None }
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Adds bytes, and sends off the parts that are full.
    pub(crate) async fn put(&mut self, mut bytes: Bytes) -> Result<()> {
        while self.pending_bytes + bytes.len() >= PART_BYTES {
            let rest = bytes.split_off(PART_BYTES - self.pending_bytes);
            self.pending.push(bytes);
            self.pending_bytes = PART_BYTES;
            self.send().await?;
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.pending_bytes += bytes.len();
            self.pending.push(bytes);
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let failed = |error| Error::storage(&self.location, error);
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let path = self.storage.path_of(&self.location)?;
                let upload = self.storage.begin_parts(&path).await.map_err(failed)?;
                none.insert(Parts { upload, under_way: JoinSet::new() })
            }
        };
        while parts.under_way.len() >= PARTS_AT_ONCE {
            parts.next().await.map_err(failed)?;
        }
        let payload: PutPayload = std::mem::take(&mut self.pending).into_iter().collect();
        self.sent_bytes += payload.content_length() as u64;
        self.pending_bytes = 0;
        parts.under_way.spawn(parts.upload.put_part(payload));
        Ok(())
    }

    /// Sends what is left. The file is there when this returns, or is called off.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let ended = self.end().await;
        match ended {
            // There is nothing to call off any more.
            Ok(()) => self.parts = None,
            Err(_) => self.abort().await,
        }
        ended
    }

    async fn end(&mut self) -> Result<()> {
        if self.parts.is_none() {
            let content: PutPayload = std::mem::take(&mut self.pending).into_iter().collect();
            return self.storage.put_new(&self.location, content).await;
        }
        if self.pending_bytes > 0 {
            self.send().await?;
        }
        let ended = match &mut self.parts {
            Some(parts) => parts.end().await,
            None => Ok(()),
        };
        if let Err(error) = ended
            && !is_there(&self.storage, &self.location, self.sent_bytes).await
        {
            return Err(Error::storage(&self.location, error));
        }
        Ok(())
    }

    /// Calls it off: the store forgets the parts that it has.
    pub(crate) async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            parts.abort(&self.location).await;
        }
    }
}

/// Whether all of a file came to be although the answer that says so was lost.
async fn is_there(storage: &Storage, location: &str, bytes: u64) -> bool {
    let Ok(path) = storage.path_of(location) else { return false };
    storage.object_store().head(&path).await.is_ok_and(|found| found.size == bytes)
}

impl Parts {
    /// Waits for one part.
    async fn next(&mut self) -> object_store::Result<()> {
        match self.under_way.join_next().await {
            Some(Ok(sent)) => sent,
            Some(Err(source)) => Err(object_store::Error::JoinError { source }),
            None => Ok(()),
        }
    }

    async fn end(&mut self) -> object_store::Result<()> {
        while !self.under_way.is_empty() {
            self.next().await?;
        }
        self.upload.complete().await.map(drop)
    }

    async fn abort(mut self, location: &str) {
        self.under_way.shutdown().await;
        if let Err(error) = self.upload.abort().await {
            tracing::warn!(%location, %error, "parts of a file are left behind");
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
