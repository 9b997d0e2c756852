//! Private files: the files of lakes and of warehouses, and files with credentials. Imports and
//! queries do not read private files, and exports do not replace them, even for a user with all
//! grants.
//!
//! A file is recognised by its path without symbolic links. If the file has several hard links, it
//! is also compared with the private files that have several hard links.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use headwater_lake::Lake;
use headwater_tables::CloudUrl;
use walkdir::WalkDir;

/// Name of a lake's folder in a project.
const LAKE_FOLDER: &str = ".headwater";

/// The folder in which Linux shows the memory and the environment variables of processes.
const PROCESSES: &str = "/proc";

/// The private files of a server.
#[derive(Debug, Clone, Default)]
pub struct PrivateFiles {
    /// The folder of the lake.
    pub lake_dir: PathBuf,
    /// Files and folders with credentials, such as the key that encrypts secrets.
    pub credentials: Vec<PathBuf>,
    /// Paths of files in the lake's folder that the user uploaded, and may read.
    pub uploaded: Vec<PathBuf>,
}

impl PrivateFiles {
    /// Resolves the symbolic links of the paths. The lake's warehouse is private too.
    pub fn resolve(&self, lake: &Lake) -> ResolvedPrivateFiles {
        // An empty path would be a prefix of every path.
        let is_path = |path: &&PathBuf| !path.as_os_str().is_empty();
        let all_real = |paths: &[PathBuf]| -> Vec<PathBuf> {
            paths.iter().filter(is_path).map(|path| resolve_links(path)).collect()
        };
        let root_url = &lake.tables().options().root_url;
        ResolvedPrivateFiles {
            lake_dir: resolve_links(&self.lake_dir),
            warehouse_dir: root_url
                .strip_prefix("file://")
                .map(|path| resolve_links(Path::new(path))),
            credentials: all_real(&self.credentials),
            uploaded: all_real(&self.uploaded),
            lake: lake.clone(),
            warehouse: CloudUrl::parse(root_url).ok(),
            hard_links: None,
        }
    }
}

/// The private files of a server, with paths without symbolic links.
pub struct ResolvedPrivateFiles {
    lake_dir: PathBuf,
    credentials: Vec<PathBuf>,
    uploaded: Vec<PathBuf>,
    lake: Lake,
    /// The folder of the warehouse, if it is on disk.
    warehouse_dir: Option<PathBuf>,
    /// The warehouse, if it is in a cloud.
    warehouse: Option<CloudUrl>,
    /// Device and inode of each private file with several hard links; `None` until needed.
    hard_links: Option<HashSet<(u64, u64)>>,
}

impl ResolvedPrivateFiles {
    /// Returns true if a path is private. Symbolic links of the part that exists are resolved.
    pub fn has_path(&self, path: &Path) -> bool {
        self.has_real_path(&resolve_links(path))
    }

    /// Returns true if a path without symbolic links is private.
    pub fn has_real_path(&self, path: &Path) -> bool {
        if self.uploaded.iter().any(|uploaded| path == uploaded) {
            return false;
        }
        let in_warehouse = || {
            // `path_of` accepts only locations below the warehouse. But `path` can be the warehouse
            // folder itself, so append a name.
            let url = format!("file://{}/_", path.display());
            self.lake.tables().path_of(&url).is_ok()
        };
        path.starts_with(PROCESSES)
            || self.credentials.iter().any(|it| path.starts_with(it))
            || self.is_of_a_lake(path)
            || in_warehouse()
    }

    /// Returns true if a file is a hard link of a private file.
    pub fn has_hard_link(&mut self, file: &Metadata) -> bool {
        if file.nlink() < 2 {
            return false;
        }
        let lake_dir = &self.lake_dir;
        let warehouse = self.warehouse_dir.iter().filter(|folder| !folder.starts_with(lake_dir));
        let folders = self.credentials.iter().chain([lake_dir]).chain(warehouse);
        let known = self.hard_links.get_or_insert_with(|| {
            let found = folders.flat_map(|folder| WalkDir::new(folder).into_iter().flatten());
            let found = found.filter_map(|entry| entry.metadata().ok());
            let found = found.filter(|it| it.is_file() && it.nlink() > 1);
            found.map(|it| (it.dev(), it.ino())).collect()
        });
        known.contains(&(file.dev(), file.ino()))
    }

    /// Returns true if the URL names an object in the warehouse.
    pub fn has_object(&self, url: &str) -> bool {
        let in_warehouse = |warehouse: &CloudUrl| {
            CloudUrl::parse(url).is_ok_and(|object| object.is_within(warehouse))
        };
        self.warehouse.as_ref().is_some_and(in_warehouse)
    }

    /// Returns true if a path is in a lake's folder, or is a file next to this folder whose name is
    /// the folder's name with an extension, such as the file with the key that encrypts secrets.
    fn is_of_a_lake(&self, path: &Path) -> bool {
        let is_lake = |part: Component<'_>| {
            let name = part.as_os_str().to_string_lossy();
            let rest = name.strip_prefix(LAKE_FOLDER);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let lake = &self.lake_dir;
        path.starts_with(lake) || path.with_extension("") == *lake || path.components().any(is_lake)
    }
}

/// Returns a path without symbolic links. Keeps the part of the path that does not exist.
fn resolve_links(path: &Path) -> PathBuf {
    for base in path.ancestors() {
        let Ok(found) = base.canonicalize() else { continue };
        return match path.strip_prefix(base) {
            Ok(rest) if !rest.as_os_str().is_empty() => found.join(rest),
            _ => found,
        };
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_the_existing_part_of_a_path_are_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(resolve_links(&root.join("link")), root.join("real"));
        assert_eq!(resolve_links(&root.join("link/a/b")), root.join("real/a/b"));
        assert_eq!(resolve_links(&root.join("link/../real/x")), root.join("real/x"));
        assert_eq!(resolve_links(Path::new("/")), Path::new("/"));
    }
}
