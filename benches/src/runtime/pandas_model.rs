//! A pandas model run by `headwater run`, compared with a script that reads the same files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::commands::{TimedCommand, headwater, python, run};
use crate::functions::walk;
use crate::report::Report;
use crate::sample::median;

const ROWS: usize = 3_000_000;

const MODEL: &str = r#"import headwater


@headwater.model(materialization="replace")
@headwater.python(pip={"pandas": "2.3", "numpy": "2.3", "pyarrow": "21.0.0"})
def by_zone(trips=headwater.Model("trips")):
    frame = trips.to_pandas()
    frame["share"] = frame["tip"] / frame["fare"]
    return frame.groupby("zone", as_index=False).agg({"share": "mean", "fare": "sum", "id": "count"})
"#;

const SCRIPT: &str = r#"import sys

import pandas

frame = pandas.concat([pandas.read_parquet(path) for path in sys.argv[2:]])
frame["share"] = frame["tip"] / frame["fare"]
found = frame.groupby("zone", as_index=False).agg({"share": "mean", "fare": "sum", "id": "count"})
found.to_parquet(sys.argv[1])
"#;

/// Measures the run of the model, and adds the result to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("project");
    run(headwater(folder.path()).arg("init").arg(&project))?;
    let outcome = in_project(report, &project);
    run(headwater(&project).arg("stop"))?;
    outcome
}

fn in_project(report: &mut Report, project: &Path) -> Outcome<()> {
    std::fs::write(project.join("headwater.toml"), "[project]\nname = \"bench\"\n")?;
    std::fs::write(project.join("by_zone.py"), MODEL)?;
    let table = project.join("trips.csv");
    std::fs::write(&table, rows())?;
    run(headwater(project).args(["table", "import", "trips"]).arg(&table))?;
    let files = data_files(project);
    let runs = || headwater(project).args(["run", "--no-cache"]).timed();
    // The first run is not measured, because it creates the environment and imports its packages.
    runs()?;
    let python = python(project)?;
    let script = project.join(".script.py");
    std::fs::write(&script, SCRIPT)?;
    let scripts = || -> Outcome<Duration> {
        let began = Instant::now();
        let mut command = Command::new(&python);
        run(command.arg(&script).arg(project.join(".out.parquet")).args(&files))?;
        Ok(began.elapsed())
    };
    scripts()?;
    let (mut taken, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        taken.push(runs()?);
        reference.push(scripts()?);
    }
    let what = format!("`headwater run` of pandas over {ROWS} rows");
    report.ratio(&what, median(taken), ("plain script", median(reference)), 1.0);
    Ok(())
}

fn rows() -> String {
    let mut text = "id,zone,fare,tip\n".to_owned();
    for id in 0..ROWS {
        let (zone, fare) = (id * 7 % 265, 3 + id % 97);
        text.push_str(&format!("{id},{zone},{fare}.5,{}.25\n", id % 11));
    }
    text
}

/// Returns the data files of the table.
fn data_files(project: &Path) -> Vec<PathBuf> {
    let is_data = |path: &PathBuf| path.extension().is_some_and(|end| end == "parquet");
    walk(&project.join(".headwater")).into_iter().filter(is_data).collect()
}
