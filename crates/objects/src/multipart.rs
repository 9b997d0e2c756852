//! Multipart uploads. Each part is a file. To complete an upload, only the list of these files is
//! stored as the object's content. So the completion is fast and atomic.

use bytes::Bytes;
use headwater_model::{ObjectOperation, Timestamp};
use headwater_store::{RefChange, RefPrecondition};
use md5::{Digest, Md5};
use uuid::Uuid;

use crate::change::OperationWithCause;
use crate::content::ContentStream;
use crate::object::{ObjectWrite, check_headers, check_key};
use crate::record::{
    ContentFile, ObjectHeaders, ObjectRecord, PartRecord, UPLOADS, UploadRecord, contents_ref,
    decode, part_ref, parts_ref, put, remove_unchanged, unchanged, upload_ref,
};
use crate::{Error, ObjectPath, ObjectPrecondition, Objects, Result};

/// The minimum size of every part except the last, in bytes.
const PART_BYTES_MIN: u64 = 5 << 20;

/// The highest part number.
const PARTS_MAX: u32 = 10_000;

/// Maximum number of listed uploads.
const UPLOADS_MAX: usize = 10_000;

/// Maximum number of attempts to change an upload during concurrent changes of its parts.
const ATTEMPTS: usize = 10;

/// A request to start a multipart upload.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// The bucket and the key.
    pub path: ObjectPath,
    /// The headers of the object.
    pub headers: ObjectHeaders,
}

/// A multipart upload of an object.
#[derive(Debug, Clone)]
pub struct UploadTarget {
    /// The bucket and the key.
    pub path: ObjectPath,
    /// The id of the upload.
    pub id: String,
}

/// A part in the request that completes an upload.
#[derive(Debug, Clone)]
pub struct CompletedPart {
    /// The number, from 1.
    pub number: u32,
    /// The entity tag, without quotes.
    pub etag: String,
}

/// A part in a listing.
#[derive(Debug, Clone)]
pub struct ListedPart {
    /// The number.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// The entity tag, without quotes.
    pub etag: String,
    /// The upload time.
    pub modified: Timestamp,
}

/// An upload in a listing.
#[derive(Debug, Clone)]
pub struct ListedUpload {
    /// The id.
    pub id: String,
    /// The key.
    pub key: String,
    /// The start time.
    pub created: Timestamp,
}

/// A part as it was read from the store.
struct StoredPart {
    number: u32,
    record: PartRecord,
    /// The stored bytes of the record.
    value: Bytes,
}

impl StoredPart {
    /// Returns the ref change that deletes the part. It fails if the part was replaced meanwhile.
    fn removal(&self, upload: &str) -> RefChange {
        remove_unchanged(part_ref(upload, self.number), self.value.clone())
    }
}

impl Objects {
    /// Starts an upload and returns its id.
    ///
    /// Errors: [`Error::NoBucket`], [`Error::Key`], [`Error::MetadataTooLarge`].
    pub async fn create_upload(&self, new: NewUpload) -> Result<String> {
        let NewUpload { path: ObjectPath { bucket, key }, headers } = new;
        check_key(&key)?;
        check_headers(&headers)?;
        let _creating = self.0.buckets.read().await;
        self.check_bucket(&bucket).await?;
        let id = Uuid::new_v4().simple().to_string();
        let record = UploadRecord { bucket, key, created: self.now(), headers };
        self.apply(vec![put(upload_ref(&id), &record, RefPrecondition::Absent)?]).await?;
        Ok(id)
    }

    /// Writes or replaces a part, and returns its entity tag. The part is durable on return.
    ///
    /// Errors: [`Error::NoUpload`], [`Error::Part`], and errors of the content.
    pub async fn put_part(
        &self,
        target: &UploadTarget,
        number: u32,
        content: ContentStream,
    ) -> Result<ListedPart> {
        if !(1..=PARTS_MAX).contains(&number) {
            let reason = "is not a number from 1 to 10000";
            return Err(Error::Part { number, reason, s3_code: "InvalidArgument" });
        }
        self.upload(target).await?;
        // The content of an empty part is not stored, so its record has no file name.
        let written = self.write(content).await?;
        let blob = written.blob.clone().unwrap_or(ContentFile { name: String::new(), size: 0 });
        let part = PartRecord { blob, etag: written.etag.clone(), modified: self.now() };
        for _ in 0..ATTEMPTS {
            let (upload, _) = self.upload(target).await?;
            let name = part_ref(&target.id, number);
            let stored = self.0.store.reference(&name).await?;
            let before = stored.as_deref().map(|value| decode::<PartRecord>(&name, value));
            let mut refs = vec![unchanged(upload_ref(&target.id), upload)];
            refs.extend(written.garbage());
            let replaced = before.transpose()?.into_iter().map(|part| part.blob.name);
            refs.extend(self.discard(replaced.filter(|name| !name.is_empty()).collect())?);
            refs.push(put(
                name,
                &part,
                stored.map_or(RefPrecondition::Absent, RefPrecondition::Value),
            )?);
            if self.apply(refs).await? {
                return Ok(listed(number, &part));
            }
        }
        self.delete_collected(&written).await?;
        Err(Error::Conflict { key: target.path.key.clone() })
    }

