//! The flights example, compared with the same functions in one plain Python script.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::commands::{TimedCommand, headwater, run};
use crate::python_engine::environment_with;
use crate::report::Report;
use crate::sample::median;

const SAMPLES: usize = 5;
const SCRIPT: &str = include_str!("../references/flights.py");
const TABLES: [&str; 5] = ["flights", "weather", "airports", "airlines", "planes"];

/// Packages of the script: the releases of the example, and DuckDB for its SQL models.
const PACKAGES: [&str; 4] = ["polars==1.38.1", "pandas==2.3.3", "pyarrow", "duckdb==1.5.5"];

/// Measures the flights example, and adds the result to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("flights");
    let init = ["init", "--example", "flights"];
    run(headwater(folder.path()).args(init).arg(&project))?;
    let outcome = in_project(report, folder.path(), &project);
    run(headwater(&project).arg("stop"))?;
    outcome
}

fn in_project(report: &mut Report, folder: &Path, project: &Path) -> Outcome<()> {
    let exported = folder.join("tables");
    std::fs::create_dir_all(&exported)?;
    for table in TABLES {
        let data = format!("data/{table}.csv.zst");
        run(headwater(project).args(["table", "import", table, &data, "--null", "NA"]))?;
        let file = exported.join(format!("{table}.parquet"));
        let copy = format!("COPY (SELECT * FROM {table}) TO '{}'", file.display());
        run(headwater(project).args(["query", &copy]))?;
    }
    run(headwater(project).arg("run"))?;
    let took = sampled(|| headwater(project).args(["run", "--no-cache"]).timed())?;
    let python = environment_with(&folder.join("script"), &PACKAGES)?;
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let script = || {
        let mut command = Command::new(&python);
        command.args(["-c", SCRIPT]).arg(project.join("models")).arg(&exported);
        command.env("PYTHONPATH", &sdk).timed()
    };
    script()?;
    let plain = sampled(script)?;
    report.ratio("flights, all models", took, ("one plain Python script", plain), 1.0);
    Ok(())
}

fn sampled(mut once: impl FnMut() -> Outcome<Duration>) -> Outcome<Duration> {
    Ok(median((0..SAMPLES).map(|_| once()).collect::<Outcome<_>>()?))
}
