//! The first run after a package was added to a model. The reference is the creation of an
//! environment with the same packages by `uv`, from the same cache.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::commands::{TimedCommand, cache, headwater, remove_environments, run};
use crate::report::{Report, duration};
use crate::sample::median;

/// The package of the model, and the versions of the package that is added.
const PYARROW: &str = "21.0.0";
const SIX: [&str; 5] = ["1.17.0", "1.15.0", "1.14.0", "1.13.0", "1.12.0"];

/// Measures the first run with an added package, and adds the results to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("packages");
    run(headwater(folder.path()).arg("init").arg(&project))?;
    let outcome = in_project(report, &project, folder.path());
    run(headwater(&project).arg("stop"))?;
    outcome
}

fn in_project(report: &mut Report, project: &Path, folder: &Path) -> Outcome<()> {
    // Fills uv's cache with the wheels.
    for (number, version) in SIX.iter().enumerate() {
        run_with(project, Some(version), number)?;
    }
    remove_environments(project)?;
    let uv = uv();
    let (mut runs, mut references, mut edits) = (Vec::new(), Vec::new(), Vec::new());
    for (number, version) in SIX.iter().enumerate() {
        edits.push(run_with(project, None, 100 + number)?);
        runs.push(run_with(project, Some(version), 200 + number)?);
        references.push(reference(&uv, &folder.join(format!("uv-{version}")), version)?);
    }
    // Skip the first run without the package, which also created its environment and started the
    // server.
    edits.remove(0);
    let (taken, uv) = (median(runs), median(references));
    let reference = format!(
        "`uv venv` and `uv pip install` {}, the whole run {}, a run with an edit only {}",
        duration(uv),
        duration(taken),
        duration(median(edits))
    );
    let beyond = taken.saturating_sub(uv);
    let what = "first run after a package was added, beyond uv";
    report.time(what, beyond, &reference, Duration::from_secs(1));
    Ok(())
}

/// Runs the project after an edit of its model, which may add a package.
fn run_with(project: &Path, six: Option<&str>, edit: usize) -> Outcome<Duration> {
    let (added, import) = match six {
        Some(version) => (format!(", \"six\": \"{version}\""), "    import six\n"),
        None => (String::new(), ""),
    };
    let code = format!(
        "import headwater\n\n\n@headwater.model()\n\
         @headwater.python(\"3.11\", pip={{\"pyarrow\": \"{PYARROW}\"{added}}})\n\
         def packages():\n{import}    return [{{\"edit\": {edit}}}]\n"
    );
    std::fs::write(project.join("models/packages.py"), code)?;
    headwater(project).arg("run").timed()
}

/// Creates an environment with the same packages, from the same cache and without the network.
fn reference(uv: &Path, folder: &Path, six: &str) -> Outcome<Duration> {
    let command = || {
        let mut command = Command::new(uv);
        command.env("UV_CACHE_DIR", cache().join("headwater")).arg("--offline");
        command
    };
    let created =
        command().args(["venv", "--no-project", "--python", "3.11"]).arg(folder).timed()?;
    let packages = [format!("pyarrow=={PYARROW}"), format!("six=={six}")];
    let python = folder.join("bin/python");
    let mut install = command();
    install.args(["pip", "install", "--python"]).arg(python).args(packages);
    Ok(created + install.timed()?)
}

/// Returns the `uv` of the host, or the `uv` that Headwater downloaded.
fn uv() -> PathBuf {
    let own = cache().join("headwater/tools/uv/bin/uv");
    if own.exists() { own } else { PathBuf::from("uv") }
}
