//! The files of a request: by path, or in an archive.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_model::ProjectFiles;

use crate::{ARCHIVE_BYTES_MAX, Error, FunctionStore, NewCode, Result, read_archive};

/// The files of a function, as received and in stored form.
#[derive(Debug, Clone)]
pub struct FunctionFiles {
    /// The files by path.
    pub files: ProjectFiles,
    /// The same files in the form in which they are stored.
    pub code: NewCode,
}

/// Reads the files of a request. `archive` is a ZIP archive in Base64. Time and memory are
/// proportional to the size of the files.
///
/// Errors: `invalid_argument`.
pub fn read_request(files: ProjectFiles, archive: Option<&str>) -> Result<FunctionFiles> {
    let Some(archive) = archive else {
        let code = FunctionStore::code(&files, None)?;
        return Ok(FunctionFiles { files, code });
    };
    if !files.is_empty() {
        let message = "the request has both `files` and `archive`";
        return Err(Error::invalid(message, "Send either `files` or `archive`"));
    }
    let bytes = STANDARD.decode(archive).map_err(|_| {
        Error::archive("`archive` is not valid Base64", "Encode the ZIP archive as Base64")
    })?;
    if bytes.len() > ARCHIVE_BYTES_MAX {
        let reason = format!("the file has {} bytes", bytes.len());
        let hint = "Reduce the archive to 44 MiB, or upload it to a bucket and deploy it with \
                    `S3Bucket` and `S3Key` of Lambda's API";
        return Err(Error::archive(reason, hint));
    }
    FunctionFiles::of_archive(&bytes)
}

impl FunctionFiles {
    /// Reads the files of a ZIP archive. Time and memory are proportional to the size of the files.
    ///
    /// Errors: `invalid_argument`.
    pub fn of_archive(bytes: &[u8]) -> Result<Self> {
        let files = read_archive(bytes)?;
        let code = FunctionStore::code(&files, Some(bytes))?;
        Ok(FunctionFiles { files, code })
    }
}
