//! Settings that apply without a deployment: the project's name and its rate card, as `headwater.toml`
//! in the working folder has them.
//!
//! The file is read when the server starts, before it matters, and every two seconds. A file that
//! cannot be read changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use headwater_jobs::Jobs;
use headwater_model::{ErrorCode, Fault, Problem, RateCard};
use headwater_pipelines::Project;
use parking_lot::Mutex;

use crate::project_files::PROJECT_FILE;

/// What the project's file says.
pub struct Settings {
    project: Option<PathBuf>,
    jobs: Jobs,
    /// What was read last.
    seen: tokio::sync::Mutex<Option<Reading>>,
    problem: Mutex<Option<Problem>>,
    /// What the project is called.
    name: Mutex<Option<String>>,
}

/// The file's text; none where it is not there, or has none yet.
#[derive(Debug, PartialEq, Eq)]
struct Reading(Option<String>);

impl Settings {
    /// The settings of a project; without one, the defaults.
    pub fn new(project: Option<PathBuf>, jobs: Jobs) -> Self {
        Settings {
            project,
            jobs,
            seen: tokio::sync::Mutex::default(),
            problem: Mutex::default(),
            name: Mutex::default(),
        }
    }

    /// What the project is called, where there is one whose file can be used.
    pub fn name(&self) -> Option<String> {
        self.name.lock().clone()
    }

    /// Reads the file, and puts what it says into force where it has changed.
    pub async fn refresh(&self) {
        let Some(project) = &self.project else { return };
        let mut seen = self.seen.lock().await;
        let reading = match tokio::fs::read_to_string(project.join(PROJECT_FILE)).await {
            Ok(text) => Reading(Some(text).filter(|text| !text.trim().is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Reading(None),
            Err(error) => return self.note(Some(unreadable(&error))),
        };
        if seen.as_ref() == Some(&reading) {
            return;
        }
        self.note(self.apply(reading.0.as_deref()).err());
        *seen = Some(reading);
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

    fn note(&self, problem: Option<Problem>) {
        let mut noted = self.problem.lock();
        if let Some(problem) = &problem
            && noted.as_ref() != Some(problem)
        {
            tracing::warn!("`{PROJECT_FILE}` cannot be used: {problem}");
        }
        *noted = problem;
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
