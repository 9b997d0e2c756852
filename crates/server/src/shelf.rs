//! The project of this server as its files are now, parsed once for all calls.
//!
//! The kernel tells of each change in the project's folders, which costs a call one question: so no
//! call runs code that was edited before it came, and none walks through the folders for nothing. Where
//! the kernel does not tell, every call looks.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, Fault, Problem};
use headwater_pipelines::{Given, Project};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::project::{self, PROJECT_FILE, read_project};

/// How long what was found counts without another look, for file systems that others change unseen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The project of a server.
pub struct Shelf {
    folder: Option<PathBuf>,
    state: tokio::sync::Mutex<Option<State>>,
    /// The environments that calls were given.
    pub given: Given,
}

struct State {
    looked: Instant,
    watch: Option<Watch>,
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
            && known.watch.as_ref().is_some_and(Watch::is_silent)
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
    let looked = Instant::now();
    // What changes from here on is told of, seen or not.
    let mut watch = Watch::open();
    let seen = project::seen(folder, |folder| {
        if watch.as_ref().is_some_and(|watch| !watch.add(folder)) {
            watch = None;
        }
    });
    match before {
        Some(before) if before.seen == seen => State { looked, watch, ..before },
        _ => {
            let parse = |files: BTreeMap<String, String>| {
                Project::parse(&files).map_err(|error| error.to_problem())
            };
            let project = read_project(folder).and_then(parse).map(Arc::new);
            State { looked, watch, seen, project }
        }
    }
}

/// Hears of changes in folders, from the kernel.
struct Watch(OwnedFd);

impl Watch {
    fn open() -> Option<Self> {
        inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok().map(Watch)
    }

    /// Watches a folder; false where the kernel does not take one more.
    fn add(&self, folder: &Path) -> bool {
        let changes = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&self.0, folder, changes).is_ok()
    }

    /// Whether nothing has changed. What has was read by this, and is to be looked at.
    fn is_silent(&self) -> bool {
        let mut events = [0_u8; 4096];
        matches!(rustix::io::read(&self.0, &mut events), Err(rustix::io::Errno::AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn functions(shelf: &Shelf) -> Vec<String> {
        let project = shelf.project().await.expect("a project");
        project.callables.keys().cloned().collect()
    }

    #[tokio::test]
    async fn what_was_edited_before_a_call_came_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        let named = |name: &str| {
            format!("import headwater\n@headwater.function()\ndef {name}():\n    return 1\n")
        };
        write("headwater.toml", "[project]\nname = \"p\"\n");
        write("a.py", &named("one"));
        let shelf = Shelf::new(Some(root.path().to_owned()));
        assert_eq!(functions(&shelf).await, ["one"]);
        for round in 0..50 {
            let name = format!("f{round}");
            write("a.py", &named(&name));
            assert_eq!(functions(&shelf).await, [name.as_str()]);
            let deep = format!("deep{round}/er/b.py");
            write(&deep, &named("two"));
            assert_eq!(functions(&shelf).await, [name.as_str(), "two"]);
            std::fs::rename(root.path().join(&deep), root.path().join("b.txt")).expect("moved");
            assert_eq!(functions(&shelf).await, [name.as_str()]);
        }
        assert!(shelf.state.lock().await.as_ref().expect("known").watch.is_some());
    }
}
