//! The tasks `test`, `bench` and `soak`. `test` runs the fastest checks first.

use crate::process::{self, Outcome, cargo, command};
use crate::{codegen, tidy};

/// The release of nextest to install.
const NEXTEST: &str = "0.9.143";

/// The packages from PyPI that the tests of the SDK need.
const PYTHON_PACKAGES: [&str; 2] = ["pyarrow", "mypy==2.4.1"];

/// Runs everything that CI runs.
pub fn all() -> Outcome {
    tidy::check()?;
    process::run(cargo(&["fmt", "--all", "--check"]))?;
    process::run(cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    codegen::check()?;
    tests()?;
    python()
}

/// Runs the Rust tests, each in its own process, because the tests of the function runtime require
/// this.
fn tests() -> Outcome {
    let mut run = cargo(&["nextest", "run", "--workspace"]);
    if process::output(cargo(&["nextest", "--version"])).is_err() {
        run.env("PATH", nextest()?);
    }
    process::run(run)
}

/// Installs nextest in the target folder if it is missing. Returns a `PATH` that contains nextest.
fn nextest() -> Result<String, String> {
    let tools = process::target().join("tools");
    if !tools.join("bin/cargo-nextest").exists() {
        let root = tools.to_string_lossy();
        let package = ["install", "cargo-nextest", "--version", NEXTEST, "--locked", "--debug"];
        process::run(cargo(&[&package[..], &["--root", &root]].concat()))?;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{}:{path}", tools.join("bin").display()))
}

/// Checks the types of the SDK and runs its tests: first the tests that need only Python, then the
/// tests that need pyarrow.
fn python() -> Outcome {
    let environment = process::target().join("python-tests");
    let interpreter = environment.join("bin/python");
    if !interpreter.exists() {
        process::run(command("python3", &["-m", "venv", &environment.to_string_lossy()]))?;
    }
    let interpreter = interpreter.to_string_lossy();
    let install = ["-m", "pip", "install", "--quiet"];
    process::run(command(&interpreter, &[&install[..], &PYTHON_PACKAGES[..]].concat()))?;
    let cache = environment.join("mypy-cache");
    let cache = cache.to_string_lossy();
    process::run(command(&interpreter, &["-m", "mypy", "--cache-dir", &cache]))?;
    for start in ["tests", "tests/arrow"] {
        let folder = process::root().join("python");
        let arguments = ["-m", "unittest", "discover", "--start-directory", start];
        let mut tests = command(&interpreter, &arguments);
        tests.current_dir(&folder);
        tests.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
        tests.env("HEADWATER_COMMAND", process::target().join("debug/headwater"));
        process::run(tests)?;
    }
    Ok(())
}

/// Measures a suite against its reference.
pub fn bench(suite: &str, rest: &[&str]) -> Outcome {
    process::run(cargo(&["build", "--release", "--package", "headwater-cli"]))?;
    let run = ["run", "--release", "--package", "headwater-benches", "--", suite];
    process::run(cargo(&[&run, rest].concat()))
}

/// Runs the long tests with full counts. Random programs use the given seed, or else a new seed.
pub fn soak(rest: &[&str]) -> Outcome {
    let (seed, rest) = match rest {
        ["--seed", seed, rest @ ..] => ((*seed).to_owned(), rest),
        _ => (new_seed(), rest),
    };
    let names = if rest.is_empty() { &["soak"][..] } else { rest };
    let suites = [
        &["--package", "headwater-lake", "--test", "it", "--"][..],
        &[
            "--package",
            "headwater-cli",
            "--test",
            "soak",
            "--test",
            "killing",
            "--test",
            "killed_runs",
            "--test",
            "parallel_runs",
            "--test",
            "hostile",
            "--",
        ],
    ];
    for suite in suites {
        let mut test = cargo(&[&["test", "--release"], suite, names].concat());
        test.env("HEADWATER_SOAK", "1").env("HEADWATER_SEEDS_FROM", &seed);
        process::run(test)?;
    }
    if rest.is_empty() {
        let fuzz = ["test", "--release", "--package", "headwater-engine", "--test", "fuzz"];
        let mut test = cargo(&fuzz);
        test.env("HEADWATER_SOAK", "1").env("HEADWATER_SEEDS_FROM", &seed);
        eprintln!("the same programs again: cargo xtask soak --seed {seed}");
        process::run(test)?;
    }
    Ok(())
}

/// Returns a seed from the clock, so that each soak runs other programs.
fn new_seed() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.unwrap_or_default().as_secs() * 10_000).to_string()
}
