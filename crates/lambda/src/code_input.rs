//! The code of a function or layer in a request: a ZIP archive in the request, or in a bucket.

use std::ops::Range;

use headwater_model::{ErrorCode, Problem, ProjectFiles};
use headwater_service::objects::{ObjectPath, ObjectRecord};
use headwater_service::{FunctionFiles, S3Operations, STORED_ARCHIVE_BYTES_MAX, Service};
use serde::Deserialize;

use crate::error::{LambdaError, Result};
use crate::request::LambdaRequest;

/// The code in a request.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CodeInput {
    /// A ZIP archive in Base64.
    zip_file: Option<String>,
    /// The bucket that contains the archive.
    #[serde(rename = "S3Bucket")]
    bucket: Option<String>,
    /// The key of the archive in the bucket.
    #[serde(rename = "S3Key")]
    key: Option<String>,
    /// The version of the object. Buckets have no versions, so a request with this field is
    /// rejected.
    #[serde(rename = "S3ObjectVersion")]
    object_version: Option<String>,
}

impl CodeInput {
    /// Reads the files of the archive. An object is read with the rights of the principal.
    pub async fn read(self, service: &Service, request: &LambdaRequest) -> Result<FunctionFiles> {
        if self.object_version.is_some() {
            let message = "S3ObjectVersion is not supported, because objects have no versions.";
            return Err(LambdaError::invalid(message));
        }
        let functions = service.invocations().standalone();
        match (self.zip_file, self.bucket, self.key) {
            (Some(archive), None, None) => {
                Ok(functions.read_files(ProjectFiles::new(), Some(archive)).await?)
            }
            (None, Some(bucket), Some(key)) => {
                let objects = S3Operations::of(service).objects();
                let path = ObjectPath { bucket, key };
                let opened = objects.open(&request.principal, &path, whole).await?;
                Ok(functions.read_archive(opened.info.size, opened.content).await?)
            }
            _ => Err(LambdaError::invalid(
                "The code must be a ZIP archive: either ZipFile, or both S3Bucket and S3Key. \
                 Container images are not supported.",
            )),
        }
    }
}

/// Returns the byte range of an object's whole content.
///
/// Errors: `invalid_argument` if the object is too large for an archive.
fn whole(info: &ObjectRecord) -> std::result::Result<Range<u64>, Problem> {
    if info.size > STORED_ARCHIVE_BYTES_MAX {
        let message = format!("the archive in the bucket has {} bytes (limit 1 GiB)", info.size);
        return Err(Problem::new(ErrorCode::InvalidArgument, message)
            .with_hint("Remove files from the archive."));
    }
    Ok(0..info.size)
}
