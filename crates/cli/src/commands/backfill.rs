//! `headwater backfill`: runs the project once for each value of a parameter, several runs at a
//! time. The server does the work as one job; this command follows the job and prints its report.

use headwater_backfill::{BackfillReport, ParameterValues};
use headwater_model::{BackfillRequest, Job, Problem, RunRequest};
use serde_json::Value;

use crate::api::ApiClient;
use crate::arguments::{Backfill, OutputFormat};
use crate::commands::reference;
use crate::commands::run::{pairs, started};
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events;
use crate::output;
use crate::project;

/// Runs `headwater backfill`.
pub async fn backfill(context: &Context, api: &ApiClient, arguments: &Backfill) -> Result<()> {
    let ParameterValues { name, values } = parameter_values(arguments)?;
    let parameters = pairs(&arguments.parameters, "param")?;
    if parameters.contains_key(&name) {
        return Err(error::invalid(format!("the parameter `{name}` is given twice"))
            .with_hint(format!("Remove `--param {name}=…`.")));
    }
    let root = project::locate(arguments.project.as_ref(), &context.lake()?)?;
    let target = reference(context, arguments.on.reference.clone())?;
    let run = RunRequest {
        files: headwater_server::read_project(&root)?,
        reference: Some(target.parse().map_err(error::from_error)?),
        parameters,
        strict: arguments.no_strict.then_some(false),
        select: arguments.select.clone(),
        exclude: arguments.exclude.clone(),
        ..RunRequest::default()
    };
    let request = BackfillRequest {
        run,
        parameter: name,
        values,
        partitions_of: arguments.partitions_of.clone(),
        jobs: Some(u32::from(arguments.jobs)),
        retries: Some(u32::from(arguments.retries)),
    };
    let job: Job = api.post("/v1/backfills", &request).await?;
    if arguments.detach {
        started(context, &job);
        return Ok(());
    }
    match job_events::follow(context, api, &job).await {
        Ok(job) => {
            print(context, &job.result);
            Ok(())
        }
        Err(problem) => Err(failed(context, problem, &repeat_options(arguments))),
    }
}

/// Returns the parameter and its values; no values if the server reads them from a table's
/// partitions.
fn parameter_values(arguments: &Backfill) -> Result<ParameterValues> {
    if arguments.partitions_of.is_none() {
        return ParameterValues::parse(&arguments.values);
    }
    let name = arguments.values.trim().to_owned();
    if name.contains('=') {
        let message = format!("`--partitions-of` cannot be combined with the values in `{name}`");
        return Err(error::invalid(message).with_hint("Write only the name of the parameter."));
    }
    Ok(ParameterValues { name, values: Vec::new() })
}

/// Returns the command-line options of this backfill. A hint uses them for the command that repeats
/// the failed values.
fn repeat_options(arguments: &Backfill) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |option: &str, values: &[String]| {
        if !values.is_empty() {
            words.push(format!("--{option}"));
            words.extend_from_slice(values);
        }
    };
    if let Some(project) = &arguments.project {
        add("project", &[project.display().to_string()]);
    }
    if let Some(branch) = &arguments.on.reference {
        add("ref", std::slice::from_ref(branch));
    }
    for parameter in &arguments.parameters {
        add("param", std::slice::from_ref(parameter));
    }
    add("select", &arguments.select);
    add("exclude", &arguments.exclude);
    if arguments.no_strict {
        words.push("--no-strict".to_owned());
    }
    words
}

/// Prints the report as JSON if the output format is JSON; otherwise prints nothing.
fn print(context: &Context, report: &Value) {
    if context.output == OutputFormat::Json {
        output::print_json(report);
    }
}

/// Returns the error of a backfill. If values failed, prints the report, and sets the hint to the
/// command that repeats these values.
fn failed(context: &Context, problem: Problem, options: &[String]) -> Problem {
    let Some(found) = problem.context.get("report") else { return problem };
    // The backfill's last run checks the merged tables. If that run failed, the report has another
    // type.
    let Ok(report) = serde_json::from_value::<BackfillReport>(found.clone()) else {
        return problem;
    };
    print(context, found);
    // Replace the problem only if it reports failed values. A stopped backfill has another error.
    let own = report.problem(options).filter(|own| own.message == problem.message);
    own.unwrap_or(problem)
}
