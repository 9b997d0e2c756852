//! The files of a project that may define models. A project for Bauplan defines them in the Python
//! and SQL files of its own folder, and in the SQL files of `include_paths`.

use std::collections::BTreeMap;

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::{Error, Location, Result};

/// Files that may define models.
#[derive(Default)]
pub(crate) enum ModelFiles {
    /// All files of the project.
    #[default]
    All,
    /// Files of the project's own folder, and included SQL files.
    TopLevel(Vec<IncludePath>),
}

/// An entry of `include_paths`.
pub(crate) struct IncludePath {
    at: Location,
    paths: GlobMatcher,
}

impl IncludePath {
    /// Parses an entry: the path of a SQL file below the project's folder, with wildcards.
    pub fn parse(text: &str, at: Location) -> Result<IncludePath> {
        let refuse = |reason: &str| {
            let message = format!("`include_paths` cannot have `{text}`: {reason}");
            Error::invalid(at.clone(), message, "Write it like `views/*.sql`.")
        };
        let path = text.strip_prefix("./").unwrap_or(text);
        if path.rsplit_once('.').is_none_or(|(_, ending)| ending != "sql") {
            return Err(refuse("it does not end in `.sql`"));
        }
        if path.starts_with(['/', '~']) || path.contains('\\') {
            return Err(refuse("it is not relative to the project"));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(refuse("it leaves the project by `..`"));
        }
        let glob: Result<Glob, globset::Error> =
            GlobBuilder::new(path).literal_separator(true).build();
        let paths = glob.map_err(|error| refuse(&error.kind().to_string()))?.compile_matcher();
        Ok(IncludePath { at, paths })
    }
}

impl ModelFiles {
    /// Returns true if the file may define models.
    pub fn contains(&self, path: &str) -> bool {
        let ModelFiles::TopLevel(included) = self else { return true };
        !path.contains('/') || included.iter().any(|included| included.paths.is_match(path))
    }

    /// Checks that each included path names a file of the project.
    pub fn check(&self, files: &BTreeMap<String, String>) -> Result<()> {
        let ModelFiles::TopLevel(included) = self else { return Ok(()) };
        let matches = |one: &IncludePath| files.keys().any(|path| one.paths.is_match(path));
        let Some(missing) = included.iter().find(|one| !matches(one)) else { return Ok(()) };
        let message = format!("the project has no file that matches `{}`", missing.paths.glob());
        let hint = "Correct the path, or remove it from `include_paths`.";
        Err(Error::invalid(missing.at.clone(), message, hint))
    }
}
