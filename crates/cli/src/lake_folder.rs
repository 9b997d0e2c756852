//! Finds the lake: the folder from an option, or the nearest `.headwater` in the working folder and
//! its parents.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use headwater_model::{ErrorCode, MAIN_BRANCH, PROJECT_FILES, Problem};

use crate::error::{self, Result};

/// The lake's folder in its project.
pub const LAKE_FOLDER: &str = ".headwater";

/// A lake on this machine.
#[derive(Debug, Clone)]
pub struct LakeFolder {
    /// The `.headwater` folder, absolute.
    pub path: PathBuf,
}

impl LakeFolder {
    /// Returns the folder that contains the lake, if it is a project.
    pub fn project(&self) -> Option<PathBuf> {
        let folder = self.path.parent()?;
        is_project(folder).then(|| folder.to_owned())
    }

    /// Returns the active branch, as set by `headwater checkout`; `main` by default.
    pub fn active_branch(&self) -> String {
        let head = std::fs::read_to_string(self.path.join("HEAD")).unwrap_or_default();
        let head = head.trim();
        if head.is_empty() { MAIN_BRANCH.to_owned() } else { head.to_owned() }
    }

    /// Sets the active branch.
    pub fn set_active_branch(&self, branch: &str) -> Result<()> {
        let temporary = self.path.join(format!("HEAD.{}", std::process::id()));
        std::fs::write(&temporary, format!("{branch}\n"))
            .and_then(|()| std::fs::rename(&temporary, self.path.join("HEAD")))
            .map_err(error::from_io("store the active branch"))
    }
}

/// Opens the lake in `folder`: the folder itself, or its `.headwater`.
pub fn at(folder: &Path) -> Result<LakeFolder> {
    let inner = folder.join(LAKE_FOLDER);
    let is_lake = folder.file_name().is_some_and(|name| name == LAKE_FOLDER);
    let found = if is_lake || is_lake_folder(folder) { folder.to_owned() } else { inner };
    if !found.is_dir() {
        return Err(missing(&format!("no lake in `{}`", folder.display())));
    }
    let path = found.canonicalize().map_err(error::from_io("open the lake's folder"))?;
    Ok(LakeFolder { path })
}

/// Returns true if the folder has a project file, of Headwater or Bauplan.
pub fn is_project(folder: &Path) -> bool {
    PROJECT_FILES.iter().any(|file| folder.join(file).is_file())
}

fn is_lake_folder(folder: &Path) -> bool {
    folder.join("lake.db").is_file()
}

/// Finds the nearest lake in `start` or its parents. Skips another user's lake in a parent folder,
/// because its project's code would run as this user.
pub fn nearest(start: &Path) -> Result<LakeFolder> {
    for folder in start.ancestors() {
        let candidate = folder.join(LAKE_FOLDER);
        if candidate.is_dir() && (folder == start || is_trusted(&candidate, start)) {
            let path =
                candidate.canonicalize().map_err(error::from_io("open the lake's folder"))?;
            return Ok(LakeFolder { path });
        }
    }
    Err(missing("no lake in this folder or its parents"))
}

/// Returns true if the folder's owner is root, this user, or the owner of `start`.
fn is_trusted(folder: &Path, start: &Path) -> bool {
    let owner = |path: &Path| path.metadata().ok().map(|found| found.uid());
    let own = rustix::process::geteuid().as_raw();
    owner(folder).is_some_and(|id| id == 0 || id == own || Some(id) == owner(start))
}

fn missing(message: &str) -> Problem {
    Problem::new(ErrorCode::FileNotFound, message)
        .with_hint("Run `headwater init` to create one, or use `--lake DIR`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lake_is_found_from_nested_folders() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let deep = folder.path().join("a/b/c");
        std::fs::create_dir_all(&deep).expect("folders");
        assert_eq!(nearest(&deep).expect_err("no lake yet").code, ErrorCode::FileNotFound);
        std::fs::create_dir(folder.path().join(LAKE_FOLDER)).expect("a lake");
        let found = nearest(&deep).expect("the lake above");
        assert_eq!(found.active_branch(), "main");
        found.set_active_branch("dev").expect("a branch");
        assert_eq!(at(folder.path()).expect("the same lake").active_branch(), "dev");
    }

    #[test]
    fn parent_lake_of_another_user_is_skipped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (lake, below) = (folder.path().join(LAKE_FOLDER), folder.path().join("below"));
        std::fs::create_dir(&lake).expect("a lake");
        std::fs::create_dir(&below).expect("a folder");
        // This check needs root, because only root can change the owner of a folder.
        if std::os::unix::fs::chown(&lake, Some(12_345), None).is_ok() {
            assert!(nearest(&below).is_err());
            assert!(
                nearest(folder.path()).is_ok(),
                "another user's lake in the current folder is accepted"
            );
            std::os::unix::fs::chown(&below, Some(12_345), None).expect("the other's folder");
            assert!(nearest(&below).is_ok());
        }
    }
}
