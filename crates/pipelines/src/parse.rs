//! Parses projects. The engine evaluates the constant expressions in their SQL.

use headwater_model::ProjectFiles;
use headwater_project::ParsedProject;

/// Parses a project's files, given by path relative to its root.
///
/// Fails with `invalid_project` if there is no project file, or more than one.
pub fn parse_project(files: &ProjectFiles) -> headwater_project::Result<ParsedProject> {
    ParsedProject::read(files, headwater_engine::version_constant)
}
