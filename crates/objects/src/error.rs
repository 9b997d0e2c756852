//! Errors of buckets and objects, with hints.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{ErrorCode, Problem, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Field of a problem's context that contains the error code of the S3 protocol.
const S3_CODE: &str = "s3_code";

/// An error of buckets and objects.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The bucket does not exist.
    #[error("bucket `{name}` does not exist")]
    NoBucket {
        /// The name.
        name: String,
    },
    /// The bucket exists.
    #[error("bucket `{name}` already exists")]
    BucketExists {
        /// The name of the bucket.
        name: String,
    },
    /// The bucket has objects.
    #[error("bucket `{name}` is not empty")]
    NotEmpty {
        /// The name.
        name: String,
    },
    /// The name breaks the rules for buckets.
    #[error("`{name}` is not a valid bucket name")]
    BucketName {
        /// The name.
        name: String,
    },
    /// The key violates the rules for object keys.
    #[error("the object key {reason}")]
    Key {
        /// The violated rule, as a verb phrase.
        reason: &'static str,
        /// The code in the S3 protocol.
        s3_code: &'static str,
    },
    /// The object does not exist.
    #[error("object `{key}` does not exist")]
    NoObject {
        /// The key.
        key: String,
    },
    /// The multipart upload does not exist.
    #[error("multipart upload `{id}` does not exist")]
    NoUpload {
        /// The id.
        id: String,
    },
    /// The object does not meet a condition of the request.
    #[error("object `{key}` does not meet the conditions of the request")]
    Precondition {
        /// The key.
        key: String,
    },
    /// The list of parts that completes an upload is invalid.
    #[error("part {number} {reason}")]
    Part {
        /// The part number.
        number: u32,
        /// The violated rule, as a verb phrase.
        reason: &'static str,
        /// The code in the S3 protocol.
        s3_code: &'static str,
    },
    /// The metadata is too large.
    #[error("the user metadata is longer than {max} bytes")]
    MetadataTooLarge {
        /// The maximum length, in bytes.
        max: usize,
    },
    /// The range is outside the object.
    #[error("the range is outside the object's {size} bytes")]
    Range {
        /// The object's size.
        size: u64,
    },
    /// The write failed repeatedly because of concurrent changes of the object.
    #[error("object `{key}` is being changed by other requests")]
    Conflict {
        /// The key.
        key: String,
    },
    /// A stored record cannot be read.
    #[error("the record `{name}` cannot be read")]
    Corrupt {
        /// The name of the record.
        name: String,
    },
    /// Reading the content from the client failed.
    #[error(transparent)]
    Content(Box<Problem>),
    /// A file cannot be read or written.
    #[error(transparent)]
    Storage(Arc<headwater_table_format::Error>),
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl From<headwater_table_format::Error> for Error {
    fn from(error: headwater_table_format::Error) -> Self {
        Error::Storage(Arc::new(error))
    }
}

impl Error {
    /// Returns the code in the S3 protocol; `None` if the code is derived from the error's own
    /// code.
    const fn s3_code(&self) -> Option<&'static str> {
        Some(match self {
            Error::NoBucket { .. } => "NoSuchBucket",
            Error::BucketExists { .. } => "BucketAlreadyOwnedByYou",
            Error::NotEmpty { .. } => "BucketNotEmpty",
            Error::BucketName { .. } => "InvalidBucketName",
            Error::Key { s3_code, .. } | Error::Part { s3_code, .. } => s3_code,
            Error::NoObject { .. } => "NoSuchKey",
            Error::NoUpload { .. } => "NoSuchUpload",
            Error::Precondition { .. } => "PreconditionFailed",
            Error::MetadataTooLarge { .. } => "MetadataTooLarge",
            Error::Range { .. } => "InvalidRange",
            Error::Conflict { .. } => "OperationAborted",
            Error::Corrupt { .. } | Error::Content(_) | Error::Storage(_) | Error::Store(_) => {
                return None;
            }
        })
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::NoBucket { .. } => ErrorCode::BucketNotFound,
            Error::BucketExists { .. } => ErrorCode::AlreadyExists,
            Error::NotEmpty { .. } => ErrorCode::NotEmpty,
            Error::BucketName { .. } | Error::Key { .. } => ErrorCode::InvalidName,
            Error::NoObject { .. } | Error::NoUpload { .. } => ErrorCode::ObjectNotFound,
            Error::Precondition { .. } => ErrorCode::PreconditionFailed,
            Error::Part { .. } | Error::MetadataTooLarge { .. } | Error::Range { .. } => {
                ErrorCode::InvalidArgument
            }
            Error::Conflict { .. } => ErrorCode::CommitConflict,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Content(problem) => problem.code,
            Error::Storage(error) => error.code(),
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NoBucket { .. } => "Create the bucket first.",
            Error::BucketExists { .. } => "Choose another name.",
            Error::NotEmpty { .. } => "Delete the objects of the bucket first.",
            Error::BucketName { .. } => {
                "Use 3 to 63 lower-case letters, digits, `-` and `.`, beginning with a letter or \
                 digit."
            }
            Error::Key { .. } => "Choose another key.",
            Error::NoObject { .. } => "List the objects of the bucket.",
            Error::NoUpload { .. } => "Start the upload again.",
            Error::Precondition { .. } => "Read the object again.",
            Error::Part { .. } => "Upload the part again.",
            Error::MetadataTooLarge { .. } => "Shorten the metadata.",
            Error::Range { .. } => "Request a part of the object.",
            Error::Conflict { .. } => "Try again.",
            Error::Corrupt { .. } => return None,
            Error::Content(problem) => return problem.hint.clone(),
            Error::Storage(error) => return error.hint(),
            Error::Store(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        if let Error::Content(problem) = self {
            return problem.context.clone();
        }
        let code = self.s3_code().map(|code| (S3_CODE.to_owned(), code.into()));
        code.into_iter().collect()
    }
}
