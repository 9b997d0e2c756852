//! Build of an environment: resolves the packages, installs them into a temporary folder, and
//! publishes the folder as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use headwater_sandbox::Spawner;
use uuid::Uuid;

use crate::bytecode::{self, UncompiledPackage};
use crate::environments::{
    BUILDING, BuildDescription, DESCRIPTION, Environments, ProgressCallback, UNCOMPILED, name,
    read, unique_name,
};
use crate::interpreter::Interpreter;
use crate::requirement::name_of;
use crate::uv::{self, Uv};
use crate::{Environment, EnvironmentEvent, Error, Result, shebang_rewrite};

/// The folder of compiled bytecode, which environments share.
const BYTECODE: &str = ".bytecode";

/// First major version of pyarrow that does not work with numpy 1.
const PYARROW_NEEDS_NUMPY_2: u32 = 26;

impl Environments {
    /// Builds an environment in a temporary folder, from uv's cache if possible, unless the newest
    /// versions are requested.
    pub(crate) async fn build(
        &self,
        interpreter: &Interpreter,
        requirements: Vec<String>,
        newest: bool,
        on_progress: ProgressCallback<'_>,
    ) -> Result<StagedEnvironment> {
        let uv = self.uv(on_progress).await?;
        let uv = if newest { uv.newest() } else { uv };
        let building = BuildFolder(self.folder.join(unique_name(BUILDING)));
        let folder = building.0.as_path();
        on_progress(EnvironmentEvent::Resolving { requirements: requirements.clone() });
        let created = uv.create(&self.spawner, interpreter, folder);
        let filled = self.fill(&uv, interpreter, &building, &requirements, on_progress);
        let (created, packages) = tokio::join!(created, filled);
        let packages = packages?;
        created?;
        let lines: Vec<_> =
            packages.iter().map(|(name, version)| format!("{name}=={version}")).collect();
        let lock = folder.join("requirements.txt");
        fs::write(lock, lines.join("\n") + "\n")
            .map_err(Error::io("write the lock file of an environment"))?;
        let missing = self.link_bytecode(folder, interpreter).await?;
        let (python, requested) = (interpreter.wanted(), None);
        let description = BuildDescription { python, requirements, packages, requested };
        Ok(StagedEnvironment { building, description, missing })
    }

    /// Rewrites the scripts of a build so that they work in any folder, and links existing bytecode
    /// into the build. Returns the packages without bytecode.
    async fn link_bytecode(
        &self,
        folder: &Path,
        interpreter: &Interpreter,
    ) -> Result<Vec<UncompiledPackage>> {
        let (folder, store) = (folder.to_owned(), self.folder.join(BYTECODE));
        let interpreter = interpreter.clone();
        let link = move || {
            shebang_rewrite::make_relocatable(&folder, &interpreter)
                .map_err(Error::io("rewrite the scripts of packages"))?;
            Ok(bytecode::link(&folder, &store, &interpreter))
        };
        let linked = tokio::task::spawn_blocking(link).await;
        linked.unwrap_or_else(|error| Err(Error::io("link bytecode")(error.into())))
    }

    /// Moves a build to its own folder, and makes it the current build.
    pub(crate) fn publish(
        &self,
        id: &str,
        interpreter: &Interpreter,
        build: StagedEnvironment,
    ) -> Result<Environment> {
        let StagedEnvironment { building, description, missing } = build;
        if !missing.is_empty() {
            let marked = fs::write(building.0.join(UNCOMPILED), "");
            marked.map_err(Error::io("write the description of an environment"))?;
        }
        let folder = self.folder.join(format!("{id}.{}", Uuid::new_v4().simple()));
        building.finish(&description, &folder)?;
        let gone = || Error::io("find the environment")(std::io::ErrorKind::NotFound.into());
        let environment = read(id, &folder).ok_or_else(gone)?;
        self.make_current(id, &folder)?;
        let missing = bytecode::relocate_packages(missing, &building.0, &folder);
        let (spawner, interpreter) = (self.spawner.clone(), interpreter.clone());
        self.compile_in_background(async move {
            compile(&spawner, &interpreter, &missing, &folder).await;
        });
        Ok(environment)
    }

