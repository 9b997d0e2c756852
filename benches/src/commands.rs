//! Latency of whole commands: a query, an unchanged run, a run with an added package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::report::Report;
use crate::sample::median;

/// Measures the commands, and adds the latencies to the report.
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
    let reference_text = format!("starting `true` {}", crate::report::duration(floor));
    report.time(
        "query \"SELECT 1\", server warm",
        took,
        &reference_text,
        Duration::from_millis(30),
    );

    let unchanged = || headwater(project).arg("run").timed();
    unchanged()?;
    let took = median((0..20).map(|_| unchanged()).collect::<Outcome<_>>()?);
    report.time("run of the example, unchanged", took, "", Duration::from_millis(300));
    added_package(report, project)
}

/// Measures the time that an added package costs: runs the same small function after an edit with
/// and without a new package.
fn added_package(report: &mut Report, project: &Path) -> Outcome<()> {
    let models = project.join("models");
    let model = models.join("added_package.py");
    let wheel = |version: &str| format!("\"pyarrow\": \"21.0.0\", \"six\": \"{version}\"");
    let run_with = |packages: &str, edit: usize| -> Outcome<Duration> {
        std::fs::write(&model, source(packages, edit))?;
        headwater(project).arg("run").timed()
    };
    // This run fills uv's cache with the wheels.
    run_with(&wheel("1.16.0"), 0)?;
    let versions = ["1.17.0", "1.15.0", "1.14.0", "1.13.0", "1.12.0"];
    for (index, version) in versions.iter().enumerate() {
        run_with(&wheel(version), 1 + index)?;
    }
    remove_environments(project)?;
    run_with("\"pyarrow\": \"21.0.0\"", 100)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for (index, version) in versions.iter().enumerate() {
        without.push(run_with("\"pyarrow\": \"21.0.0\"", 200 + index)?);
        with.push(run_with(&wheel(version), 300 + index)?);
    }
    std::fs::remove_file(&model)?;
    let (with, without) = (median(with), median(without));
    let reference_text =
        format!("the same run without the package {}", crate::report::duration(without));
    let added = with.saturating_sub(without);
    report.time(
        "run with an added package, wheel in uv's cache",
        added,
        &reference_text,
        Duration::from_secs(1),
    );
    Ok(())
}

fn source(packages: &str, edit: usize) -> String {
    format!(
        "import headwater\n\n\n\
         @headwater.model()\n\
         @headwater.python(\"3.11\", pip={{{packages}}})\n\
         def added_package(data=headwater.Model(\"airlines\")):\n    \
             # edit {edit}\n    \
             return data\n"
    )
}

/// Removes installed environments, so that each is created again from uv's cache.
pub fn remove_environments(project: &Path) -> Outcome<()> {
    run(headwater(project).arg("stop"))?;
    if environments().exists() {
        std::fs::remove_dir_all(environments())?;
    }
    Ok(())
}

/// Returns the `headwater` command, with a working folder and the benchmarks' package cache.
pub fn headwater(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).env("XDG_CACHE_HOME", cache());
    command
}

/// Returns the interpreter of the environment that the folder's project used last.
pub fn python(folder: &Path) -> Outcome<PathBuf> {
    let listed = headwater(folder).args(["environment", "ls", "--output", "json"]).output()?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let id = listed[0]["id"].as_str().ok_or("there is no environment")?;
    Ok(environments().join(id).join("bin/python"))
}

/// Returns the package cache of the benchmarks, which persists between runs.
pub fn cache() -> PathBuf {
    binary().with_file_name("bench-cache")
}

fn environments() -> PathBuf {
    cache().join("headwater").join("environments")
}

/// Returns the path of the `headwater` command, built into the same folder as this benchmark.
pub fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap_or_default();
    path.set_file_name("headwater");
    path
}

/// Runs a command. A failure of the command is an error.
pub fn run(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} exited with {}\n{errors}", output.status).into())
}

/// A command that can be timed.
pub trait TimedCommand {
    /// Returns the run time of the process. A failure of the command is an error.
    fn timed(&mut self) -> Outcome<Duration>;
}

impl TimedCommand for Command {
    fn timed(&mut self) -> Outcome<Duration> {
        let began = Instant::now();
        run(self)?;
        Ok(began.elapsed())
    }
}
