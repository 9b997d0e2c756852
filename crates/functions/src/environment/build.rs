//! Making an environment: resolve, install into a folder aside, move it into place whole.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::bytecode::{self, Missing};
use super::hold::Hold;
use super::python::{self, Interpreter};
use super::requirement::{name_of, requirements};
use super::scripts;
use super::system;
use super::uv::{self, Uv};
use super::{Environment, EnvironmentEvent, EnvironmentSpec};
use crate::ownership::{self, make_folder};
use crate::spawner::{Spawner, identity};
use crate::{Error, FunctionsOptions, Result};

/// Changes when environments are put together in another way.
const FORMAT: u32 = 1;

/// Written last; a folder without it is not an environment.
pub(super) const DESCRIPTION: &str = "headwater-environment.json";

/// Beside it for as long as packages wait for being compiled, however often servers end meanwhile.
const UNCOMPILED: &str = "headwater-uncompiled";

/// The folder of what was compiled, for environments to come.
const BYTECODE: &str = ".bytecode";

/// Folders in the making, and folders of processes without a sandbox. The names go on with the
/// identity of the server they belong to.
pub(super) const BUILDING: &str = ".building-";
const WORK: &str = ".work-";

/// pyarrow from this version on does not work with numpy before 2.
const PYARROW_NEEDS_NUMPY_2: u32 = 26;

type Progress<'a> = &'a (dyn Fn(EnvironmentEvent) + Send + Sync);

/// All environments of a folder.
#[derive(Debug)]
pub(crate) struct Environments {
    pub(super) folder: PathBuf,
    tools: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) search: Vec<PathBuf>,
    spawner: Arc<Spawner>,
    /// The environments known to be there, so that a warm request opens one folder and no file.
    pub(super) known: Mutex<HashMap<String, Arc<Environment>>>,
    /// Whether there may be folders that nobody finds any more.
    pub(super) leftovers: AtomicBool,
    uv: tokio::sync::Mutex<Option<Uv>>,
    compiling: Mutex<Vec<JoinHandle<()>>>,
}

/// What a folder says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) python: String,
    pub(super) requirements: Vec<String>,
    pub(super) packages: BTreeMap<String, String>,
}

/// What lies in a folder, for as long as somebody has it.
fn read(id: &str, folder: &Path) -> Option<Environment> {
    // The folder of environments may have been open to others once.
    ownership::resolve(folder).ok()?;
    let hold = Arc::new(Hold::take(folder)?);
    let description: Description = serde_json::from_str(&hold.description().ok()?).ok()?;
    let requested = description.requirements.iter().map(|line| name_of(line).to_owned());
    Some(Environment {
        id: id.to_owned(),
        build: name(folder),
        python: folder.join("bin").join("python"),
        packages: description.packages,
        requested: requested.collect(),
        created_ms: 0,
        warm: true,
        hold,
    })
}

