//! Buckets and objects, as S3 has them: metadata in the store, contents in object storage.
//!
//! [`Objects`] is the handle. An object is one ref, `objects/BUCKET/KEY`, so that a change is one
//! compare-and-swap, and a listing is one ordered range. Its content is in files with random names
//! in a folder of their own, which no request can name: a key is never part of a path. A file is
//! written and made durable before the ref that names it, so that no object is ever incomplete. A
//! file that no ref names is listed as garbage before it is written, and deleted later.

mod bucket;
mod bucket_store;
mod change;
mod condition;
mod content;
mod error;
mod garbage;
mod listing;
mod multipart;
mod object;
mod objects;
mod record;

pub use bucket::{Bucket, is_bucket_name};
pub use bucket_store::BucketStore;
pub use change::{ObjectChange, RecordedChange, Watch};
pub use condition::Condition;
pub use content::Content;
pub use error::{Error, Result};
pub use listing::{ListRequest, Listed, Listing};
pub use multipart::{CompletedPart, ListedPart, ListedUpload, NewUpload, UploadTarget};
pub use object::{Copy, NewObject, ObjectPath, OpenObject};
pub use objects::Objects;
pub use record::{Headers, ObjectInfo};
