//! Which files of a project travel to the server: its `headwater.toml`, SQL and Python files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headwater_model::{ErrorCode, Problem};

use crate::context::current_folder;
use crate::error::{self, Result};
use crate::lake_folder::{LakeFolder, PROJECT_FILE};

/// The most that one project may hold; code is small, and data does not belong here.
const PROJECT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The deepest folder that is read.
const DEPTH_MAX: usize = 8;

/// The project to run: the one named, the nearest `headwater.toml` upwards, or the one around the lake.
pub fn locate(named: Option<&PathBuf>, lake: &LakeFolder) -> Result<PathBuf> {
    if let Some(folder) = named {
        return if folder.join(PROJECT_FILE).is_file() {
            folder.canonicalize().map_err(error::from_io("open the project's folder"))
        } else {
            Err(missing(&format!("no `{PROJECT_FILE}` in `{}`", folder.display())))
        };
    }
    let current = current_folder()?;
    let above = current.ancestors().find(|folder| folder.join(PROJECT_FILE).is_file());
    above
        .map(Path::to_owned)
        .or_else(|| lake.project())
        .ok_or_else(|| missing(&format!("no `{PROJECT_FILE}` here or in any folder above")))
}

fn missing(message: &str) -> Problem {
    Problem::new(ErrorCode::FileNotFound, message)
        .with_hint("Run `headwater init` to make a project, or name one with `--project DIR`.")
}

/// The project's files by path relative to its root.
pub fn read(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut bytes = 0;
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(error::from_io("read the project"))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < DEPTH_MAX && is_code_folder(&path) {
                folders.push((path, depth + 1));
            } else if kind.is_file() && is_code_file(root, &path) {
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                check_size(root, bytes)?;
                files.insert(relative(root, &path), read_file(&path)?);
            }
        }
    }
    Ok(files)
}

fn check_size(root: &Path, bytes: u64) -> Result<()> {
    if bytes <= PROJECT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the project in `{}` holds more than 32 MiB of code", root.display());
    Err(error::invalid(message).with_hint("Keep data outside the project; import it into tables."))
}

fn read_file(path: &Path) -> Result<String> {
    let text = std::fs::read(path).map_err(error::from_io("read a project file"))?;
    String::from_utf8(text).map_err(|_| {
        error::invalid(format!("`{}` is not UTF-8 text", path.display()))
            .with_hint("Save the file as UTF-8.")
    })
}

fn is_code_folder(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
    // A folder with its own project file is another project.
    !name.starts_with('.')
        && !["__pycache__", "node_modules", "venv", "data"].contains(&name)
        && !path.join("pyvenv.cfg").exists()
        && !path.join(PROJECT_FILE).exists()
}

fn is_code_file(root: &Path, path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && (matches!(extension, Some("sql" | "py")) || path == root.join(PROJECT_FILE))
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_travels_and_data_stays() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in [
            ("headwater.toml", ""),
            ("models/a.sql", "SELECT 1"),
            ("models/b.py", ""),
            ("data/rows.csv", "a\n1\n"),
            (".headwater/lake.db", "x"),
            ("models/__pycache__/b.py", ""),
            ("notes.md", ""),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let files = read(root.path()).expect("the project");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["headwater.toml", "models/a.sql", "models/b.py"]);
    }
}
