//! Object operations: write, read, copy, delete.

use std::ops::Range;

use bytes::Bytes;
use headwater_model::ObjectOperation;
use headwater_store::{RefChange, RefPrecondition};

use crate::change::OperationWithCause;
use crate::content::ContentStream;
use crate::record::bucket_ref;
use crate::record::{
    ObjectHeaders, ObjectRecord, contents_ref, decode, object_ref, put, remove, unchanged,
};
use crate::{Error, ObjectPrecondition, Objects, Result};

/// Maximum length of a key, in bytes.
const KEY_BYTES_MAX: usize = 1_024;

/// Maximum length of the user metadata, in bytes.
const METADATA_BYTES_MAX: usize = 2_048;

/// Maximum number of attempts to change an object during concurrent changes.
const ATTEMPTS: usize = 30;

/// The bucket and the key of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPath {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// An object to write.
pub struct NewObject {
    /// The bucket and the key.
    pub path: ObjectPath,
    /// The headers.
    pub headers: ObjectHeaders,
    /// The condition on the current object.
    pub condition: ObjectPrecondition,
    /// The content.
    pub content: ContentStream,
}

/// A request to copy an object.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The object to copy.
    pub from: ObjectPath,
    /// The bucket and the key of the copy.
    pub to: ObjectPath,
    /// The headers of the copy; `None` to keep the headers of the source object.
    pub headers: Option<ObjectHeaders>,
    /// The condition on the object to copy.
    pub condition: ObjectPrecondition,
}

/// An object with its content open for reading.
pub struct OpenObject {
    /// The object.
    pub info: ObjectRecord,
    /// The byte range of the content.
    pub range: Range<u64>,
    /// The content.
    pub content: ContentStream,
}

/// A write of an object that must be committed: the content is written to files, but the object's
/// record is not stored yet.
pub(crate) struct ObjectWrite<'a> {
    pub(crate) path: &'a ObjectPath,
    pub(crate) info: &'a ObjectRecord,
    pub(crate) condition: &'a ObjectPrecondition,
    pub(crate) operation: OperationWithCause<'a>,
}

