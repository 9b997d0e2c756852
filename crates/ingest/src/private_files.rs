//! Files that belong to a lake, such as its keys. Imports and queries of users must not read them.

use std::path::{Component, Path, PathBuf};

/// Name of a lake's folder in a project.
const LAKE_FOLDER: &str = ".headwater";

/// The files on disk that an import must not read.
#[derive(Debug, Clone)]
pub struct PrivateFiles {
    /// The folder of the lake.
    pub lake_dir: PathBuf,
    /// The file with the key of the secrets, if the key is in a file.
    pub secret_key: Option<PathBuf>,
    /// Paths of files in the lake's folder that the user uploaded.
    pub uploaded: Vec<PathBuf>,
}

impl PrivateFiles {
    /// Returns true if a file must not be read. The path must contain no links.
    pub fn contains(&self, path: &Path) -> bool {
        let is = |other: &PathBuf| path == real(other);
        let is_key = self.secret_key.as_ref().is_some_and(is);
        is_key || (is_of_the_lake(&self.lake_dir, path) && !self.uploaded.iter().any(is))
    }
}

/// Returns true if a file belongs to this or another lake: a file in the lake's folder, or a file
/// next to the folder that has the folder's name and an extension, such as the secret key.
pub fn is_of_the_lake(lake_dir: &Path, path: &Path) -> bool {
    let lake = real(lake_dir);
    let is_lake = |part: Component<'_>| {
        let name = part.as_os_str().to_string_lossy();
        name == LAKE_FOLDER || name.strip_prefix(LAKE_FOLDER).is_some_and(|it| it.starts_with('.'))
    };
    path.starts_with(&lake) || path.with_extension("") == lake || path.components().any(is_lake)
}

/// Returns a path without links; the path itself if it does not exist.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
