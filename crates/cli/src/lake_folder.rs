//! Finding the lake: the nearest `.headwater` folder upwards, or the one that is named.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use headwater_model::{ErrorCode, MAIN_BRANCH, Problem};

use crate::error::{self, Result};

/// The folder of a lake inside its project.
pub const LAKE_FOLDER: &str = ".headwater";

/// The file of a project.
pub const PROJECT_FILE: &str = "headwater.toml";

/// A lake on this machine.
#[derive(Debug, Clone)]
pub struct LakeFolder {
    /// The `.headwater` folder, absolute.
    pub path: PathBuf,
}

impl LakeFolder {
    /// The project around the lake, where there is one.
    pub fn project(&self) -> Option<PathBuf> {
        let folder = self.path.parent()?;
        folder.join(PROJECT_FILE).is_file().then(|| folder.to_owned())
    }

    /// The active branch: the one `headwater checkout` chose, or `main`.
    pub fn active_branch(&self) -> String {
        let head = std::fs::read_to_string(self.path.join("HEAD")).unwrap_or_default();
        let head = head.trim();
        if head.is_empty() { MAIN_BRANCH.to_owned() } else { head.to_owned() }
    }

    /// Makes a branch the active one.
    pub fn set_active_branch(&self, branch: &str) -> Result<()> {
        let temporary = self.path.join(format!("HEAD.{}", std::process::id()));
        std::fs::write(&temporary, format!("{branch}\n"))
            .and_then(|()| std::fs::rename(&temporary, self.path.join("HEAD")))
            .map_err(error::from_io("remember the active branch"))
    }
}

/// The lake in `folder`: the folder itself, or the `.headwater` inside it.
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

fn is_lake_folder(folder: &Path) -> bool {
    folder.join("lake.db").is_file()
}

/// The nearest lake at or above `start`. One above that belongs to another user is passed over: its
/// project's code would run in this user's name.
pub fn nearest(start: &Path) -> Result<LakeFolder> {
    for folder in start.ancestors() {
        let candidate = folder.join(LAKE_FOLDER);
        if candidate.is_dir() && (folder == start || is_trusted(&candidate, start)) {
            let path =
                candidate.canonicalize().map_err(error::from_io("open the lake's folder"))?;
            return Ok(LakeFolder { path });
        }
    }
    Err(missing("no lake here or in any folder above"))
}

/// Whether a folder belongs to root, to this user, or to the owner of the folder that the user is in.
fn is_trusted(folder: &Path, start: &Path) -> bool {
    let owner = |path: &Path| path.metadata().ok().map(|found| found.uid());
    let own = rustix::process::geteuid().as_raw();
    owner(folder).is_some_and(|id| id == 0 || id == own || Some(id) == owner(start))
}

fn missing(message: &str) -> Problem {
    Problem::new(ErrorCode::FileNotFound, message)
        .with_hint("Run `headwater init` to make one, or name one with `--lake DIR`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lake_is_found_from_any_folder_below() {
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
    fn a_lake_above_that_belongs_to_another_user_is_passed_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (lake, below) = (folder.path().join(LAKE_FOLDER), folder.path().join("below"));
        std::fs::create_dir(&lake).expect("a lake");
        std::fs::create_dir(&below).expect("a folder");
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&lake, Some(12_345), None).is_ok() {
            assert!(nearest(&below).is_err());
            assert!(nearest(folder.path()).is_ok(), "the user is there");
            std::os::unix::fs::chown(&below, Some(12_345), None).expect("the other's folder");
            assert!(nearest(&below).is_ok());
        }
    }
}
