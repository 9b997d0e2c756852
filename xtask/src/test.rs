//! What `test`, `bench` and `soak` run, in an order that fails early.

use crate::process::{self, Outcome, cargo, command};
use crate::{codegen, tidy};

/// Everything that CI runs.
pub fn all() -> Outcome {
    tidy::check()?;
    process::run(cargo(&["fmt", "--all", "--check"]))?;
    process::run(cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    codegen::check()?;
    tests(&[])?;
    python()
}

/// The Rust tests, by nextest where it is installed.
fn tests(extra: &[&str]) -> Outcome {
    let nextest = process::output(cargo(&["nextest", "--version"])).is_ok();
    let base: &[&str] =
        if nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    process::run(cargo(&[base, extra].concat()))
}

/// The SDK's own tests, which need nothing but Python.
fn python() -> Outcome {
    let folder = process::root().join("python");
    let mut tests =
        command("python3", &["-m", "unittest", "discover", "--start-directory", "tests"]);
    tests.current_dir(&folder);
    tests.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
    process::run(tests)
}

/// Measures a suite beside its reference.
pub fn bench(suite: &str, rest: &[&str]) -> Outcome {
    process::run(cargo(&["build", "--release", "--package", "headwater-cli"]))?;
    let run = ["run", "--release", "--package", "headwater-benches", "--", suite];
    process::run(cargo(&[&run, rest].concat()))
}

/// The long tests with their full counts: the same scenarios, more of everything.
pub fn soak(rest: &[&str]) -> Outcome {
    let names = if rest.is_empty() { &["soak"][..] } else { rest };
    let mut test = cargo(&[&["test", "--release", "--workspace", "--"], names].concat());
    test.env("HEADWATER_SOAK", "1");
    process::run(test)
}
