//! Runs of a project with many SQL models: planning, the first run, a run with nothing to do, and a
//! run after one edit.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::commands::{TimedCommand, headwater, run};
use crate::python_engine::{DuckDbRelease, PythonEngine};
use crate::report::{Report, duration};
use crate::sample::median;

/// Number of samples of each measurement, except of the first run.
const SAMPLES: usize = 11;

/// Number of models in a chain. Each model except the first reads the previous model.
const CHAIN: usize = 10;

/// Measures the runs of a project with `models` models, and adds the results to the report.
pub fn measure(report: &mut Report, models: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("project");
    std::fs::create_dir_all(project.join("models"))?;
    run(headwater(&project).args(["init", "--name", "many"]))?;
    run(headwater(&project).args(["query", &format!("CREATE TABLE source AS {SOURCE}")]))?;
    for number in 0..models {
        write(&project, number, 0)?;
    }
    let outcome = in_project(report, &project, models);
    run(headwater(&project).arg("stop"))?;
    outcome?;
    let mut duckdb = PythonEngine::duckdb(folder.path(), DuckDbRelease::V1_5_5, 2)?;
    duckdb.query(&format!("CREATE TABLE source AS {SOURCE}"))?;
    let began = Instant::now();
    for number in 0..models {
        duckdb.query(&format!("CREATE TABLE m{number} AS {}", sql(number, 0)))?;
    }
    let text = format!("{models} tables in memory by DuckDB {}", duration(began.elapsed()));
    report.plain("reference of the first run", &text, "", "");
    Ok(())
}

const SOURCE: &str =
    "SELECT value AS id, value % 10 AS kind FROM generate_series(1, 1000) AS t(value)";

fn sql(number: usize, edit: usize) -> String {
    let parent =
        if number.is_multiple_of(CHAIN) { "source".to_owned() } else { format!("m{}", number - 1) };
    format!("SELECT id + {edit} AS id, kind FROM {parent} WHERE id <> {number}")
}

fn write(project: &Path, number: usize, edit: usize) -> Outcome<()> {
    let text = format!("-- headwater: materialization = replace\n{}\n", sql(number, edit));
    Ok(std::fs::write(project.join(format!("models/m{number}.sql")), text)?)
}

fn in_project(report: &mut Report, project: &Path, models: usize) -> Outcome<()> {
    let plan = || headwater(project).args(["run", "--dry-run"]).timed();
    let command = || headwater(project).args(["query", "SELECT 1"]).timed();
    let times = |work: &dyn Fn() -> Outcome<Duration>| -> Outcome<Duration> {
        Ok(median((0..SAMPLES).map(|_| work()).collect::<Outcome<_>>()?))
    };
    command()?;
    let floor = format!("query \"SELECT 1\" {}", duration(times(&command)?));
    let title = |what: &str| format!("{what}, {models} models");
    let bound = Duration::from_millis;
    // The server caches parsed models by their text, so each cold plan uses new texts.
    let mut cold = Vec::new();
    for edit in 1..=SAMPLES {
        (0..models).try_for_each(|number| write(project, number, edit))?;
        cold.push(plan()?);
    }
    report.time(&title("plan, all models new"), median(cold), &floor, bound(150));
    report.time(&title("plan again before the first run"), times(&plan)?, &floor, bound(30));
    let first = headwater(project).arg("run").timed()?;
    report.plain(&title("first run"), &duration(first), &floor, "");
    report.time(&title("plan, nothing changed since the run"), times(&plan)?, &floor, bound(30));
    let nothing = times(&|| headwater(project).arg("run").timed())?;
    report.time(&title("run with nothing to do"), nothing, &floor, bound(100));
    let last = models - 1;
    let mut edited = Vec::new();
    for edit in SAMPLES + 1..=2 * SAMPLES {
        write(project, last, edit)?;
        edited.push(headwater(project).arg("run").timed()?);
    }
    report.time(&title("run after an edit of one model"), median(edited), &floor, bound(250));
    Ok(())
}
