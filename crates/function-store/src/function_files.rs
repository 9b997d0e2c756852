//! The files of a function in a request, by path, or in an archive.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_model::ProjectFiles;

use crate::pack_file::{ArchiveDigest, PackFileWriter, temporary_file};
use crate::zip_archive::{STORED_ARCHIVE_BYTES_MAX, is_large, unpack};
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
/// proportional to the request's size. Temporary files are in `folder`.
///
/// Errors: `invalid_argument`, `disk_full`, `storage`.
pub fn read_request(
    files: ProjectFiles,
    archive: Option<&str>,
    folder: &Path,
) -> Result<FunctionFiles> {
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
        let reason = format!("the file has {} bytes (limit 44 MiB)", bytes.len());
        let hint = "Deploy the archive with `headwater function deploy`. With Lambda's API, upload \
                    it to a bucket, and send `S3Bucket` and `S3Key`";
        return Err(Error::archive(reason, hint));
    }
    FunctionFiles::of_archive(&bytes, folder)
}

impl FunctionFiles {
    /// Reads the files of a ZIP archive in memory. Writes large files to a pack file in `folder`.
    ///
    /// Errors: `invalid_argument`, `disk_full`, `storage`.
    pub fn of_archive(bytes: &[u8], folder: &Path) -> Result<Self> {
        if is_large(bytes)? {
            let mut archive = temporary_file(folder)?;
            archive.write_all(bytes).map_err(Error::disk)?;
            return Self::of_archive_file(archive, folder);
        }
        let files = read_archive(bytes)?;
        let code = FunctionStore::code(&files, Some(&ArchiveDigest::of(bytes)))?;
        Ok(FunctionFiles { files, code })
    }

    /// Writes the files of a ZIP archive on disk to a pack file in `folder`. Memory does not depend
    /// on the size of the files.
    ///
    /// Errors: `invalid_argument`, `disk_full`, `storage`.
    pub fn of_archive_file(archive: File, folder: &Path) -> Result<Self> {
        let bytes = archive.metadata().map_err(Error::disk)?.len();
        if bytes > STORED_ARCHIVE_BYTES_MAX {
            let reason = format!("the file has {bytes} bytes (limit 1 GiB)");
            return Err(Error::archive(reason, "Remove files from the archive"));
        }
        let digest = ArchiveDigest::of_file(&archive)?;
        let files = unpack(archive, PackFileWriter::create(folder)?)?;
        let code = FunctionStore::code(&files, Some(&digest))?;
        Ok(FunctionFiles { files, code })
    }
}
