//! Profiles: the user's servers, each with a token and an active branch.
//!
//! The file is in the user's configuration folder, and only the user can read it. The Python SDK
//! reads the same file.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use headwater_model::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};

use crate::error::{self, Result};

/// The profile of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// The server's URL.
    pub url: String,
    /// The access token.
    pub token: String,
    /// A PEM file to trust in place of the system's certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The active branch; `None` means `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// All profiles.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Profiles {
    /// The default profile, used by commands outside any lake's folder.
    #[serde(default)]
    pub default: Option<String>,
    /// The profiles by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// The file that stores the profiles.
#[derive(Debug, Clone)]
pub struct ProfileFile(pub PathBuf);

impl ProfileFile {
    /// Reads the profiles. A missing file counts as empty.
    pub fn read(&self) -> Result<Profiles> {
        match std::fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| self.unreadable(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Profiles::default()),
            Err(error) => Err(error::from_io(&format!("read `{}`", self.0.display()))(error)),
        }
    }

    /// Replaces the file.
    pub fn write(&self, profiles: &Profiles) -> Result<()> {
        let text = serde_json::to_vec_pretty(profiles).map_err(error::unexpected)?;
        let unfinished = self.0.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            if let Some(folder) = self.0.parent() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&unfinished)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &self.0)
        };
        write().map_err(error::from_io(&format!("write `{}`", self.0.display())))
    }

    /// Returns the profile with this name, or the default profile; `None` if it does not exist.
    pub fn find(&self, name: Option<&str>) -> Result<Option<(String, Profile)>> {
        let mut all = self.read()?;
        let Some(name) = name.map(str::to_owned).or(all.default) else { return Ok(None) };
        Ok(all.profiles.remove(&name).map(|profile| (name, profile)))
    }

    /// Sets the active branch of a profile.
    pub fn set_branch(&self, name: &str, branch: &str) -> Result<()> {
        let mut all = self.read()?;
        let profile = all.profiles.get_mut(name).ok_or_else(|| missing(name))?;
        profile.branch = Some(branch.to_owned());
        self.write(&all)
    }

    fn unreadable(&self, error: &serde_json::Error) -> Problem {
        let message = format!("the profiles in `{}` are unreadable", self.0.display());
        let mut problem = error::invalid(message);
        problem.causes.push(error.to_string());
        problem.with_hint("Delete the file, and run `headwater login` again.")
    }
}

/// Returns the error for an unknown profile.
pub fn missing(name: &str) -> Problem {
    Problem::new(ErrorCode::FileNotFound, format!("there is no profile `{name}`"))
        .with_hint("List the profiles with `headwater profile ls`, or run `headwater login URL`.")
}
