//! Paths of a function's files: relative, below its folder, and free of names that file systems
//! interpret.

use std::collections::BTreeSet;

use headwater_model::ProjectFiles;

use crate::{Error, Result};

/// Maximum number of files.
pub(crate) const FILES_MAX: usize = 20_000;

/// Maximum size of all files together, including the files of layers, in bytes.
pub const FILES_BYTES_MAX: u64 = 1 << 30;

/// Maximum size of all files of an archive that are read into memory, in bytes. The files of larger
/// archives are in a pack file on disk.
pub(crate) const MEMORY_BYTES_MAX: u64 = 32 << 20;

/// Maximum length of a path in bytes, and of one component.
const PATH_BYTES_MAX: usize = 1_024;
const PART_BYTES_MAX: usize = 255;

/// Returns the reason why a path is not accepted; `None` if it is accepted.
pub(crate) fn path_error(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Some("the path is empty or longer than 1,024 bytes");
    }
    if path.starts_with('/') {
        return Some("the path is absolute");
    }
    if path.contains('\\') || path.contains(char::is_control) {
        return Some("the path has a backslash or a control character");
    }
    if path.as_bytes().get(1) == Some(&b':') {
        return Some("the path begins with a drive letter");
    }
    let mut parts = path.split('/');
    if parts.clone().any(|part| part == "..") {
        return Some("the path contains `..`");
    }
    parts
        .any(|part| matches!(part, "" | ".") || part.len() > PART_BYTES_MAX)
        .then_some("a part of the path is empty, is `.` or is longer than 255 bytes")
}

/// Checks files that a request contains: their paths, number and size.
///
/// Errors: `invalid_argument`.
pub fn check_files(files: &ProjectFiles) -> Result<()> {
    if files.is_empty() {
        let hint = "Add files; the hidden files of a folder are not deployed";
        return Err(Error::invalid("the request contains no files", hint));
    }
    for path in files.keys() {
        if let Some(reason) = path_error(path) {
            let hint = "Name files relative to the function's folder, separated by `/`";
            return Err(Error::invalid(format!("file `{}`: {reason}", printable(path)), hint));
        }
    }
    let bytes: u64 = files.values().map(headwater_model::FileContent::size).sum();
    if files.len() > FILES_MAX || bytes > FILES_BYTES_MAX {
        let message = format!(
            "the function has {} files of {bytes} bytes together (limits: 20,000 files, 1 GiB)",
            files.len()
        );
        return Err(Error::invalid(message, limits_hint()));
    }
    match file_and_folder(files.keys().map(String::as_str)) {
        None => Ok(()),
        Some(path) => {
            let message = format!("`{}` is both a file and a folder", printable(path));
            Err(Error::invalid(message, "Rename the file or the folder"))
        }
    }
}

/// Returns a path that is both a file and a parent folder of another file, if there is one.
pub(crate) fn file_and_folder<'a>(paths: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let paths: BTreeSet<&str> = paths.collect();
    let folders = |path: &'a str| path.match_indices('/').map(|(at, _)| &path[..at]);
    paths.iter().copied().flat_map(folders).find(|folder| paths.contains(folder))
}

pub(crate) fn limits_hint() -> &'static str {
    "Deploy at most 20,000 files, of 1 GiB together"
}

/// Returns an untrusted name in a form that is safe in messages: short, without control characters.
pub(crate) fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_paths_below_the_folder_are_accepted() {
        for path in ["app.py", "lib/a.b/c.py", ".hidden", "a..b", "ä.py"] {
            assert_eq!(path_error(path), None, "{path}");
        }
        let long = "a".repeat(256);
        for path in
            ["", "/etc/passwd", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "c:/a", "a\0", &long]
        {
            assert!(path_error(path).is_some(), "{path}");
        }
        assert_eq!(file_and_folder(["a", "a-b", "a/b"].into_iter()), Some("a"));
        assert_eq!(file_and_folder(["a/b", "a/c"].into_iter()), None);
    }
}
