//! All environments of a folder.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use headwater_sandbox::{Spawner, current_identity, is_stale};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::folder_lock::SharedLock;
use crate::interpreter::{self, Interpreter};
use crate::path_ownership::{self, make_folder};
use crate::requirement::{name_of, requested_names, requirements};
use crate::uv::Uv;
use crate::{Environment, EnvironmentEvent, EnvironmentSpec, Error, Result, system_programs};

/// Version of the folder layout. It is part of the hash that is an environment's id.
const FORMAT: u32 = 1;

/// The description of a build, written last; a folder without it is incomplete.
pub(crate) const DESCRIPTION: &str = "headwater-environment.json";

/// The file that marks a build whose bytecode is incomplete, so that a later server continues to
/// compile it.
pub(crate) const UNCOMPILED: &str = "headwater-uncompiled";

/// Prefixes of the folders of builds in progress, and of the work folders of processes without a
/// sandbox. The identity of the server that created the folder follows the prefix.
pub(crate) const BUILDING: &str = ".building-";
const WORK: &str = ".work-";

/// Hint for pinned versions that cannot be installed.
const PINS_HINT: &str = "Add these versions to the package index, or run the project with current \
                         versions: `headwater run`.";

pub(crate) type ProgressCallback<'a> = &'a (dyn Fn(EnvironmentEvent) + Send + Sync);

/// Options of [`Environments::open`].
#[derive(Debug, Clone)]
pub struct EnvironmentsOptions {
    /// The folder of environments; created if missing. All servers of a user may share it.
    pub environments_dir: PathBuf,
    /// The folder into which `uv` is installed if the host has no `uv`.
    pub tools_dir: PathBuf,
    /// uv's cache, on the same file system as `environments_dir`, so that files are linked instead
    /// of copied.
    pub cache_dir: PathBuf,
    /// Folders that are searched for interpreters and `uv`, in order.
    pub python_search: Vec<PathBuf>,
}

/// All environments of a folder.
#[derive(Debug)]
pub struct Environments {
    pub(crate) folder: PathBuf,
    tools: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) search: Vec<PathBuf>,
    pub(crate) spawner: Arc<Spawner>,
    /// Environments that this process has already opened. A request for such an environment opens
    /// only its folder, and reads no file.
    pub(crate) known: Mutex<HashMap<String, Arc<Environment>>>,
    /// True if there may be folders of outdated builds.
    pub(crate) leftovers: AtomicBool,
    uv: tokio::sync::Mutex<Option<Uv>>,
    compiling: Mutex<Vec<JoinHandle<()>>>,
}

/// Description of a build, in its folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BuildDescription {
    pub(crate) python: String,
    pub(crate) requirements: Vec<String>,
    pub(crate) packages: BTreeMap<String, String>,
    /// Names of the requested packages, if `requirements` also pins packages that were not
    /// requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested: Option<Vec<String>>,
}

/// Reads the description of a build and locks its folder; `None` if the folder is incomplete or
/// being removed, or if another user can replace it.
pub(crate) fn read(id: &str, folder: &Path) -> Option<Environment> {
    // Check the owner of the folder: earlier, other users may have had the right to write to the
    // folder of environments.
    path_ownership::resolve(folder).ok()?;
    let lock = Arc::new(SharedLock::acquire(folder)?);
    let description: BuildDescription = serde_json::from_str(&lock.description().ok()?).ok()?;
    let BuildDescription { python: version, requirements, packages, requested } = description;
    let names =
        || -> Vec<String> { requirements.iter().map(|line| name_of(line).to_owned()).collect() };
    Some(Environment {
        id: id.to_owned(),
        build: name(folder),
        python: folder.join("bin").join("python"),
        version,
        packages,
        requested: requested.unwrap_or_else(names),
        created_ms: 0,
        warm: true,
        lock,
    })
}

