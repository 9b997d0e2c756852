//! What the project's `headwater.toml` says to the server: the rate card and the triggers.
//!
//! The file is read when the server starts, before it matters, and every two seconds; what it says
//! counts from then on. A file that cannot be used changes nothing, and [`Settings::problem`] says
//! why. While there is no file nothing triggers, and nothing is forgotten: it may be about to be written
//! anew, or its folder about to be mounted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_jobs::{Jobs, Triggers};
use headwater_model::{ErrorCode, Fault, Problem, RateCard};
use headwater_pipelines::Project;
use parking_lot::Mutex;

use crate::project::PROJECT_FILE;

/// How often the file is read.
const READ_EVERY: Duration = Duration::from_secs(2);

/// What the project's file says.
pub struct Settings {
    project: Option<PathBuf>,
    jobs: Jobs,
    triggers: Option<Triggers>,
    /// What was read last.
    seen: tokio::sync::Mutex<Option<Reading>>,
    problem: Mutex<Option<Problem>>,
    has_triggers: AtomicBool,
    /// What the project is called.
    name: Mutex<Option<String>>,
}

/// The file's text; none where it is not there, or has none yet.
#[derive(Debug, PartialEq, Eq)]
struct Reading(Option<String>);

impl Settings {
    /// The settings of a project; without one, the defaults.
    pub fn new(project: Option<PathBuf>, jobs: Jobs, triggers: Option<Triggers>) -> Self {
        Settings {
            project,
            jobs,
            triggers,
            seen: tokio::sync::Mutex::default(),
            problem: Mutex::default(),
            has_triggers: AtomicBool::new(false),
            name: Mutex::default(),
        }
    }

    /// Why the file as it is now cannot be used.
    pub fn problem(&self) -> Option<Problem> {
        self.problem.lock().clone()
    }

    /// Whether the project declares triggers.
    pub fn has_triggers(&self) -> bool {
        self.has_triggers.load(Ordering::Relaxed)
    }

    /// What the project is called, where there is one whose file can be used.
    pub fn name(&self) -> Option<String> {
        self.name.lock().clone()
    }

    /// Reads the file over and over.
    pub async fn watch(&self) {
        if self.project.is_none() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(READ_EVERY).await;
            self.refresh().await;
        }
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
        let outcome = self.apply(reading.0.as_deref()).await;
        self.note(outcome.err());
        *seen = Some(reading);
    }

    async fn apply(&self, text: Option<&str>) -> Result<(), Problem> {
        let Some(text) = text else {
            *self.name.lock() = None;
            self.jobs.set_rate_card(RateCard::default());
            self.has_triggers.store(false, Ordering::Relaxed);
            if let Some(handle) = &self.triggers {
                handle.suspend().await;
            }
            return Ok(());
        };
        let Project { name, rates, triggers, .. } = parse(text)?;
        *self.name.lock() = Some(name);
        self.jobs.set_rate_card(rates);
        if let Some(handle) = &self.triggers {
            let declared = !triggers.is_empty();
            handle.reload(triggers).await.map_err(|error| error.to_problem())?;
            self.has_triggers.store(declared, Ordering::Relaxed);
        }
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
