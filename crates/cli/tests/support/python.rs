//! Python environments with packages of PyPI, shared by all test programs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the interpreter of an environment with packages. Creates the environment on first use.
pub fn with_packages(name: &str, packages: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Each test is a separate process; the first one creates the environment.
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    let python = folder.join("bin/python");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"];
        run(Command::new(&python).args(pip).args(packages));
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    python
}

fn run(command: &mut Command) {
    let status = command.status().expect("a command");
    assert!(status.success(), "{command:?}");
}
