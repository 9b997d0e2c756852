//! Folders of projects: reads a dbt project, and writes the converted files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::convert::ConvertedProject;

/// Folders of a dbt project that are not part of its source.
const SKIPPED: [&str; 4] = ["target", "logs", "dbt_packages", "dbt_modules"];

/// Maximum size of a file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads the text files of a dbt project, by path. Hidden folders and folders that dbt writes are
/// not read.
pub fn read(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    add(folder, folder, &mut files)?;
    Ok(files)
}

fn add(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&&*name) {
            add(root, &path, files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
            // Skip binary files, because models, seeds and tests are text files.
            if let (Some(relative), Ok(text)) = (relative, std::fs::read_to_string(&path)) {
                files.insert(relative.to_owned(), text);
            }
        }
    }
    Ok(())
}

impl ConvertedProject {
    /// Writes the missing files below a folder; returns the new paths, files before folders.
    pub fn write(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let (mut written, mut folders) = (Vec::new(), Vec::new());
        for (file, text) in &self.files {
            let path = folder.join(file);
            for parent in path.ancestors().skip(1).take_while(|parent| *parent != folder) {
                if !parent.exists() && !folders.iter().any(|known| known == parent) {
                    folders.push(parent.to_owned());
                }
            }
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            if !path.exists() {
                std::fs::write(&path, text)?;
                written.push(path);
            }
        }
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
        written.extend(folders);
        Ok(written)
    }
}