    /// Lists at most `limit` parts of an upload, after the given part number.
    ///
    /// Error: [`Error::NoUpload`].
    pub async fn parts(
        &self,
        target: &UploadTarget,
        after: u32,
        limit: usize,
    ) -> Result<Vec<ListedPart>> {
        self.upload(target).await?;
        let after = part_ref(&target.id, after);
        let parts = self.stored_parts(&target.id, Some(&after), limit).await?;
        Ok(parts.iter().map(|part| listed(part.number, &part.record)).collect())
    }

    /// Lists the uploads of a bucket whose keys have the prefix, in key order.
    ///
    /// Error: [`Error::NoBucket`].
    pub async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<ListedUpload>> {
        self.check_bucket(bucket).await?;
        let mut uploads = Vec::new();
        for (name, value) in self.0.store.references(UPLOADS, None, UPLOADS_MAX).await? {
            let record: UploadRecord = decode(&name, &value)?;
            if record.bucket == bucket && record.key.starts_with(prefix) {
                let id = name.strip_prefix(UPLOADS).unwrap_or(&name).to_owned();
                uploads.push(ListedUpload { id, key: record.key, created: record.created });
            }
        }
        uploads.sort_by(|one, other| (&one.key, one.created).cmp(&(&other.key, other.created)));
        Ok(uploads)
    }

    /// Completes an upload by combining its parts into the object. A call for a completed upload
    /// changes nothing.
    ///
    /// Errors: [`Error::NoUpload`], [`Error::Part`], [`Error::Precondition`].
    pub async fn complete(
        &self,
        target: &UploadTarget,
        parts: &[CompletedPart],
        condition: &ObjectPrecondition,
    ) -> Result<ObjectRecord> {
        for _ in 0..ATTEMPTS {
            match self.complete_once(target, parts, condition).await {
                // Another request has changed a part or the upload, so try again with the new
                // state.
                Err(Error::Conflict { .. }) => {}
                other => return other,
            }
        }
        Err(Error::Conflict { key: target.path.key.clone() })
    }

    /// Like [`Objects::complete`], without retries.
    ///
    /// Error: [`Error::Conflict`] if the upload or a part changes at the same time.
    async fn complete_once(
        &self,
        target: &UploadTarget,
        parts: &[CompletedPart],
        condition: &ObjectPrecondition,
    ) -> Result<ObjectRecord> {
        let (stored, upload) = match self.upload(target).await {
            Err(error @ Error::NoUpload { .. }) => {
                let info = self.find(&target.path).await?;
                let own = |info: &ObjectRecord| info.upload.as_ref() == Some(&target.id);
                return info.filter(own).ok_or(error);
            }
            other => other?,
        };
        let uploaded = self.stored_parts(&target.id, None, PARTS_MAX as usize).await?;
        let chosen = choose(&uploaded, parts)?;
        let blobs: Vec<&ContentFile> =
            chosen.iter().map(|part| &part.blob).filter(|blob| blob.size > 0).collect();
        let info = ObjectRecord {
            size: blobs.iter().map(|blob| blob.size).sum(),
            etag: etag_of(&chosen),
            modified: self.now(),
            headers: upload.headers,
            blob: None,
            upload: Some(target.id.clone()),
        };
        let mut refs = vec![put(contents_ref(&target.id), &blobs, RefPrecondition::Absent)?];
        refs.push(remove_unchanged(upload_ref(&target.id), stored));
        // Let the commit fail if a part was replaced meanwhile, because its file is then garbage.
        refs.extend(uploaded.iter().map(|part| part.removal(&target.id)));
        let unused = uploaded.iter().map(|part| &part.record.blob);
        let unused = unused.filter(|blob| blob.size > 0 && !blobs.contains(blob));
        refs.extend(self.discard(unused.map(|blob| blob.name.clone()).collect())?);
        let operation = OperationWithCause::new(ObjectOperation::CompleteMultipartUpload);
        let commit = ObjectWrite { path: &target.path, info: &info, condition, operation };
        self.commit(commit, refs).await?;
        self.discard_late_parts(&target.id).await;
        Ok(info)
    }

