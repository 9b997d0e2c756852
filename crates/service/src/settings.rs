//! Settings that apply without a deployment: the name and rate card of the project in the working
//! folder.
//!
//! `headwater.toml` is read when the server starts, before operations that depend on it, and every
//! two seconds. An unreadable file changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use headwater_jobs::Jobs;
use headwater_model::{ErrorCode, Fault, Problem, RateCard};
use headwater_pipelines::Project;
use parking_lot::Mutex;

use crate::project_files::PROJECT_FILE;

/// The settings of a project's file.
pub struct Settings {
    project: Option<PathBuf>,
    jobs: Jobs,
    /// The file's text that was applied last.
    applied: tokio::sync::Mutex<Option<FileText>>,
    problem: Mutex<Option<Problem>>,
    /// The project's name.
    name: Mutex<Option<String>>,
}

/// The file's text; none if the file is missing or empty.
#[derive(Debug, PartialEq, Eq)]
struct FileText(Option<String>);

impl Settings {
    /// Creates the settings of a project, or the defaults without one.
    pub fn new(project: Option<PathBuf>, jobs: Jobs) -> Self {
        Settings {
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

    /// Reads the file, and applies it if it has changed.
    pub async fn refresh(&self) {
        let Some(project) = &self.project else { return };
        let mut applied = self.applied.lock().await;
        let reading = match tokio::fs::read_to_string(project.join(PROJECT_FILE)).await {
            Ok(text) => FileText(Some(text).filter(|text| !text.trim().is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => FileText(None),
            Err(error) => return self.report(Some(unreadable(&error))),
        };
        if applied.as_ref() == Some(&reading) {
            return;
        }
        self.report(self.apply(reading.0.as_deref()).err());
        *applied = Some(reading);
    }

    fn apply(&self, text: Option<&str>) -> Result<(), Problem> {
        let (name, rates) = match text.map(parse).transpose()? {
            Some(Project { name, rates, .. }) => (Some(name), rates),
            None => (None, RateCard::default()),
        };
        *self.name.lock() = name;
        self.jobs.set_rate_card(rates);
        Ok(())
    }

    /// Logs a problem once.
    fn report(&self, problem: Option<Problem>) {
        let mut reported = self.problem.lock();
        if let Some(problem) = &problem
            && reported.as_ref() != Some(problem)
        {
            tracing::warn!("`{PROJECT_FILE}` is invalid: {problem}");
        }
        *reported = problem;
    }
}

fn parse(text: &str) -> Result<Project, Problem> {
    let files = BTreeMap::from([(PROJECT_FILE.to_owned(), text.to_owned())]);
    Project::parse(&files).map_err(|error| error.to_problem())
}

fn unreadable(error: &std::io::Error) -> Problem {
    let mut problem = Problem::new(ErrorCode::Storage, format!("`{PROJECT_FILE}` cannot be read"));
    problem.causes.push(error.to_string());
    problem
}