/// A folder's own name.
pub(super) fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Environments {
    /// Opens the folder and throws away what an earlier server left half-built.
    pub(crate) fn open(options: &FunctionsOptions, spawner: Arc<Spawner>) -> Result<Self> {
        let folder = make_folder(&options.environments_dir)?;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(BUILDING).or(name.strip_prefix(WORK));
            if owner.is_some_and(identity::is_stale) {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        Ok(Environments {
            folder,
            tools: make_folder(&options.tools_dir)?,
            cache: make_folder(&options.cache_dir)?,
            search: options.python_search.clone(),
            spawner,
            known: Mutex::new(HashMap::new()),
            leftovers: AtomicBool::new(true),
            uv: tokio::sync::Mutex::new(None),
            compiling: Mutex::new(Vec::new()),
        })
    }

    /// A new folder for a process that has no sandbox; gone when an earlier server's are.
    pub(crate) fn work_folder(&self) -> PathBuf {
        self.folder.join(owned(WORK))
    }

    /// Refuses what no environment can be made for on this machine.
    pub(crate) fn check(&self, spec: &EnvironmentSpec) -> Result<()> {
        requirements(spec)?;
        system::check(&spec.system)?;
        python::find(&self.search, spec.python.as_deref()).map(drop)
    }

    /// The environment for a spec, made where it is not there. Two that ask for the same at once
    /// get the same, built once.
    pub(crate) async fn get(
        &self,
        spec: &EnvironmentSpec,
        on_progress: Progress<'_>,
    ) -> Result<Arc<Environment>> {
        let requirements = requirements(spec)?;
        system::check(&spec.system)?;
        let interpreter = python::find(&self.search, spec.python.as_deref())?;
        let id = identity(&interpreter, &requirements);
        if let Some(found) = self.found(&id, &interpreter) {
            self.touch(&id);
            return Ok(found);
        }
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        if let Some(found) = self.found(&id, &interpreter) {
            return Ok(found);
        }
        let started = Instant::now();
        let mut built = self.build(&id, &interpreter, requirements, on_progress).await?;
        let took_ms = started.elapsed().as_millis() as u64;
        on_progress(EnvironmentEvent::Ready { took_ms });
        self.remember(built.clone());
        built.created_ms = took_ms;
        built.warm = false;
        Ok(Arc::new(built))
    }

    fn found(&self, id: &str, interpreter: &Interpreter) -> Option<Arc<Environment>> {
        let folder = self.place(id)?;
        // The link leads to the interpreter, which may have been removed since.
        if !folder.join("bin").join("python").exists() {
            return None;
        }
        if let Some(known) = self.known.lock().get(id)
            && known.build == name(&folder)
        {
            return Some(known.clone());
        }
        let found = self.remember(read(id, &folder)?);
        if folder.join(UNCOMPILED).exists() {
            self.go_on_compiling(interpreter, folder);
        }
        Some(found)
    }

    /// The folder of the making that counts.
    pub(super) fn place(&self, id: &str) -> Option<PathBuf> {
        fs::canonicalize(self.folder.join(id)).ok()
    }

    pub(super) fn remember(&self, environment: Environment) -> Arc<Environment> {
        let environment = Arc::new(environment);
        self.known.lock().insert(environment.id.clone(), environment.clone());
        environment
    }

    async fn build(
        &self,
        id: &str,
        interpreter: &Interpreter,
        requirements: Vec<String>,
        on_progress: Progress<'_>,
    ) -> Result<Environment> {
        let made = self.make(interpreter, requirements, false, on_progress).await?;
        self.put_in_place(id, interpreter, made)
    }

    /// Puts an environment together in a folder of its own: of what is known without the network
    /// first, unless what is newest is wanted.
    pub(super) async fn make(
        &self,
        interpreter: &Interpreter,
        requirements: Vec<String>,
        newest: bool,
        on_progress: Progress<'_>,
    ) -> Result<Made> {
        let uv = self.uv(on_progress).await?;
        let uv = if newest { uv.newest() } else { uv };
        let building = Building(self.folder.join(owned(BUILDING)));
        let folder = building.0.as_path();
        on_progress(EnvironmentEvent::Resolving { requirements: requirements.clone() });
        let spawner = &*self.spawner;
        let created = uv.create(spawner, interpreter, folder);
        let filled = self.fill(&uv, interpreter, &building, &requirements, on_progress);
        let (created, packages) = tokio::join!(created, filled);
        let packages = packages?;
        created?;
        let lines: Vec<_> =
            packages.iter().map(|(name, version)| format!("{name}=={version}")).collect();
        let lock = folder.join("requirements.txt");
        fs::write(lock, lines.join("\n") + "\n").map_err(Error::io("keep the lock"))?;
        let (into, store) = (folder.to_owned(), self.folder.join(BYTECODE));
        let for_this = interpreter.clone();
        let finish = move || {
            scripts::point_beside(&into, &for_this)
                .map_err(Error::io("turn the scripts of packages"))?;
            Ok(bytecode::link(&into, &store, &for_this))
        };
        let finished = tokio::task::spawn_blocking(finish).await;
        let missing =
            finished.unwrap_or_else(|died| Err(Error::io("link bytecode")(died.into())))?;
        let description = Description { python: interpreter.wanted(), requirements, packages };
        Ok(Made { building, description, missing })
    }

    /// Gives what was put together a folder of its own, and has it be the one that counts.
    pub(super) fn put_in_place(
        &self,
        id: &str,
        interpreter: &Interpreter,
        made: Made,
    ) -> Result<Environment> {
        let Made { building, description, missing } = made;
        if !missing.is_empty() {
            let marked = fs::write(building.0.join(UNCOMPILED), "");
            marked.map_err(Error::io("describe an environment"))?;
        }
        let place = self.folder.join(format!("{id}.{}", Uuid::new_v4().simple()));
        building.finish(&description, &place)?;
        let gone = || Error::io("find the environment")(std::io::ErrorKind::NotFound.into());
        let environment = read(id, &place).ok_or_else(gone)?;
        self.point(id, &place)?;
        let missing = bytecode::moved(missing, &building.0, &place);
        let (spawner, interpreter) = (self.spawner.clone(), interpreter.clone());
        self.in_background(async move { compile(&spawner, &interpreter, &missing, &place).await });
        Ok(environment)
    }

    /// Has the link of an environment lead to this folder from now on.
    fn point(&self, id: &str, place: &Path) -> Result<()> {
        let (link, new) = (self.folder.join(id), self.folder.join(owned(BUILDING)));
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
            // From before there were links.
            let _ = fs::rename(&link, self.folder.join(format!("{id}.old")));
        }
        std::os::unix::fs::symlink(name(place), &new)
            .and_then(|()| fs::rename(&new, &link))
            .map_err(Error::io("put an environment in place"))?;
        self.note_leftovers();
        Ok(())
    }

    async fn uv(&self, on_progress: Progress<'_>) -> Result<Uv> {
        let mut known = self.uv.lock().await;
        if let Some(uv) = known.as_ref() {
            return Ok(uv.clone());
        }
        let (tools, cache) = (&self.tools, self.cache.clone());
        let uv = Uv::find(&self.spawner, &self.search, tools, cache, on_progress).await?;
        *known = Some(uv.clone());
        Ok(uv)
    }

    /// Chooses versions and installs them: at once where uv's cache has all.
    async fn fill(
        &self,
        uv: &Uv,
        interpreter: &Interpreter,
        building: &Building,
        requirements: &[String],
        on_progress: Progress<'_>,
    ) -> Result<BTreeMap<String, String>> {
        let (folder, input) = (building.0.as_path(), building.aside("in"));
        let own = has_own_pyarrow(requirements);
        let pyarrow = (!own).then_some("pyarrow");
        write_lines(&input, requirements, pyarrow)?;
        if uv.gather(&self.spawner, interpreter, folder, &input).await? {
            let packages = uv::installed(&bytecode::packages_of(folder, interpreter));
            if own || !too_new(&packages) {
                return Ok(packages);
            }
        }
        let packages = self.resolve(uv, interpreter, building, requirements).await?;
        on_progress(EnvironmentEvent::Installing { packages: packages.len() });
        uv.install(&self.spawner, interpreter, folder, &building.aside("txt")).await?;
        Ok(packages)
    }

    /// Chooses versions of what was asked for and of pyarrow, which carries the data in and out.
    async fn resolve(
        &self,
        uv: &Uv,
        interpreter: &Interpreter,
        building: &Building,
        requirements: &[String],
    ) -> Result<BTreeMap<String, String>> {
        let (input, output) = (building.aside("in"), building.aside("txt"));
        let mut pyarrow = (!has_own_pyarrow(requirements)).then(|| "pyarrow".to_owned());
        loop {
            write_lines(&input, requirements, pyarrow.as_deref())?;
            uv.resolve(&self.spawner, interpreter, &input, &output).await?;
            let lock = fs::read_to_string(&output).map_err(Error::io("read the lock"))?;
            let packages = uv::resolved(&lock);
            let limited = format!("pyarrow<{PYARROW_NEEDS_NUMPY_2}");
            if pyarrow.is_none() || pyarrow.as_ref() == Some(&limited) || !too_new(&packages) {
                return Ok(packages);
            }
            // uv keeps the versions of an output file that is there.
            let _ = fs::remove_file(&output);
            pyarrow = Some(limited);
        }
    }

    /// Compiles what an earlier server had no time for.
    fn go_on_compiling(&self, interpreter: &Interpreter, place: PathBuf) {
        let (spawner, interpreter) = (self.spawner.clone(), interpreter.clone());
        let store = self.folder.join(BYTECODE);
        self.in_background(async move {
            let (into, of) = (place.clone(), interpreter.clone());
            let linked = tokio::task::spawn_blocking(move || bytecode::link(&into, &store, &of));
            if let Ok(missing) = linked.await {
                compile(&spawner, &interpreter, &missing, &place).await;
            }
        });
    }

    fn in_background(&self, compiling: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.compiling.lock();
        all.retain(|task| !task.is_finished());
        all.push(tokio::spawn(compiling));
    }
}

