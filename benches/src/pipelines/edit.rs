//! A run after an edit of one line in one of 50 models: the time of the run without the time of the
//! model.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::commands::{headwater, run};
use crate::report::{Report, duration};
use crate::sample::median;

/// Number of models, and of edits.
const MODELS: usize = 50;
const EDITS: usize = 11;

/// The time of a run, and the time that its models took.
pub struct RunTimes {
    pub total: Duration,
    pub models: Duration,
}

impl RunTimes {
    /// Runs a command that prints a run's report as JSON.
    pub fn of(command: &mut Command) -> Outcome<Self> {
        let began = Instant::now();
        let output = command.args(["--output", "json"]).output()?;
        let total = began.elapsed();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let steps = report["steps"].as_array().ok_or("the report has no steps")?;
        let wall = steps.iter().filter_map(|step| step["usage"]["wall_ms"].as_u64()).sum();
        Ok(RunTimes { total, models: Duration::from_millis(wall) })
    }

    /// Returns the time of the run without the time of its models.
    pub fn overhead(&self) -> Duration {
        self.total.saturating_sub(self.models)
    }
}

/// Measures the runs after an edit, and adds the result to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("edited");
    run(headwater(folder.path()).arg("init").arg(&project))?;
    let outcome = in_project(report, &project);
    run(headwater(&project).arg("stop"))?;
    outcome
}

fn in_project(report: &mut Report, project: &Path) -> Outcome<()> {
    let source = "CREATE TABLE source AS \
                  SELECT value AS id, value % 10 AS kind FROM generate_series(1, 100000) AS t(value)";
    run(headwater(project).args(["query", source]))?;
    for number in 0..MODELS {
        write(project, number, 0)?;
    }
    run(headwater(project).arg("run"))?;
    let (mut overheads, mut totals) = (Vec::new(), Vec::new());
    for edit in 1..=EDITS {
        write(project, MODELS / 2, edit)?;
        let times = RunTimes::of(headwater(project).arg("run"))?;
        overheads.push(times.overhead());
        totals.push(times.total);
    }
    let reference = format!("the whole run {}", duration(median(totals)));
    let what = format!("one line edited in one of {MODELS} models, beyond the model");
    report.time(&what, median(overheads), &reference, Duration::from_millis(150));
    Ok(())
}

fn write(project: &Path, number: usize, edit: usize) -> Outcome<()> {
    let sql = format!(
        "SELECT kind, count(*) + {edit} AS n FROM source WHERE id > {number} GROUP BY kind"
    );
    let text = format!("-- headwater: materialization = replace\n{sql}\n");
    Ok(std::fs::write(project.join(format!("models/m{number}.sql")), text)?)
}