/// Returns a folder's name.
pub(crate) fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Environments {
    /// Opens the folder, and removes unfinished builds of earlier servers.
    pub fn open(options: EnvironmentsOptions, spawner: Arc<Spawner>) -> Result<Self> {
        let folder = make_folder(&options.environments_dir)?;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(BUILDING).or(name.strip_prefix(WORK));
            if owner.is_some_and(is_stale) {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        Ok(Environments {
            folder,
            tools: make_folder(&options.tools_dir)?,
            cache: make_folder(&options.cache_dir)?,
            search: options.python_search,
            spawner,
            known: Mutex::new(HashMap::new()),
            leftovers: AtomicBool::new(true),
            uv: tokio::sync::Mutex::new(None),
            compiling: Mutex::new(Vec::new()),
        })
    }

    /// Returns the path of a new folder for a process without a sandbox. A later server removes the
    /// folder.
    pub fn work_folder(&self) -> PathBuf {
        self.folder.join(unique_name(WORK))
    }

    /// Rejects a specification that cannot be built on this host. Starts and fetches nothing.
    pub fn check(&self, spec: &EnvironmentSpec) -> Result<()> {
        requirements(spec)?;
        system_programs::check(&spec.system)?;
        interpreter::find(&self.search, spec.python.as_deref()).map(drop)
    }

    /// Returns true if the environment of a specification is built and all its programs of the host
    /// exist.
    pub fn has(&self, spec: &EnvironmentSpec) -> bool {
        self.find_built(spec).is_some()
    }

    /// Returns the environment of a specification if it is built and all its programs exist, and
    /// updates the time of its last use. Never builds an environment or downloads packages.
    pub fn installed(&self, spec: &EnvironmentSpec) -> Option<Arc<Environment>> {
        let found = self.find_built(spec)?;
        self.touch(&found.id);
        Some(found)
    }

    fn find_built(&self, spec: &EnvironmentSpec) -> Option<Arc<Environment>> {
        let requirements = requirements(spec).ok()?;
        system_programs::check(&spec.system).ok()?;
        let interpreter = interpreter::find(&self.search, spec.python.as_deref()).ok()?;
        self.find(&hash(&interpreter, &requirements), &interpreter)
    }

    /// Returns the environment of a specification, built if missing. Concurrent requests share a
    /// build.
    pub async fn get(
        &self,
        spec: &EnvironmentSpec,
        on_progress: ProgressCallback<'_>,
    ) -> Result<Arc<Environment>> {
        let requirements = requirements(spec)?;
        system_programs::check(&spec.system)?;
        let interpreter = interpreter::find(&self.search, spec.python.as_deref())?;
        let id = hash(&interpreter, &requirements);
        if let Some(found) = self.find(&id, &interpreter) {
            self.touch(&id);
            return Ok(found);
        }
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        if let Some(found) = self.find(&id, &interpreter) {
            return Ok(found);
        }
        let started = Instant::now();
        let build = self.build(&interpreter, requirements, false, on_progress).await;
        let mut build = build.map_err(|error| pinned_error(spec, error))?;
        if !spec.pins.is_empty() {
            build.set_requested(requested_names(spec)?);
        }
        let mut built = self.publish(&id, &interpreter, build)?;
        let took_ms = started.elapsed().as_millis() as u64;
        on_progress(EnvironmentEvent::Ready { took_ms });
        self.add_known(built.clone());
        built.created_ms = took_ms;
        built.warm = false;
        Ok(Arc::new(built))
    }

    fn find(&self, id: &str, interpreter: &Interpreter) -> Option<Arc<Environment>> {
        let build = fs::read_link(self.folder.join(id)).ok()?;
        // `bin/python` is a link to an interpreter of the host, which may have been removed since.
        if !self.folder.join(&build).join("bin").join("python").exists() {
            return None;
        }
        if let Some(known) = self.known.lock().get(id)
            && Path::new(&known.build) == build
        {
            return Some(known.clone());
        }
        let folder = self.current_folder(id)?;
        let found = self.add_known(read(id, &folder)?);
        if folder.join(UNCOMPILED).exists() {
            self.resume_compiling(interpreter, folder);
        }
        Some(found)
    }

    /// Returns the folder of the current build.
    pub(crate) fn current_folder(&self, id: &str) -> Option<PathBuf> {
        fs::canonicalize(self.folder.join(id)).ok()
    }

    pub(crate) fn add_known(&self, environment: Environment) -> Arc<Environment> {
        let environment = Arc::new(environment);
        self.known.lock().insert(environment.id.clone(), environment.clone());
        environment
    }

    /// Returns `uv`, which is located only once.
    pub(crate) async fn uv(&self, on_progress: ProgressCallback<'_>) -> Result<Uv> {
        let mut known = self.uv.lock().await;
        if let Some(uv) = known.as_ref() {
            return Ok(uv.clone());
        }
        let (tools, cache) = (&self.tools, self.cache.clone());
        let uv = Uv::find(&self.spawner, &self.search, tools, cache, on_progress).await?;
        *known = Some(uv.clone());
        Ok(uv)
    }

    /// Compiles bytecode in a task that is aborted when the [`Environments`] are dropped.
    pub(crate) fn compile_in_background(
        &self,
        compiling: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut all = self.compiling.lock();
        all.retain(|task| !task.is_finished());
        all.push(tokio::spawn(compiling));
    }
}

impl Drop for Environments {
    fn drop(&mut self) {
        for task in self.compiling.lock().drain(..) {
            task.abort();
        }
    }
}

/// Returns a unique name that contains the identity of this process.
pub(crate) fn unique_name(prefix: &str) -> String {
    format!("{prefix}{}-{}", current_identity(), Uuid::new_v4().simple())
}

/// Returns the error for an environment that cannot be built with the versions of an earlier build.
fn pinned_error(spec: &EnvironmentSpec, error: Error) -> Error {
    match error {
        Error::Failed { message, hint } if !spec.pins.is_empty() => {
            let message =
                format!("cannot install the package versions of the earlier run: {message}");
            let is_host = hint.starts_with("Check the network") || hint.starts_with("Free space");
            let hint = if is_host { hint } else { PINS_HINT.to_owned() };
            Error::Failed { message, hint }
        }
        error => error,
    }
}

fn hash(interpreter: &Interpreter, requirements: &[String]) -> String {
    let platform = std::env::consts::ARCH;
    let content = serde_json::json!([FORMAT, platform, interpreter.wanted(), requirements]);
    hex::encode(Sha256::digest(content.to_string()))[..20].to_owned()
}

/// Acquires a lock file, which excludes other tasks and other processes.
pub(crate) async fn lock(path: &Path) -> Result<fs::File> {
    loop {
        match try_lock(path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            locked => return locked.map_err(Error::io("lock an environment")),
        }
    }
}

/// Acquires a lock file without waiting.
pub(crate) fn try_lock(path: &Path) -> std::io::Result<fs::File> {
    let file = fs::File::create(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pinned_versions_are_an_error_of_the_earlier_run() {
        let pins = BTreeMap::from([("polars".to_owned(), "1.0.0".to_owned())]);
        let spec = EnvironmentSpec { pins, ..EnvironmentSpec::default() };
        let failed = |hint: &str| Error::failed("there is no version of polars==1.0.0", hint);
        let shown = |error: Error| match error {
            Error::Failed { message, hint } => (message, hint),
            other => (other.to_string(), String::new()),
        };
        let (message, hint) = shown(pinned_error(&spec, failed("Request another version.")));
        let expected = "cannot install the package versions of the earlier run: there is no \
                        version of polars==1.0.0";
        assert_eq!((message.as_str(), hint.as_str()), (expected, PINS_HINT));
        let network = "Check the network, and the index.";
        assert_eq!(shown(pinned_error(&spec, failed(network))).1, network);
        let resolved = EnvironmentSpec::default();
        let (message, hint) = shown(pinned_error(&resolved, failed("Request another version.")));
        assert_eq!(message, "there is no version of polars==1.0.0");
        assert_eq!(hint, "Request another version.");
    }
}