/// Compiles what no environment had before.
async fn compile(spawner: &Spawner, interpreter: &Interpreter, missing: &[Missing], place: &Path) {
    if !missing.is_empty() {
        bytecode::compile(spawner, interpreter, missing).await;
    }
    let _ = fs::remove_file(place.join(UNCOMPILED));
}

impl Drop for Environments {
    fn drop(&mut self) {
        for task in self.compiling.lock().drain(..) {
            task.abort();
        }
    }
}

/// A new name that says whose it is.
pub(super) fn owned(prefix: &str) -> String {
    format!("{prefix}{}-{}", identity::own(), Uuid::new_v4().simple())
}

fn has_own_pyarrow(requirements: &[String]) -> bool {
    requirements.iter().any(|line| name_of(line) == "pyarrow")
}

fn write_lines(file: &Path, requirements: &[String], more: Option<&str>) -> Result<()> {
    let lines: Vec<&str> = requirements.iter().map(String::as_str).chain(more).collect();
    fs::write(file, lines.join("\n")).map_err(Error::io("write requirements"))
}

fn too_new(packages: &BTreeMap<String, String>) -> bool {
    let major = |name: &str| packages.get(name)?.split('.').next()?.parse::<u32>().ok();
    major("numpy").is_some_and(|numpy| numpy < 2)
        && major("pyarrow").is_some_and(|pyarrow| pyarrow >= PYARROW_NEEDS_NUMPY_2)
}

