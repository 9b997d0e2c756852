//! The content of objects: it is written to a file with a new random name, and read from the files
//! of an object.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use headwater_model::Problem;
use headwater_store::{RefChange, RefPrecondition, WriteBatch};
use headwater_table_format::storage::Upload;
use md5::{Digest, Md5};
use object_store::{GetOptions, ObjectStore};
use uuid::Uuid;

use crate::objects::relative;
use crate::record::{
    ContentFile, ObjectRecord, UnreferencedFiles, contents_ref, decode, encode, garbage_ref,
    remove_unchanged,
};
use crate::{Error, Objects, Result};

/// The content of an object, as a stream of byte chunks.
pub type ContentStream = BoxStream<'static, Result<Bytes, Problem>>;

/// Content that was written, but that no object references yet. If the value is dropped before an
/// object references the file, the file stays listed as garbage.
pub(crate) struct UnreferencedContent {
    objects: Objects,
    /// The file; `None` for empty content.
    pub(crate) blob: Option<ContentFile>,
    pub(crate) size: u64,
    /// MD5 as hexadecimal digits.
    pub(crate) etag: String,
    /// The name of the file.
    pub(crate) name: String,
    /// The stored record that lists the file as garbage; `None` if no file was written.
    garbage: Option<Bytes>,
}

impl UnreferencedContent {
    /// Returns the ref change that removes the file from the list of garbage. It must be in the
    /// batch with the first reference to the file. The batch fails if the deletion of the file has
    /// started.
    pub(crate) fn garbage(&self) -> Option<RefChange> {
        let value = self.garbage.clone()?;
        Some(remove_unchanged(garbage_ref(&self.name), value))
    }

    /// Returns the stored record that lists the file as garbage; `None` if no file was written.
    pub(crate) fn garbage_record(&self) -> Option<&Bytes> {
        self.garbage.as_ref()
    }
}

impl Drop for UnreferencedContent {
    fn drop(&mut self) {
        self.objects.0.active.lock().remove(&self.name);
    }
}

impl Objects {
    /// Writes content durably to a new file.
    pub(crate) async fn write(
        &self,
        content: impl Stream<Item = Result<Bytes, Problem>> + Send,
    ) -> Result<UnreferencedContent> {
        let name = Uuid::new_v4().simple().to_string();
        self.0.active.lock().insert(name.clone());
        let etag = String::new();
        let objects = self.clone();
        let mut written = UnreferencedContent {
            objects,
            blob: None,
            size: 0,
            etag,
            name: name.clone(),
            garbage: None,
        };
        let mut content = std::pin::pin!(content);
        let mut upload: Option<Upload> = None;
        let mut md5 = Md5::new();
        while let Some(part) = content.next().await {
            let part = part.map_err(|problem| Error::Content(Box::new(problem)))?;
            if part.is_empty() {
                continue;
            }
            md5.update(&part);
            written.size += part.len() as u64;
            let upload = match &mut upload {
                Some(upload) => upload,
                none => {
                    written.garbage = Some(self.list_garbage(&name).await?);
                    none.insert(Upload::new(self.0.storage.clone(), self.location(&name)))
                }
            };
            upload.put(part).await?;
        }
        if let Some(upload) = upload {
            let location = upload.location().to_owned();
            upload.finish().await?;
            self.0.storage.sync(std::iter::once(location.as_str())).await?;
            written.blob = Some(ContentFile { name, size: written.size });
        }
        written.etag = hex::encode(md5.finalize());
        Ok(written)
    }

    /// Copies a file durably to a new file in the local folder of contents. The kernel copies the
    /// bytes, so memory does not depend on the size.
    pub(crate) async fn copy_from_disk(
        &self,
        file: Arc<File>,
        size: u64,
        folder: &Path,
    ) -> Result<UnreferencedContent> {
        let name = Uuid::new_v4().simple().to_string();
        self.0.active.lock().insert(name.clone());
        let blob = Some(ContentFile { name: name.clone(), size });
        let (objects, etag) = (self.clone(), String::new());
        let mut written =
            UnreferencedContent { objects, blob, size, etag, name: name.clone(), garbage: None };
        written.garbage = Some(self.list_garbage(&name).await?);
        let location = self.location(&name);
        let path = folder.join(relative(&name));
        let copied = tokio::task::spawn_blocking(move || copy_file(&file, &path)).await;
        copied
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| headwater_table_format::Error::storage(&*location, error))?;
        self.0.storage.sync(std::iter::once(location.as_str())).await?;
        Ok(written)
    }

    /// Lists a file as garbage, until a batch that references it removes the record. Returns the
    /// record.
    async fn list_garbage(&self, name: &str) -> Result<Bytes> {
        let blobs = vec![name.to_owned()];
        let garbage = UnreferencedFiles { since: self.now(), blobs, deleting: false };
        let (name, expected) = (garbage_ref(name), RefPrecondition::Anything);
        let stored = encode(&name, &garbage)?;
        let change = RefChange { name, expected, value: Some(stored.clone()) };
        // This record is not synced. A power failure that undoes it also loses the file, which is
        // not synced yet.
        let batch = WriteBatch { refs: vec![change], relaxed: true, ..WriteBatch::default() };
        self.0.store.apply(batch).await?;
        Ok(stored)
    }

    /// Returns the files of an object, in order.
    pub(crate) async fn blobs(&self, info: &ObjectRecord) -> Result<Vec<ContentFile>> {
        let Some(upload) = &info.upload else { return Ok(info.blob.iter().cloned().collect()) };
        let name = contents_ref(upload);
        let stored = self.0.store.reference(&name).await?;
        decode(&name, &stored.ok_or_else(|| Error::Corrupt { name: name.clone() })?)
    }

    /// Returns a byte range of the content in these files. Opens the first file before returning.
    pub(crate) async fn read(
        &self,
        blobs: Vec<ContentFile>,
        range: Range<u64>,
    ) -> Result<ContentStream> {
        let mut parts = Vec::new();
        let mut begin = 0;
        for blob in blobs {
            let end = begin + blob.size;
            let wanted = range.start.max(begin)..range.end.min(end);
            if wanted.start < wanted.end {
                parts.push((blob.name, wanted.start - begin..wanted.end - begin));
            }
            begin = end;
        }
        let mut parts = parts.into_iter();
        let Some((name, range)) = parts.next() else { return Ok(stream::empty().boxed()) };
        let first = self.open(&name, range).await?;
        let objects = self.clone();
        let rest = stream::iter(parts).then(move |(name, range)| {
            let objects = objects.clone();
            async move { objects.open(&name, range).await.map_err(|error| to_problem(&error)) }
        });
        Ok(first.chain(rest.try_flatten()).boxed())
    }

    async fn open(&self, name: &str, range: Range<u64>) -> Result<ContentStream> {
        let location = self.location(name);
        let path = self.0.storage.path_of(&location)?;
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let failed = move |error| headwater_table_format::Error::storage(&*location, error);
        let found = self.0.storage.object_store().get_opts(&path, options).await;
        let found = found.map_err(&failed)?;
        let parts = found.into_stream();
        Ok(parts.map_err(move |error| to_problem(&Error::from(failed(error)))).boxed())
    }
}

fn copy_file(file: &File, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut from = file;
    from.seek(SeekFrom::Start(0))?;
    let mut to = File::options().write(true).create_new(true).open(path)?;
    io::copy(&mut from, &mut to).map(drop)
}

fn to_problem(error: &Error) -> Problem {
    headwater_model::ToProblem::to_problem(error)
}
