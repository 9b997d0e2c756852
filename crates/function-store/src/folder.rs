//! The files of a function on disk: a folder, or a ZIP archive. The Python client implements the
//! same rules in `python/headwater/function_files.py`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_model::{DeployFunction, ProjectFile, ProjectFiles};

use crate::archive::ARCHIVE_BYTES_MAX;
use crate::paths::{FILES_BYTES_MAX, FILES_MAX, limits_hint};
use crate::{Error, Result};

/// Folders that are not part of a function.
const SKIPPED: [&str; 1] = ["__pycache__"];

/// Reads an archive, or the files of a folder except hidden files, and returns a deployment
/// request.
///
/// Errors: `invalid_argument` if the path does not exist, or if a file is a link or too large.
pub fn read_source(path: &Path) -> Result<DeployFunction> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        let files = read_folder(path)?;
        return Ok(DeployFunction { files, ..DeployFunction::default() });
    }
    if metadata.len() > ARCHIVE_BYTES_MAX as u64 {
        let reason = format!("the file has {} bytes", metadata.len());
        return Err(Error::archive(reason, "An archive has at most 44 MiB"));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let archive = Some(STANDARD.encode(bytes));
    Ok(DeployFunction { archive, ..DeployFunction::default() })
}

fn read_folder(root: &Path) -> Result<ProjectFiles> {
    let (mut files, mut bytes) = (ProjectFiles::new(), 0);
    let mut left: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') || SKIPPED.contains(&&*name) {
                continue;
            }
            let metadata = entry.metadata().map_err(|error| unreadable(&path, &error))?;
            if metadata.is_dir() {
                left.push(path);
                continue;
            }
            if !metadata.is_file() {
                let message = format!("`{}` is a link or a special file", path.display());
                return Err(Error::invalid(message, "Replace the link with a copy of the file"));
            }
            bytes += metadata.len();
            if bytes > FILES_BYTES_MAX || files.len() >= FILES_MAX {
                let message = format!("folder `{}` is too large", root.display());
                return Err(Error::invalid(message, limits_hint()));
            }
            let content = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
            let executable = metadata.permissions().mode() & 0o111 != 0;
            let below = path.strip_prefix(root).unwrap_or(&path).to_str().ok_or_else(|| {
                let message = format!("the name of `{}` is not UTF-8", path.display());
                Error::invalid(message, "Rename the file")
            })?;
            files.insert(below.to_owned(), ProjectFile::new(content, executable));
        }
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let message = format!("`{}` cannot be read: {error}", path.display());
    Error::invalid(message, "Name the folder of the function, or a ZIP archive")
}
