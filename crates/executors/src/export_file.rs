//! Files written outside the lake. A file gets its name only when it is complete, so a reader never
//! sees an incomplete file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use headwater_lake::CloudSettings;
use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_tables::CloudUrl;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// The target of an export.
pub enum ExportTarget {
    /// A file on disk.
    Local(PathBuf),
    /// An object in a bucket.
    Object {
        /// The bucket.
        store: Arc<dyn ObjectStore>,
        /// The key of the object.
        path: object_store::path::Path,
        /// The name of the object in messages.
        url: String,
    },
}

/// A file that is being written. Dropping this value before [`ExportOutput::finish`] removes the
/// file.
pub enum ExportOutput {
    /// A temporary file in the folder of the target.
    Local {
        /// The temporary file; `None` after an error.
        file: Option<NamedTempFile>,
        /// The target.
        path: PathBuf,
    },
    /// An upload in progress.
    Object {
        /// The upload.
        upload: BufWriter,
        /// The name of the object in messages.
        url: String,
    },
}

impl ExportTarget {
    /// Returns a file on disk as the target; its folder must exist.
    pub fn local(path: PathBuf) -> Self {
        ExportTarget::Local(path)
    }

    /// Returns an object in a bucket as the target, without writing it.
    pub fn object(url: &CloudUrl, settings: &CloudSettings) -> Result<Self, Problem> {
        let store = url.open_bucket(settings).or_problem()?;
        Self::in_store(store, url.key(), url.as_str())
    }

    /// Returns an object in an object store as the target; `url` is its name in messages.
    pub fn in_store(store: Arc<dyn ObjectStore>, key: &str, url: &str) -> Result<Self, Problem> {
        if key.is_empty() {
            return Err(not_written(url, "the URL names a bucket, not an object"));
        }
        let path = object_store::path::Path::parse(key)
            .map_err(|error| not_written(url, &error.to_string()))?;
        Ok(ExportTarget::Object { store, path, url: url.to_owned() })
    }

    /// Starts writing the file.
    pub async fn create(&self) -> Result<ExportOutput, Problem> {
        match self {
            ExportTarget::Local(path) => {
                let path = path.clone();
                blocking(move || {
                    let file = temporary(&path).map_err(|error| failed(&path, &error))?;
                    Ok(ExportOutput::Local { file: Some(file), path })
                })
                .await
            }
            ExportTarget::Object { store, path, url } => {
                let upload = BufWriter::new(store.clone(), path.clone());
                Ok(ExportOutput::Object { upload, url: url.clone() })
            }
        }
    }
}

impl ExportOutput {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Problem> {
        match self {
            ExportOutput::Local { file, path } => {
                let (Some(mut temporary), target) = (file.take(), path.clone()) else {
                    return Err(not_written(&path.to_string_lossy(), "the file is already closed"));
                };
                let written = blocking(move || {
                    let written = temporary.write_all(&bytes);
                    written.map_err(|error| failed(&target, &error))?;
                    Ok(temporary)
                });
                *file = Some(written.await?);
                Ok(())
            }
            ExportOutput::Object { upload, url } => {
                upload.put(bytes).await.map_err(|error| not_written(url, &error.to_string()))
            }
        }
    }

    /// Makes the file durable, and makes it visible under its name.
    pub async fn finish(self) -> Result<(), Problem> {
        match self {
            ExportOutput::Local { file, path } => {
                let Some(file) = file else {
                    return Err(not_written(&path.to_string_lossy(), "the file is already closed"));
                };
                blocking(move || publish(file, &path).map_err(|error| failed(&path, &error))).await
            }
            ExportOutput::Object { mut upload, url } => {
                upload.shutdown().await.map_err(|error| not_written(&url, &error.to_string()))
            }
        }
    }
}

/// Creates a temporary file in the folder of the target. The file gets the permissions of an
/// existing target, otherwise the permissions of a new file. Its name contains the target's name,
/// so that users can recognize the file after a crash.
fn temporary(path: &Path) -> std::io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;

    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{}.copy-", name.chars().take(100).collect::<String>());
    let existing = std::fs::metadata(path).map(|found| found.permissions());
    let new = std::fs::Permissions::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).permissions(existing.as_ref().unwrap_or(&new).clone());
    let file = builder.tempfile_in(folder)?;
    if let Ok(permissions) = existing {
        // The umask applies only to new files, not to the permissions of an existing one.
        file.as_file().set_permissions(permissions)?;
    }
    Ok(file)
}

fn publish(file: NamedTempFile, path: &Path) -> std::io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(folder)?.sync_all()
}

fn failed(path: &Path, error: &std::io::Error) -> Problem {
    not_written(&path.to_string_lossy(), &error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Problem::new(ErrorCode::Internal, format!("the file was not written: {error}")))
    })
}

/// Returns the path of a file to write, with resolved symbolic links in the path of its folder.
///
/// Errors: `invalid_argument` if the folder does not exist, or the path is not a regular file.
pub fn path_to_write(location: &str) -> Result<PathBuf, Problem> {
    let path = Path::new(location);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(not_written(location, "the path has no file name"));
    };
    let folder = folder.canonicalize().map_err(|error| {
        let hint = format!("Create the folder `{}` first.", folder.display());
        not_written(location, &error.to_string()).with_hint(hint)
    })?;
    let path = folder.join(name);
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => return Err(not_written(location, "the path is a folder")),
        Ok(found) if !found.is_file() => {
            return Err(not_written(location, "the path is a link, a device or a pipe")
                .with_hint("Name a regular file, or one that does not exist."));
        }
        _ => {}
    }
    Ok(path)
}

/// Returns the error for a file that cannot be written.
pub fn not_written(location: &str, reason: &str) -> Problem {
    let message = format!("`{location}` cannot be written: {reason}");
    Problem::new(ErrorCode::InvalidArgument, message)
}
