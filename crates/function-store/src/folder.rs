//! The files of a function on disk: a folder, or a ZIP archive. If the files are large, clients
//! send them as an archive in an upload. The Python client has the same rules, in
//! `python/headwater/function_files.py`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_model::{DeployFunction, FileContent};
use rawzip::path::EntryPath;
use rawzip::{CompressionMethod, ZipArchiveWriter};

use crate::paths::{FILES_BYTES_MAX, FILES_MAX, MEMORY_BYTES_MAX, limits_hint};
use crate::{Error, Result};

/// Folders that are not part of a function.
const SKIPPED: [&str; 1] = ["__pycache__"];

/// The source of a function's files.
pub enum FunctionSource {
    /// A small folder or archive, which the request contains.
    Request(Box<DeployFunction>),
    /// A large archive, which must be uploaded.
    Archive(File),
    /// A large folder, which must be uploaded as an archive.
    Folder(PathBuf),
}

/// A file of a folder.
struct FolderFile {
    path: PathBuf,
    bytes: u64,
    is_executable: bool,
}

/// Reads the files of a folder or an archive, unless the files are large. Hidden files of a folder
/// are skipped.
///
/// Errors: `invalid_argument` if the path does not exist, or if a file is a link or too large.
pub fn read_source(path: &Path) -> Result<FunctionSource> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mut request = DeployFunction::default();
    if metadata.is_dir() {
        let files = list_folder(path)?;
        if files.values().map(|file| file.bytes).sum::<u64>() > MEMORY_BYTES_MAX {
            return Ok(FunctionSource::Folder(path.to_owned()));
        }
        for (name, file) in files {
            let content = fs::read(&file.path).map_err(|error| unreadable(&file.path, &error))?;
            request.files.insert(name, FileContent::new(content, file.is_executable));
        }
        return Ok(FunctionSource::Request(Box::new(request)));
    }
    if metadata.len() > MEMORY_BYTES_MAX {
        let archive = File::open(path).map_err(|error| unreadable(path, &error))?;
        return Ok(FunctionSource::Archive(archive));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    request.archive = Some(STANDARD.encode(bytes));
    Ok(FunctionSource::Request(Box::new(request)))
}

/// Writes the files of a folder as a ZIP archive, without compression. Memory does not depend on
/// the size of the files.
///
/// Errors: `invalid_argument` if a file is a link or too large, or cannot be read.
pub fn write_archive(root: &Path, to: impl Write) -> Result<()> {
    let mut archive = ZipArchiveWriter::new(to);
    let failed = |error: rawzip::Error| Error::disk(io::Error::other(error));
    for (name, file) in list_folder(root)? {
        let mut content = File::open(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        let mode = if file.is_executable { 0o100_755 } else { 0o100_644 };
        let new = archive.new_file(EntryPath::verbatim(name.as_bytes()));
        let new = new.compression_method(CompressionMethod::STORE).unix_permissions(mode);
        let (mut entry, config) = new.start().map_err(failed)?;
        let mut writer = config.wrap(&mut entry);
        io::copy(&mut content, &mut writer).map_err(Error::disk)?;
        let (_, descriptor) = writer.finish().map_err(failed)?;
        entry.finish(descriptor).map_err(failed)?;
    }
    archive.finish().map_err(failed)?;
    Ok(())
}

/// Returns the files of a folder, except hidden ones, by their paths below the folder.
fn list_folder(root: &Path) -> Result<BTreeMap<String, FolderFile>> {
    let (mut files, mut bytes) = (BTreeMap::new(), 0);
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
            let is_executable = metadata.permissions().mode() & 0o111 != 0;
            let below = path.strip_prefix(root).unwrap_or(&path).to_str().ok_or_else(|| {
                let message = format!("the name of `{}` is not UTF-8", path.display());
                Error::invalid(message, "Rename the file")
            })?;
            let below = below.to_owned();
            files.insert(below, FolderFile { path, bytes: metadata.len(), is_executable });
        }
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let message = format!("`{}` cannot be read: {error}", path.display());
    Error::invalid(message, "Name a folder, or a ZIP archive")
}
