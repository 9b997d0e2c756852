//! The cost of one task that does nothing, compared with a task of Prefect.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::edit::RunTimes;
use crate::Outcome;
use crate::commands::{headwater, run};
use crate::python_engine::environment_with;
use crate::report::{Report, duration};
use crate::sample::median;

/// Number of tasks in a chain, and of samples.
const TASKS: usize = 40;
const SAMPLES: usize = 7;

const PREFECT: &str = include_str!("../references/prefect_tasks.py");

/// Measures the cost of a task, and adds the results to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let prefect = prefect(folder.path(), TASKS);
    let reference = match prefect {
        Ok(each) => format!("Prefect {}", duration(each)),
        Err(error) => format!("Prefect was not measured: {error}"),
    };
    let sql = |number: usize| match number {
        0 => ("sql", "SELECT 1 AS n".to_owned()),
        number => ("sql", format!("SELECT n FROM t{}", number - 1)),
    };
    let each = chain(folder.path(), "sql", &sql)?;
    report.time("a SQL task that does nothing", each, &reference, Duration::from_millis(1));
    let python = |number: usize, settings: &str| {
        let input = match number {
            0 => String::new(),
            number => format!("t=headwater.Model(\"t{}\")", number - 1),
        };
        let rows = if number == 0 { "[{\"n\": 1}]" } else { "t" };
        let code = format!(
            "import headwater\n\n\n@headwater.model({settings})\ndef t{number}({input}):\n    \
             return {rows}\n"
        );
        ("py", code)
    };
    for (name, settings) in [("isolated", ""), ("reused", "reuse=True")] {
        let each = chain(folder.path(), name, &|number| python(number, settings))?;
        let label = format!("a Python task that does nothing ({name} process)");
        report.time(&label, each, &reference, Duration::from_millis(1));
    }
    Ok(())
}

/// Returns the time that each further task of a chain adds to a run.
fn chain(
    folder: &Path,
    name: &str,
    task: &dyn Fn(usize) -> (&'static str, String),
) -> Outcome<Duration> {
    let mut times = Vec::new();
    for count in [1, TASKS] {
        let project = folder.join(format!("{name}{count}"));
        run(headwater(folder).arg("init").arg(&project))?;
        for number in 0..count {
            let (extension, text) = task(number);
            std::fs::write(project.join(format!("models/t{number}.{extension}")), text)?;
        }
        let last =
            format!("-- headwater: materialization = replace\nSELECT n FROM t{}\n", count - 1);
        std::fs::write(project.join("models/stored.sql"), last)?;
        let outcome = samples(&project);
        run(headwater(&project).arg("stop"))?;
        times.push(outcome?);
    }
    let added = times[1].saturating_sub(times[0]);
    Ok(added / u32::try_from(TASKS - 1)?)
}

fn samples(project: &Path) -> Outcome<Duration> {
    let once = || RunTimes::of(headwater(project).args(["run", "--no-cache"]));
    once()?;
    let totals = (0..SAMPLES).map(|_| Ok(once()?.total)).collect::<Outcome<Vec<_>>>()?;
    Ok(median(totals))
}

/// Returns the time of an empty task of Prefect within a flow.
fn prefect(folder: &Path, tasks: usize) -> Outcome<Duration> {
    let python = environment_with(&folder.join("prefect"), &["prefect==3.9.1"])?;
    let output = Command::new(python)
        .args(["-c", PREFECT, &tasks.to_string()])
        .env("PREFECT_HOME", folder.join("prefect-home"))
        .env("PREFECT_LOGGING_LEVEL", "ERROR")
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    let seconds = printed.lines().last().unwrap_or_default().parse::<f64>();
    let errors = || String::from_utf8_lossy(&output.stderr).lines().last().map(str::to_owned);
    let seconds = seconds.map_err(|_| errors().unwrap_or_default())?;
    Ok(Duration::from_secs_f64(seconds))
}
