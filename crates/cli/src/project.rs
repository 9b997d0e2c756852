//! Finds the project of a command.

use std::path::{Path, PathBuf};

use headwater_model::{ErrorCode, PROJECT_FILE, Problem};

use crate::context::current_folder;
use crate::error::{self, Result};
use crate::lake::Lake;
use crate::lake_folder::is_project;

/// Returns the project's folder: `named` from an option, otherwise the nearest project in the
/// working folder and its parents, otherwise the project whose folder contains the lake.
pub fn locate(named: Option<&PathBuf>, lake: &Lake) -> Result<PathBuf> {
    if let Some(folder) = named {
        return if is_project(folder) {
            folder.canonicalize().map_err(error::from_io("open the project's folder"))
        } else {
            Err(missing(&format!("no `{PROJECT_FILE}` in `{}`", folder.display())))
        };
    }
    let current = current_folder()?;
    let above = current.ancestors().find(|folder| is_project(folder));
    above
        .map(Path::to_owned)
        .or_else(|| lake.project())
        .ok_or_else(|| missing(&format!("no `{PROJECT_FILE}` in this folder or its parents")))
}

fn missing(message: &str) -> Problem {
    Problem::new(ErrorCode::FileNotFound, message)
        .with_hint("Run `headwater init` to create a project, or use `--project DIR`.")
}
