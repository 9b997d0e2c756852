//! The lake of a command: a folder on this machine, or a server with a profile.

use std::path::PathBuf;

use headwater_model::MAIN_BRANCH;

use crate::error::Result;
use crate::lake_folder::LakeFolder;
use crate::profiles::{Profile, ProfileFile};

/// The lake that a command uses.
#[derive(Debug, Clone)]
pub enum Lake {
    /// A lake on this machine.
    Folder(LakeFolder),
    /// A lake on another machine.
    Remote(RemoteLake),
}

/// A lake on another machine.
#[derive(Debug, Clone)]
pub struct RemoteLake {
    /// The name of the profile.
    pub name: String,
    /// The profile.
    pub profile: Profile,
    /// The file that stores the profile.
    pub file: ProfileFile,
}

impl Lake {
    /// Returns the active branch, as set by `headwater checkout`; `main` by default.
    pub fn active_branch(&self) -> String {
        match self {
            Lake::Folder(folder) => folder.active_branch(),
            Lake::Remote(remote) => {
                remote.profile.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned())
            }
        }
    }

    /// Sets the active branch.
    pub fn set_active_branch(&self, branch: &str) -> Result<()> {
        match self {
            Lake::Folder(folder) => folder.set_active_branch(branch),
            Lake::Remote(remote) => remote.file.set_branch(&remote.name, branch),
        }
    }

    /// Returns the folder that contains the lake, if it is a project. `None` for a remote lake.
    pub fn project(&self) -> Option<PathBuf> {
        match self {
            Lake::Folder(folder) => folder.project(),
            Lake::Remote(_) => None,
        }
    }

    /// Returns true if the lake's server cannot read files of this machine.
    pub fn is_remote(&self) -> bool {
        matches!(self, Lake::Remote(_))
    }
}