    /// Replaces the link with an environment's id by a link to another build.
    fn make_current(&self, id: &str, folder: &Path) -> Result<()> {
        let (link, new) = (self.folder.join(id), self.folder.join(unique_name(BUILDING)));
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
            // Earlier versions of Headwater had a folder instead of the link.
            let _ = fs::rename(&link, self.folder.join(format!("{id}.old")));
        }
        std::os::unix::fs::symlink(name(folder), &new)
            .and_then(|()| fs::rename(&new, &link))
            .map_err(Error::io("move a new environment to its folder"))?;
        self.note_leftovers();
        Ok(())
    }

    /// Resolves and installs the packages, in one step if uv's cache contains all packages.
    async fn fill(
        &self,
        uv: &Uv,
        interpreter: &Interpreter,
        building: &BuildFolder,
        requirements: &[String],
        on_progress: ProgressCallback<'_>,
    ) -> Result<BTreeMap<String, String>> {
        let (folder, input) = (building.0.as_path(), building.sibling("in"));
        let own = requires_pyarrow(requirements);
        let pyarrow = (!own).then_some("pyarrow");
        write_lines(&input, requirements, pyarrow)?;
        if uv.install_cached(&self.spawner, interpreter, folder, &input).await? {
            let packages = uv::installed(&bytecode::packages_of(folder, interpreter));
            if own || !too_new(&packages) {
                return Ok(packages);
            }
        }
        let packages = self.resolve(uv, interpreter, building, requirements).await?;
        on_progress(EnvironmentEvent::Installing { packages: packages.len() });
        uv.install(&self.spawner, interpreter, folder, &building.sibling("txt")).await?;
        Ok(packages)
    }

    /// Resolves the requirements, and adds pyarrow, which transfers tables.
    async fn resolve(
        &self,
        uv: &Uv,
        interpreter: &Interpreter,
        building: &BuildFolder,
        requirements: &[String],
    ) -> Result<BTreeMap<String, String>> {
        let (input, output) = (building.sibling("in"), building.sibling("txt"));
        let mut pyarrow = (!requires_pyarrow(requirements)).then(|| "pyarrow".to_owned());
        loop {
            write_lines(&input, requirements, pyarrow.as_deref())?;
            uv.resolve(&self.spawner, interpreter, &input, &output).await?;
            let lock = fs::read_to_string(&output)
                .map_err(Error::io("read the list of resolved packages"))?;
            let packages = uv::resolved(&lock);
            let limited = format!("pyarrow<{PYARROW_NEEDS_NUMPY_2}");
            if pyarrow.is_none() || pyarrow.as_ref() == Some(&limited) || !too_new(&packages) {
                return Ok(packages);
            }
            // Remove an existing output file, because uv would keep the versions in this file.
            let _ = fs::remove_file(&output);
            pyarrow = Some(limited);
        }
    }

    /// Resumes the compilation of an environment's bytecode that an earlier server did not
    /// complete.
    pub(crate) fn resume_compiling(&self, interpreter: &Interpreter, folder: PathBuf) {
        let (spawner, interpreter) = (self.spawner.clone(), interpreter.clone());
        let store = self.folder.join(BYTECODE);
        self.compile_in_background(async move {
            let (into, of) = (folder.clone(), interpreter.clone());
            let linked = tokio::task::spawn_blocking(move || bytecode::link(&into, &store, &of));
            if let Ok(missing) = linked.await {
                compile(&spawner, &interpreter, &missing, &folder).await;
            }
        });
    }
}

/// Compiles packages whose bytecode is not in the store.
async fn compile(
    spawner: &Spawner,
    interpreter: &Interpreter,
    missing: &[UncompiledPackage],
    folder: &Path,
) {
    if !missing.is_empty() {
        bytecode::compile(spawner, interpreter, missing).await;
    }
    let _ = fs::remove_file(folder.join(UNCOMPILED));
}

fn requires_pyarrow(requirements: &[String]) -> bool {
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

/// A build that is not published yet.
pub(crate) struct StagedEnvironment {
    building: BuildFolder,
    description: BuildDescription,
    missing: Vec<UncompiledPackage>,
}

impl StagedEnvironment {
    /// Records which packages were requested, for a build whose requirements pin all packages.
    pub(crate) fn set_requested(&mut self, requested: Vec<String>) {
        self.description.requested = Some(requested);
    }
}

/// Temporary folder of a build, removed when dropped.
struct BuildFolder(PathBuf);

impl BuildFolder {
    /// Returns the path of a file next to the build's folder: the folder's path with this
    /// extension.
    fn sibling(&self, extension: &str) -> PathBuf {
        self.0.with_extension(extension)
    }

    fn finish(&self, description: &BuildDescription, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(description)
            .map_err(|error| Error::io("write the description of an environment")(error.into()))?;
        fs::write(self.0.join(DESCRIPTION), text)
            .map_err(Error::io("write the description of an environment"))?;
        fs::rename(&self.0, folder).map_err(Error::io("move a new environment to its folder"))
    }
}

impl Drop for BuildFolder {
    fn drop(&mut self) {
        let (folder, files) = (self.0.clone(), ["in", "txt"].map(|one| self.sibling(one)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_numpy_requires_an_old_pyarrow() {
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
