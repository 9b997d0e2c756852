//! Compiled bytecode, shared by environments.
//!
//! A sandbox cannot write bytecode, so modules without bytecode are compiled at every start. To
//! avoid this, each wheel is compiled once, in the background, after the first environment with
//! this wheel is ready. Later environments get hard links to the bytecode. An environment never
//! changes, so bytecode is not checked against its source.

use std::fs;
use std::path::{Path, PathBuf};

use headwater_sandbox::Spawner;
use sha2::{Digest, Sha256};

use crate::interpreter::Interpreter;
use crate::subprocess;

/// Script that compiles packages, and writes the bytecode to their environment and to the folder of
/// shared bytecode.
const SCRIPT: &str = include_str!("../../../python/worker/headwater_compile.py");

/// A package whose bytecode is not in the folder of shared bytecode (the store).
#[derive(Debug, Clone)]
pub(crate) struct UncompiledPackage {
    record: PathBuf,
    stored: PathBuf,
}

/// Links bytecode of the shared folder `store` into an environment. Returns the packages without
/// bytecode.
pub(crate) fn link(
    environment: &Path,
    store: &Path,
    interpreter: &Interpreter,
) -> Vec<UncompiledPackage> {
    let packages = packages_of(environment, interpreter);
    let store = store.join(format!("cpython-3{}", interpreter.minor));
    let mut missing = Vec::new();
    for entry in fs::read_dir(&packages).into_iter().flatten().flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "dist-info") {
            continue;
        }
        let record = entry.path().join("RECORD");
        let Ok(content) = fs::read(&record) else { continue };
        let stored = store.join(&hex::encode(Sha256::digest(&content))[..32]);
        if stored.is_dir() {
            link_tree(&stored, &packages);
        } else {
            missing.push(UncompiledPackage { record, stored });
        }
    }
    missing
}

/// Compiles packages. A failure only makes later starts slower.
pub(crate) async fn compile(
    spawner: &Spawner,
    interpreter: &Interpreter,
    missing: &[UncompiledPackage],
) {
    let mut command: Vec<String> = ["-I", "-B", "-c", SCRIPT].map(str::to_owned).to_vec();
    command.insert(0, interpreter.path.to_string_lossy().into_owned());
    for one in missing {
        command.push(one.record.to_string_lossy().into_owned());
        command.push(one.stored.to_string_lossy().into_owned());
    }
    let output = subprocess::run(spawner, command, Vec::new(), true).await;
    if let Ok(output) = output
        .as_ref()
        .inspect_err(|error| tracing::warn!(%error, "packages could not be compiled to bytecode"))
        && !output.success
    {
        tracing::warn!(text = output.text, "some packages could not be compiled to bytecode");
    }
}

/// Updates the packages' paths after their environment was moved.
pub(crate) fn relocate_packages(
    missing: Vec<UncompiledPackage>,
    from: &Path,
    to: &Path,
) -> Vec<UncompiledPackage> {
    let moved = |one: UncompiledPackage| {
        let record = one.record.strip_prefix(from).map(|rest| to.join(rest));
        UncompiledPackage { record: record.unwrap_or(one.record), stored: one.stored }
    };
    missing.into_iter().map(moved).collect()
}

/// Returns the folder in an environment into which packages are installed.
pub(crate) fn packages_of(environment: &Path, interpreter: &Interpreter) -> PathBuf {
    environment.join("lib").join(format!("python{}", interpreter.short())).join("site-packages")
}

fn link_tree(from: &Path, to: &Path) {
    let _ = fs::create_dir_all(to);
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            link_tree(&entry.path(), &target);
        } else {
            // Ignore an error: a module without linked bytecode still works, but is compiled at
            // each start.
            let _ = fs::hard_link(entry.path(), target);
        }
    }
}