impl std::fmt::Debug for OpenObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenObject").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Objects {
    /// Writes or replaces an object. The object is durable on return.
    ///
    /// Errors: [`Error::NoBucket`], [`Error::Key`], [`Error::MetadataTooLarge`],
    /// [`Error::Precondition`], and errors of the content.
    pub async fn put(&self, new: NewObject) -> Result<ObjectRecord> {
        self.write_object(new, OperationWithCause::new(ObjectOperation::Put)).await
    }

    /// Like [`Objects::put`], for a write caused by events of the given triggers.
    pub async fn put_caused(&self, new: NewObject, caused_by: &[String]) -> Result<ObjectRecord> {
        self.write_object(new, OperationWithCause { kind: ObjectOperation::Put, caused_by }).await
    }

    async fn write_object(
        &self,
        new: NewObject,
        operation: OperationWithCause<'_>,
    ) -> Result<ObjectRecord> {
        let NewObject { path, headers, condition, content } = new;
        check_key(&path.key)?;
        check_headers(&headers)?;
        self.check_bucket(&path.bucket).await?;
        if condition != ObjectPrecondition::Always {
            // Check the condition before the content is received, to fail early. The commit checks
            // it again.
            condition.check(&path.key, self.find(&path).await?.as_ref())?;
        }
        let written = self.write(content).await?;
        let info = ObjectRecord {
            size: written.size,
            etag: written.etag.clone(),
            modified: self.now(),
            headers,
            blob: written.blob.clone(),
            upload: None,
        };
        let commit = ObjectWrite { path: &path, info: &info, condition: &condition, operation };
        let committed = self.commit(commit, written.garbage().into_iter().collect()).await;
        if matches!(committed, Err(Error::Conflict { .. })) {
            self.delete_collected(&written).await?;
        }
        committed.map(|()| info)
    }

    /// Returns an object without its content.
    ///
    /// Errors: [`Error::NoBucket`], [`Error::NoObject`].
    pub async fn head(&self, path: &ObjectPath) -> Result<ObjectRecord> {
        if let Some(info) = self.find(path).await? {
            return Ok(info);
        }
        self.check_bucket(&path.bucket).await?;
        Err(Error::NoObject { key: path.key.clone() })
    }

    /// Opens the content of an object. `range` computes, from the object's metadata, the byte range
    /// to read.
    ///
    /// Errors: [`Error::NoBucket`], [`Error::NoObject`], [`Error::Range`], and errors of `range`.
    pub async fn open_object(
        &self,
        path: &ObjectPath,
        range: impl Fn(&ObjectRecord) -> Result<Range<u64>>,
    ) -> Result<OpenObject> {
        let info = self.head(path).await?;
        match self.open_info(&info, &range).await {
            // The object's record has changed since it was read: another request replaced the
            // object, and the file was deleted. Read the new record.
            Err(Error::Storage(_) | Error::Corrupt { .. }) if self.head(path).await? != info => {
                let info = self.head(path).await?;
                self.open_info(&info, &range).await
            }
            other => other,
        }
    }

    async fn open_info(
        &self,
        info: &ObjectRecord,
        range: impl Fn(&ObjectRecord) -> Result<Range<u64>>,
    ) -> Result<OpenObject> {
        let range = range(info)?;
        let blobs = self.blobs(info).await?;
        let content = self.read(blobs, range.clone()).await?;
        Ok(OpenObject { info: info.clone(), range, content })
    }

    /// Copies an object.
    ///
    /// Errors: the errors of [`Objects::head`] and [`Objects::put`].
    pub async fn copy(&self, copy: CopyRequest) -> Result<ObjectRecord> {
        let CopyRequest { from, to, headers, condition } = copy;
        let source = self.open_object(&from, |info| Ok(0..info.size)).await?;
        condition.check(&from.key, Some(&source.info))?;
        let headers = headers.unwrap_or(source.info.headers);
        let (condition, content) = (ObjectPrecondition::Always, source.content);
        let copy = NewObject { path: to, headers, condition, content };
        self.write_object(copy, OperationWithCause::new(ObjectOperation::Copy)).await
    }

    /// Deletes an object. The deletion of a missing object succeeds.
    ///
    /// Errors: [`Error::NoBucket`], [`Error::Precondition`].
    pub async fn delete(&self, path: &ObjectPath, condition: &ObjectPrecondition) -> Result<()> {
        self.check_bucket(&path.bucket).await?;
        for _ in 0..ATTEMPTS {
            let stored = self.stored(path).await?;
            let current = decoded(path, stored.as_ref())?;
            condition.check(&path.key, current.as_ref())?;
            let (Some(stored), Some(current)) = (stored, current) else { return Ok(()) };
            let mut refs = self.removal(&current).await?;
            let name = object_ref(&path.bucket, &path.key);
            refs.push(RefChange { name, expected: RefPrecondition::Value(stored), value: None });
            let operation = OperationWithCause::new(ObjectOperation::Delete);
            let change = self.change_entry(path, &current, &operation)?;
            if self.apply_recorded(refs, change).await?.is_none() {
                return Ok(());
            }
        }
        Err(Error::Conflict { key: path.key.clone() })
    }

    /// Stores the record of an object whose content is written, in one batch with other ref
    /// changes.
    ///
    /// Error: [`Error::Conflict`] if one of the other changes does not find its expected value.
    pub(crate) async fn commit(
        &self,
        commit: ObjectWrite<'_>,
        changes: Vec<RefChange>,
    ) -> Result<()> {
        let ObjectWrite { path, info, condition, operation } = commit;
        for _ in 0..ATTEMPTS {
            let _creating = self.0.buckets.read().await;
            let bucket = self.bucket_record(&path.bucket).await?;
            let stored = self.stored(path).await?;
            let current = decoded(path, stored.as_ref())?;
            condition.check(&path.key, current.as_ref())?;
            let mut refs = changes.clone();
            refs.push(unchanged(bucket_ref(&path.bucket), bucket));
            if let Some(current) = &current {
                refs.extend(self.removal(current).await?);
            }
            let expected = stored.map_or(RefPrecondition::Absent, RefPrecondition::Value);
            refs.push(put(object_ref(&path.bucket, &path.key), info, expected)?);
            let change = self.change_entry(path, info, &operation)?;
            match self.apply_recorded(refs, change).await? {
                None => return Ok(()),
                // One of the other changes found another value than expected, so a repetition would
                // fail again.
                Some(name) if changes.iter().any(|change| change.name == name) => break,
                Some(_) => {}
            }
        }
        Err(Error::Conflict { key: path.key.clone() })
    }

    /// Returns the ref changes that mark the content of an object as garbage.
    async fn removal(&self, info: &ObjectRecord) -> Result<Vec<RefChange>> {
        let blobs = self.blobs(info).await?.into_iter().map(|blob| blob.name).collect();
        let mut changes: Vec<RefChange> = self.discard(blobs)?.into_iter().collect();
        changes.extend(info.upload.as_deref().map(|upload| remove(contents_ref(upload))));
        Ok(changes)
    }

    /// Returns an object if it exists.
    pub(crate) async fn find(&self, path: &ObjectPath) -> Result<Option<ObjectRecord>> {
        check_key(&path.key)?;
        let stored = self.stored(path).await?;
        decoded(path, stored.as_ref())
    }

    async fn stored(&self, path: &ObjectPath) -> Result<Option<Bytes>> {
        Ok(self.0.store.reference(&object_ref(&path.bucket, &path.key)).await?)
    }
}

fn decoded(path: &ObjectPath, stored: Option<&Bytes>) -> Result<Option<ObjectRecord>> {
    stored.map(|value| decode(&object_ref(&path.bucket, &path.key), value)).transpose()
}

/// Checks a key: any text of at most 1,024 bytes without NUL.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let fail = |reason, s3_code| Err(Error::Key { reason, s3_code });
    match key {
        "" => fail("is empty", "InvalidArgument"),
        key if key.len() > KEY_BYTES_MAX => fail("is longer than 1024 bytes", "KeyTooLongError"),
        key if key.contains('\0') => fail("contains a NUL character", "InvalidArgument"),
        _ => Ok(()),
    }
}

pub(crate) fn check_headers(headers: &ObjectHeaders) -> Result<()> {
    let bytes: usize = headers.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(Error::MetadataTooLarge { max: METADATA_BYTES_MAX });
    }
    Ok(())
}
