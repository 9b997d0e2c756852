//! Records in the store. Each record is one ref.
//!
//! | ref | value |
//! |---|---|
//! | `buckets/NAME` | [`BucketRecord`] |
//! | `objects/BUCKET/KEY` | [`ObjectRecord`] |
//! | `object-contents/ID` | the files of an object with several files, in order |
//! | `object-uploads/ID` | [`UploadRecord`] |
//! | `object-parts/ID/NUMBER` | [`PartRecord`]; the number has five digits |
//! | `object-garbage/ID` | [`UnreferencedFiles`] |
//! | `function-packages/NAME` | [`PackFileRecord`] |

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_model::Timestamp;
use headwater_store::{RefChange, RefPrecondition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub(crate) const BUCKETS: &str = "buckets/";
pub(crate) const UPLOADS: &str = "object-uploads/";
pub(crate) const GARBAGE: &str = "object-garbage/";
pub(crate) const PACK_FILES: &str = "function-packages/";

/// A stored bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BucketRecord {
    pub(crate) created: Timestamp,
}

/// A file that contains content of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContentFile {
    /// The random name.
    pub(crate) name: String,
    /// Size in bytes.
    pub(crate) size: u64,
}

/// The headers that a client stores with an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectHeaders {
    /// `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// User metadata, without the prefix `x-amz-meta-`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// An object without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Size in bytes.
    pub size: u64,
    /// The entity tag, without quotes: the MD5 of the content. For a multipart upload, the MD5 of
    /// the parts' MD5s and the number of parts.
    pub etag: String,
    /// The time of the last change.
    pub modified: Timestamp,
    /// The headers.
    #[serde(flatten)]
    pub headers: ObjectHeaders,
    /// The file with the content; `None` if the content is empty or in several files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<ContentFile>,
    /// The id of the multipart upload that created the object. The record `object-contents/ID`
    /// lists the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload: Option<String>,
}

/// A stored multipart upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) created: Timestamp,
    pub(crate) headers: ObjectHeaders,
}

/// A stored part of a multipart upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    pub(crate) blob: ContentFile,
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
}

/// A stored pack file of a function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackFileRecord {
    pub(crate) blob: ContentFile,
    /// The time at which the pack file was last stored.
    pub(crate) stored: Timestamp,
}

/// Files that no object references: garbage, and files that are being written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UnreferencedFiles {
    /// The time since which no object references the files.
    pub(crate) since: Timestamp,
    pub(crate) blobs: Vec<String>,
    /// True after the deletion of the files has started. From then on, no object can reference
    /// them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleting: bool,
}

pub(crate) fn bucket_ref(name: &str) -> String {
    format!("{BUCKETS}{name}")
}

pub(crate) fn object_ref(bucket: &str, key: &str) -> String {
    format!("objects/{bucket}/{key}")
}

pub(crate) fn contents_ref(upload: &str) -> String {
    format!("object-contents/{upload}")
}

pub(crate) fn upload_ref(id: &str) -> String {
    format!("{UPLOADS}{id}")
}

pub(crate) fn parts_ref(upload: &str) -> String {
    format!("object-parts/{upload}/")
}

pub(crate) fn part_ref(upload: &str, number: u32) -> String {
    format!("{}{number:05}", parts_ref(upload))
}

pub(crate) fn garbage_ref(id: &str) -> String {
    format!("{GARBAGE}{id}")
}

pub(crate) fn pack_file_ref(name: &str) -> String {
    format!("{PACK_FILES}{name}")
}

pub(crate) fn decode<T: DeserializeOwned>(name: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|_| Error::Corrupt { name: name.to_owned() })
}

pub(crate) fn encode(name: &str, record: &impl Serialize) -> Result<Bytes> {
    let encoded = serde_json::to_vec(record);
    encoded.map(Bytes::from).map_err(|_| Error::Corrupt { name: name.to_owned() })
}

/// Returns the ref change that stores a record.
pub(crate) fn put(
    name: String,
    record: &impl Serialize,
    expected: RefPrecondition,
) -> Result<RefChange> {
    let value = Some(encode(&name, record)?);
    Ok(RefChange { name, expected, value })
}

/// Returns the ref change that deletes a record.
pub(crate) fn remove(name: String) -> RefChange {
    RefChange { name, expected: RefPrecondition::Anything, value: None }
}

/// Returns the ref change that deletes a record if it has this value.
pub(crate) fn remove_unchanged(name: String, value: Bytes) -> RefChange {
    RefChange { name, expected: RefPrecondition::Value(value), value: None }
}

/// Returns a ref change that only checks that a record is unchanged.
pub(crate) fn unchanged(name: String, value: Bytes) -> RefChange {
    RefChange { name, expected: RefPrecondition::Value(value.clone()), value: Some(value) }
}
