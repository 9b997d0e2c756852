//! Names of the files that mark a folder as a project.

/// The project file of Headwater.
pub const PROJECT_FILE: &str = "headwater.toml";

/// All project files: Headwater's, and those of projects written for Bauplan.
pub const PROJECT_FILES: [&str; 3] = [PROJECT_FILE, "bauplan_project.yml", "bauplan_project.yaml"];
