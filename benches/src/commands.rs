//! Whole commands, from the keystroke to the prompt: a query, an unchanged run, one more package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::report::Report;
use crate::sample::median;

/// Adds the figures to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let demo = folder.path().join("demo");
    run(headwater(folder.path()).arg("demo").arg(&demo))?;
    let outcome = in_project(report, &demo);
    run(headwater(&demo).arg("stop"))?;
    outcome
}

fn in_project(report: &mut Report, project: &Path) -> Outcome<()> {
    let query = || headwater(project).args(["query", "SELECT 1"]).timed();
    let reference = || Command::new("true").current_dir(project).timed();
    query()?;
    let took = median((0..50).map(|_| query()).collect::<Outcome<_>>()?);
    let floor = median((0..50).map(|_| reference()).collect::<Outcome<_>>()?);
    let beside = format!("starting `true` {}", crate::report::duration(floor));
    report.time("query \"SELECT 1\", server warm", took, &beside, Duration::from_millis(30));

    let unchanged = || headwater(project).arg("run").timed();
    unchanged()?;
    let took = median((0..20).map(|_| unchanged()).collect::<Outcome<_>>()?);
    report.time("run of the example, unchanged", took, "", Duration::from_millis(300));
    one_package_more(report, project)
}

/// The same small function, edited with and without another package: what the package adds.
fn one_package_more(report: &mut Report, project: &Path) -> Outcome<()> {
    let models = project.join("models");
    let model = models.join("one_package_more.py");
    let wheel = |version: &str| format!("\"pyarrow\": \"21.0.0\", \"six\": \"{version}\"");
    let run_with = |packages: &str, edit: usize| -> Outcome<Duration> {
        std::fs::write(&model, source(packages, edit))?;
        headwater(project).arg("run").timed()
    };
    // The wheels come into uv's cache once.
    run_with(&wheel("1.16.0"), 0)?;
    let versions = ["1.17.0", "1.15.0", "1.14.0", "1.13.0", "1.12.0"];
    for (index, version) in versions.iter().enumerate() {
        run_with(&wheel(version), 1 + index)?;
    }
    forget_environments(project)?;
    run_with("\"pyarrow\": \"21.0.0\"", 100)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for (index, version) in versions.iter().enumerate() {
        without.push(run_with("\"pyarrow\": \"21.0.0\"", 200 + index)?);
        with.push(run_with(&wheel(version), 300 + index)?);
    }
    std::fs::remove_file(&model)?;
    let (with, without) = (median(with), median(without));
    let beside = format!("the same run without it {}", crate::report::duration(without));
    let added = with.saturating_sub(without);
    report.time("one package more, wheel in uv's cache", added, &beside, Duration::from_secs(1));
    Ok(())
}

fn source(packages: &str, edit: usize) -> String {
    format!(
        "import headwater\n\n\n\
         @headwater.model()\n\
         @headwater.python(\"3.11\", pip={{{packages}}})\n\
         def one_package_more(data=headwater.Model(\"airlines\")):\n    \
             # edit {edit}\n    \
             return data\n"
    )
}

/// Removes installed environments, so that each is made again from uv's cache.
fn forget_environments(project: &Path) -> Outcome<()> {
    run(headwater(project).arg("stop"))?;
    if environments().exists() {
        std::fs::remove_dir_all(environments())?;
    }
    Ok(())
}

/// The command, in a folder, with the packages of the benchmarks.
pub fn headwater(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).env("XDG_CACHE_HOME", cache());
    command
}

/// The interpreter of the environment that a function of this folder's project has used last.
pub fn python(folder: &Path) -> Outcome<PathBuf> {
    let listed = headwater(folder).args(["environment", "ls", "--output", "json"]).output()?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let id = listed[0]["id"].as_str().ok_or("there is no environment")?;
    Ok(environments().join(id).join("bin/python"))
}

/// Where packages are kept, from one run of a benchmark to the next, and no one else's are.
fn cache() -> PathBuf {
    binary().with_file_name("bench-cache")
}

fn environments() -> PathBuf {
    cache().join("headwater").join("environments")
}

/// The command, built into the same folder as this benchmark.
pub fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap_or_default();
    path.set_file_name("headwater");
    path
}

/// Runs a command; failure is an error.
pub fn run(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}\n{errors}", output.status).into())
}

/// Timing a whole command.
pub trait Timed {
    /// From the start of the process to its end; failure is an error.
    fn timed(&mut self) -> Outcome<Duration>;
}

impl Timed for Command {
    fn timed(&mut self) -> Outcome<Duration> {
        let began = Instant::now();
        run(self)?;
        Ok(began.elapsed())
    }
}