    /// Aborts an upload.
    ///
    /// Errors: [`Error::NoUpload`], even if another request completes the upload at the same time;
    /// [`Error::Conflict`] if the parts change during each attempt.
    pub async fn abort(&self, target: &UploadTarget) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (stored, _) = self.upload(target).await?;
            let mut refs = vec![remove_unchanged(upload_ref(&target.id), stored)];
            refs.extend(self.part_removals(&target.id).await?);
            if self.apply(refs).await? {
                self.discard_late_parts(&target.id).await;
                return Ok(());
            }
        }
        Err(Error::Conflict { key: target.path.key.clone() })
    }

    /// Discards parts that another request stored after this request had read the upload's parts.
    /// No parts follow, because the upload has ended.
    async fn discard_late_parts(&self, id: &str) {
        let discarded = match self.part_removals(id).await {
            Ok(refs) if refs.is_empty() => Ok(true),
            Ok(refs) => self.apply(refs).await,
            Err(error) => Err(error),
        };
        // The object or the abort is already stored, so an error here must not fail the request.
        if let Err(error) = discarded {
            tracing::warn!("parts of the ended upload `{id}` remain: {error}");
        }
    }

    /// Returns the ref changes that delete all parts of an upload and list their files as garbage.
    async fn part_removals(&self, id: &str) -> Result<Vec<RefChange>> {
        let parts = self.stored_parts(id, None, PARTS_MAX as usize).await?;
        let mut refs: Vec<RefChange> = parts.iter().map(|part| part.removal(id)).collect();
        let blobs = parts.into_iter().map(|part| part.record.blob.name);
        refs.extend(self.discard(blobs.filter(|name| !name.is_empty()).collect())?);
        Ok(refs)
    }

    /// Returns the record of an upload, both as stored bytes and parsed.
    async fn upload(&self, target: &UploadTarget) -> Result<(Bytes, UploadRecord)> {
        let unknown = || Error::NoUpload { id: target.id.clone() };
        let name = upload_ref(&target.id);
        let stored = self.0.store.reference(&name).await?.ok_or_else(unknown)?;
        let record: UploadRecord = decode(&name, &stored)?;
        let is_own = record.bucket == target.path.bucket && record.key == target.path.key;
        if is_own { Ok((stored, record)) } else { Err(unknown()) }
    }

    async fn stored_parts(
        &self,
        upload: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredPart>> {
        let prefix = parts_ref(upload);
        let found = self.0.store.references(&prefix, after, limit).await?;
        let part = |(name, value): (String, Bytes)| {
            let number = name.get(prefix.len()..).and_then(|digits| digits.parse().ok());
            let number = number.ok_or_else(|| Error::Corrupt { name: name.clone() })?;
            Ok(StoredPart { number, record: decode(&name, &value)?, value })
        };
        found.into_iter().map(part).collect()
    }
}

fn listed(number: u32, part: &PartRecord) -> ListedPart {
    ListedPart { number, size: part.blob.size, etag: part.etag.clone(), modified: part.modified }
}

/// Returns the uploaded parts that the request names, in the order of the request.
fn choose(uploaded: &[StoredPart], parts: &[CompletedPart]) -> Result<Vec<PartRecord>> {
    let fail = |number, reason, s3_code| Err(Error::Part { number, reason, s3_code });
    if parts.is_empty() {
        return fail(1, "is missing: an upload needs at least one part", "MalformedXML");
    }
    let mut chosen: Vec<PartRecord> = Vec::with_capacity(parts.len());
    if let Some(pair) = parts.windows(2).find(|pair| pair[1].number <= pair[0].number) {
        return fail(pair[1].number, "is not in ascending order", "InvalidPartOrder");
    }
    for (index, CompletedPart { number, etag }) in parts.iter().enumerate() {
        let found = uploaded.binary_search_by_key(number, |part| part.number);
        let found = found.ok().map(|at| &uploaded[at].record).filter(|part| part.etag == *etag);
        let Some(part) = found else {
            return fail(*number, "was not uploaded with this entity tag", "InvalidPart");
        };
        if part.blob.size < PART_BYTES_MIN && index + 1 < parts.len() {
            return fail(*number, "is smaller than 5 MiB and not the last", "EntityTooSmall");
        }
        chosen.push(part.clone());
    }
    Ok(chosen)
}

/// Returns the entity tag of an object with several parts: the MD5 of the parts' MD5s, and the
/// number of parts.
fn etag_of(parts: &[PartRecord]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(hex::decode(&part.etag).unwrap_or_default());
    }
    format!("{}-{}", hex::encode(md5.finalize()), parts.len())
}