fn identity(interpreter: &Interpreter, requirements: &[String]) -> String {
    let platform = std::env::consts::ARCH;
    let content = serde_json::json!([FORMAT, platform, interpreter.wanted(), requirements]);
    hex::encode(Sha256::digest(content.to_string()))[..20].to_owned()
}

/// An environment that was put together and is not in its place yet.
pub(super) struct Made {
    building: Building,
    description: Description,
    missing: Vec<Missing>,
}

/// A folder in the making; thrown away where it is dropped unfinished.
struct Building(PathBuf);

impl Building {
    /// A file beside the folder.
    fn aside(&self, extension: &str) -> PathBuf {
        self.0.with_extension(extension)
    }

    fn finish(&self, description: &Description, place: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(description)
            .map_err(|error| Error::io("describe an environment")(error.into()))?;
        fs::write(self.0.join(DESCRIPTION), text).map_err(Error::io("describe an environment"))?;
        fs::rename(&self.0, place).map_err(Error::io("put an environment in place"))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let (folder, files) = (self.0.clone(), ["in", "txt"].map(|one| self.aside(one)));
        let remove = move || {
            let _ = fs::remove_dir_all(folder);
            let _ = files.map(fs::remove_file);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Holds a lock file, against other tasks and other processes alike.
pub(super) async fn lock(path: &Path) -> Result<fs::File> {
    loop {
        match try_lock(path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            locked => return locked.map_err(Error::io("lock an environment")),
        }
    }
}

/// The same where nobody else does now.
pub(super) fn try_lock(path: &Path) -> std::io::Result<fs::File> {
    let file = fs::File::create(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_numpy_wants_old_pyarrow() {
        let check = |numpy: &str, pyarrow: &str, wanted: bool| {
            let packages = [("numpy", numpy), ("pyarrow", pyarrow)];
            let packages = packages.map(|(name, version)| (name.to_owned(), version.to_owned()));
            assert_eq!(too_new(&packages.into()), wanted, "{numpy} {pyarrow}");
        };
        check("1.26.4", "26.0.1", true);
        check("1.26.4", "25.0.0", false);
        check("2.4.6", "26.0.1", false);
    }
}
