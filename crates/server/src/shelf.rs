//! The project of this server as its files are now, parsed once for all calls.
//!
//! Whether a file has changed is looked at again a tenth of a second after the last look, so that a
//! call costs no walk through the project's folders, and an edit counts at once for who made it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, Fault, Problem};
use headwater_pipelines::{Given, Project};

use crate::project::{self, PROJECT_FILE, read_project};

/// How long what was found counts without another look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The project of a server.
pub struct Shelf {
    folder: Option<PathBuf>,
    state: tokio::sync::Mutex<Option<State>>,
    /// The environments that calls were given.
    pub given: Given,
}

struct State {
    looked: Instant,
    seen: project::Seen,
    project: Result<Arc<Project>, Problem>,
}

impl Shelf {
    /// A shelf for the project in a folder.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let (state, given) = (tokio::sync::Mutex::default(), Given::default());
        Shelf { folder, state, given }
    }

    /// The project; an error where there is none, or where it cannot be used.
    pub async fn project(&self) -> Result<Arc<Project>, Problem> {
        let Some(folder) = &self.folder else {
            let message = "this server has no project, and so no functions";
            let hint = format!("Start it in a folder with a `{PROJECT_FILE}`.");
            return Err(Problem::new(ErrorCode::FileNotFound, message).with_hint(hint));
        };
        let mut state = self.state.lock().await;
        if let Some(known) = &*state
            && known.looked.elapsed() < LOOK_AGAIN
        {
            return known.project.clone();
        }
        let (folder, before) = (folder.clone(), state.take());
        let looked = tokio::task::spawn_blocking(move || look(&folder, before)).await;
        let looked = looked.map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("the project was not read: {error}"))
        })?;
        state.insert(looked).project.clone()
    }
}

/// Reads the project where it is not as it was.
fn look(folder: &Path, before: Option<State>) -> State {
    let seen = project::seen(folder);
    let looked = Instant::now();
    match before {
        Some(before) if before.seen == seen => State { looked, ..before },
        _ => {
            let parse = |files: BTreeMap<String, String>| {
                Project::parse(&files).map_err(|error| error.to_problem())
            };
            let project = read_project(folder).and_then(parse).map(Arc::new);
            State { looked, seen, project }
        }
    }
}
