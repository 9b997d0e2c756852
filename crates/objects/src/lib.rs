//! Buckets and objects as in S3: metadata in the store, contents in object storage.
//!
//! [`Objects`] is the handle. An object is one ref, `objects/BUCKET/KEY`, so that a change is one
//! compare-and-swap, and a listing reads one ordered range. Its content is in files with random
//! names in a separate folder. Requests cannot name these files: a key is never part of a path. A
//! file is durable before its ref is written, so an object is never incomplete. Before it is
//! written, a file is listed as garbage. If no ref references it, the file is deleted later.

mod bucket;
mod bucket_store;
mod change;
mod content;
mod error;
mod garbage;
mod listing;
mod multipart;
mod object;
mod object_precondition;
mod objects;
mod pack_file;
mod record;

pub use bucket::{Bucket, is_bucket_name};
pub use bucket_store::BucketObjectStore;
pub use change::{ChangeFilter, ChangeOrigin, ObjectChange, RecordedChange};
pub use content::ContentStream;
pub use error::{Error, Result};
pub use listing::{ListEntry, ListRequest, Listing};
pub use multipart::{CompletedPart, ListedPart, ListedUpload, NewUpload, UploadTarget};
pub use object::{CopyRequest, NewObject, ObjectPath, OpenObject};
pub use object_precondition::ObjectPrecondition;
pub use objects::Objects;
pub use pack_file::PackFileContent;
pub use record::{ObjectHeaders, ObjectRecord};
