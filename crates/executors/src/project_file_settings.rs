//! Settings that apply without a deployment: the name and rate card of the project in the working
//! folder.
//!
//! The project file is read at the start of the server, before operations that depend on it, and
//! every two seconds. If the read fails, the current settings stay in effect.

use std::path::{Path, PathBuf};

use headwater_jobs::Jobs;
use headwater_model::{ErrorCode, PROJECT_FILES, Problem, ProjectFiles, RateCard, ResultExt};
use headwater_pipelines::Project;
use parking_lot::Mutex;

/// The settings of a project's file.
pub struct ProjectFileSettings {
    project: Option<PathBuf>,
    jobs: Jobs,
    /// The last applied contents of the project files, by name; empty without a project.
    applied: tokio::sync::Mutex<Option<ProjectFiles>>,
    problem: Mutex<Option<Problem>>,
    /// The project's name.
    name: Mutex<Option<String>>,
}

impl ProjectFileSettings {
    /// Creates the settings of a project, or the default settings without a project.
    pub fn new(project: Option<PathBuf>, jobs: Jobs) -> Self {
        ProjectFileSettings {
            project,
            jobs,
            applied: tokio::sync::Mutex::default(),
            problem: Mutex::default(),
            name: Mutex::default(),
        }
    }

    /// Returns the name of the project, if there is one with a valid file.
    pub fn name(&self) -> Option<String> {
        self.name.lock().clone()
    }

    /// Returns the problem of the current project file, if any. While it exists, older settings
    /// stay in effect.
    pub fn problem(&self) -> Option<Problem> {
        self.problem.lock().clone()
    }

    /// Reads the project file, and applies the settings if the file has changed.
    pub async fn refresh(&self) {
        let Some(project) = &self.project else { return };
        let mut applied = self.applied.lock().await;
        let files = match read(project).await {
            Ok(files) => files,
            Err(problem) => {
                // Apply the file at the next read even if it has not changed, to remove the
                // problem.
                *applied = None;
                return self.report(Some(problem));
            }
        };
        if applied.as_ref() == Some(&files) {
            return;
        }
        self.report(self.apply(&files).err());
        *applied = Some(files);
    }

    fn apply(&self, files: &ProjectFiles) -> Result<(), Problem> {
        let (name, rates) = if files.is_empty() {
            (None, RateCard::default())
        } else {
            let settings = Project::read_applied_settings(files).or_problem()?;
            (Some(settings.name), settings.rates)
        };
        *self.name.lock() = name;
        self.jobs.set_rate_card(rates);
        Ok(())
    }

    /// Logs a problem, unless it equals the last logged problem.
    fn report(&self, problem: Option<Problem>) {
        let mut reported = self.problem.lock();
        if let Some(problem) = &problem
            && reported.as_ref() != Some(problem)
        {
            tracing::warn!("the project file is invalid: {problem}");
        }
        *reported = problem;
    }
}

/// Reads the project files of a folder. Skips empty files.
async fn read(project: &Path) -> Result<ProjectFiles, Problem> {
    let mut files = ProjectFiles::new();
    for name in PROJECT_FILES {
        match tokio::fs::read_to_string(project.join(name)).await {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => {
                files.insert(name.to_owned(), text.into());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(name, &error)),
        }
    }
    Ok(files)
}

fn unreadable(name: &str, error: &std::io::Error) -> Problem {
    let mut problem = Problem::new(ErrorCode::Storage, format!("`{name}` cannot be read"));
    problem.causes.push(error.to_string());
    problem
}
