//! `cargo xtask dist`: builds the published wheel, checks its platform tag, and tests it.
//!
//! The wheel holds the SDK and the `headwater` binary. The tests install the wheel into new virtual
//! environments, one of which has the oldest supported Python. In these environments, the tests run
//! `headwater demo` and a script. The `PATH` of the tests contains only the environment, so they
//! use no file of the source tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Outcome, command};

/// The tools from PyPI that build and check a wheel.
const TOOLS: [&str; 2] = ["maturin==1.16.0", "auditwheel==6.8.2"];

/// The oldest Python that the SDK and the worker support, as in `pyproject.toml`, and the newest
/// that the example's packages support.
const PYTHONS: [&str; 2] = ["3.10", "3.13"];

/// The limit for the published binary, in bytes.
const BINARY_BYTES_MAX: u64 = 100_000_000;

/// A program that uses the SDK in the demo's lake.
const SCRIPT: &str = r#"
import headwater

client = headwater.Client(lake="headwater-demo")
rows = client.query_rows("SELECT count(*) AS airlines FROM airline_scorecard")
assert rows == [{"airlines": 15}], rows
"#;

/// Builds, checks and tests the wheel. `--profile NAME` builds with another profile than `dist`.
pub fn dist(rest: &[&str]) -> Outcome {
    let profile = match rest {
        [] => "dist",
        ["--profile", profile] => profile,
        _ => return Err("Usage: cargo xtask dist [--profile NAME]".to_owned()),
    };
    let tools = install_tools()?;
    let wheel = build(&tools, profile)?;
    check_tag(&tools, &wheel)?;
    try_wheel(&wheel, "python3", profile)?;
    for version in PYTHONS {
        match find_python(version) {
            Some(python) => try_wheel(&wheel, &python, profile)?,
            None => eprintln!("not checked: this machine has no Python {version}"),
        }
    }
    eprintln!("{}", wheel.display());
    Ok(())
}

/// Installs the tools into a virtual environment in the target folder; returns its `bin` folder.
fn install_tools() -> Result<PathBuf, String> {
    let folder = process::target().join("dist-tools");
    let bin = folder.join("bin");
    if !bin.join("python").exists() {
        process::run(command("python3", &["-m", "venv", &folder.to_string_lossy()]))?;
    }
    process::run(program(
        &bin,
        "python",
        &[&["-m", "pip", "install", "--quiet"], &TOOLS[..]].concat(),
    ))?;
    Ok(bin)
}

/// Builds the wheel into an empty folder; returns its path.
fn build(tools: &Path, profile: &str) -> Result<PathBuf, String> {
    let folder = process::target().join("wheels");
    let _ = std::fs::remove_dir_all(&folder);
    let out = folder.to_string_lossy();
    let mut maturin = program(tools, "maturin", &["build", "--profile", profile, "--out", &out]);
    process::clear_cargo(&mut maturin);
    process::run(maturin)?;
    let files = std::fs::read_dir(&folder).map_err(|error| format!("{out}: {error}"))?;
    let mut wheels = files.flatten().map(|file| file.path());
    wheels.next().ok_or_else(|| format!("{out} has no wheel"))
}

/// Checks that the platform tag in the file name equals the tag that auditwheel determines for the
/// binary.
fn check_tag(tools: &Path, wheel: &Path) -> Outcome {
    let report =
        process::output(program(tools, "auditwheel", &["show", &wheel.to_string_lossy()]))?;
    let name = wheel.file_stem().unwrap_or_default().to_string_lossy();
    let tag = name.rsplit(['-', '.']).next().unwrap_or_default();
    if !tag.starts_with("manylinux_") || !report.contains(tag) {
        return Err(format!("auditwheel does not confirm the tag `{tag}`:\n{report}"));
    }
    eprintln!("  platform tag {tag}");
    Ok(())
}

/// Returns an interpreter of this version, from `PATH` or pyenv, that can be started.
fn find_python(version: &str) -> Option<String> {
    let name = format!("python{version}");
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let installed = std::fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten();
    let installed = installed.map(|version| version.path().join("bin").join(&name));
    let mut candidates = std::iter::once(PathBuf::from(&name)).chain(installed);
    let starts = |python: &PathBuf| {
        process::output(command(&python.to_string_lossy(), &["--version"])).is_ok()
    };
    candidates.find(starts).map(|python| python.to_string_lossy().into_owned())
}

/// Installs the wheel into a new environment; runs the demo and the script in an empty folder.
fn try_wheel(wheel: &Path, python: &str, profile: &str) -> Outcome {
    let work = process::target().join("dist-trial");
    let _ = std::fs::remove_dir_all(&work);
    let (environment, home, folder) = (work.join("env"), work.join("home"), work.join("empty"));
    for folder in [&home, &folder] {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    process::run(command(python, &["-m", "venv", &environment.to_string_lossy()]))?;
    let bin = environment.join("bin");
    let install = ["-m", "pip", "install", "--quiet", &wheel.to_string_lossy()];
    process::run(program(&bin, "python", &install))?;
    if profile == "dist" {
        check_size(&bin.join("headwater"))?;
    }
    std::fs::write(work.join("script.py"), SCRIPT)
        .map_err(|error| format!("script.py: {error}"))?;
    let isolated = |name, arguments: &[&str]| {
        let mut command = program(&bin, name, arguments);
        for (variable, _) in std::env::vars_os() {
            // Keep the variables that pip and uv need to reach a package index.
            let name = variable.to_string_lossy();
            if !["PIP_", "UV_", "SSL_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&variable);
            }
        }
        command.env("PATH", &bin).env("HOME", &home).current_dir(&folder);
        command
    };
    let outcome = process::run(isolated("headwater", &["demo"]))
        .and_then(|()| process::run(isolated("python", &["-I", "../script.py"])));
    let stopped = process::run(isolated("headwater", &["stop", "--lake", "headwater-demo"]));
    outcome.and(stopped)
}

fn program(bin: &Path, name: &str, arguments: &[&str]) -> Command {
    command(&bin.join(name).to_string_lossy(), arguments)
}

fn check_size(binary: &Path) -> Outcome {
    let bytes = std::fs::metadata(binary).map_or(0, |metadata| metadata.len());
    eprintln!("  binary of {:.1} MB", bytes as f64 / 1e6);
    if bytes > BINARY_BYTES_MAX {
        return Err(format!("the binary has {bytes} bytes (limit {BINARY_BYTES_MAX})"));
    }
    Ok(())
}
