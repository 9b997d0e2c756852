//! Compiled Python, shared by environments.
//!
//! A sandbox cannot write, so what is not compiled beforehand is compiled at every start. Each
//! wheel is compiled once, in the background after the first environment that has it is ready; its
//! bytecode is kept beside the environments, and every later environment gets it by hard links. An
//! environment never changes, so bytecode is not checked against its source when it is loaded.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::python::Interpreter;
use super::tool;
use crate::spawner::Spawner;

/// Compiles the modules of packages and puts the result where it belongs, and into the store.
const SCRIPT: &str = include_str!("../../../../python/worker/headwater_compile.py");

/// A package whose bytecode the store does not have yet.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    record: PathBuf,
    stored: PathBuf,
}

/// Links the bytecode that the store has into an environment, and tells what it has not.
pub(super) fn link(environment: &Path, store: &Path, interpreter: &Interpreter) -> Vec<Missing> {
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
            missing.push(Missing { record, stored });
        }
    }
    missing
}

/// Compiles what is missing; a failure costs nothing but time later.
pub(super) async fn compile(spawner: &Spawner, interpreter: &Interpreter, missing: &[Missing]) {
    let mut command: Vec<String> = ["-I", "-B", "-c", SCRIPT].map(str::to_owned).to_vec();
    command.insert(0, interpreter.path.to_string_lossy().into_owned());
    for one in missing {
        command.push(one.record.to_string_lossy().into_owned());
        command.push(one.stored.to_string_lossy().into_owned());
    }
    let said = tool::run(spawner, command, Vec::new(), true).await;
    if let Ok(said) = said.as_ref().inspect_err(|error| tracing::warn!(%error, "no bytecode"))
        && !said.success
    {
        tracing::warn!(text = said.text, "packages could not be compiled");
    }
}

/// The same, for where packages lie in an environment that has moved.
pub(super) fn moved(missing: Vec<Missing>, from: &Path, to: &Path) -> Vec<Missing> {
    let moved = |one: Missing| {
        let record = one.record.strip_prefix(from).map(|rest| to.join(rest));
        Missing { record: record.unwrap_or(one.record), stored: one.stored }
    };
    missing.into_iter().map(moved).collect()
}

/// Where an environment has its packages.
pub(super) fn packages_of(environment: &Path, interpreter: &Interpreter) -> PathBuf {
    environment.join("lib").join(format!("python{}", interpreter.short())).join("site-packages")
}

fn link_tree(from: &Path, to: &Path) {
    let _ = fs::create_dir_all(to);
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            link_tree(&entry.path(), &target);
        } else {
            // What is not linked is only slower.
            let _ = fs::hard_link(entry.path(), target);
        }
    }
}
