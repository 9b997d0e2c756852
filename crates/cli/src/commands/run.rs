//! `headwater run`: sends the project, follows the run and prints its report.

use std::collections::BTreeMap;

use headwater_model::{
    Job, MergeReport, Priority, RunPlan, RunReport, RunRequest, StepReport, StepStatus,
};

use crate::api::ApiClient;
use crate::api_output;
use crate::arguments::{OutputFormat, Run, Test};
use crate::commands::{branch, reference, run_openlineage, run_preview, run_watch};
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events::{self, EventPrinter};
use crate::output::{self, Grid};
use crate::project;
use crate::terminal::Tone;

/// Runs `headwater run`.
pub async fn run(context: &Context, api: &ApiClient, arguments: &Run) -> Result<()> {
    let root = project::locate(arguments.project.as_ref(), &context.lake()?)?;
    let branch = reference(context, arguments.on.reference.clone())?;
    let request = RunRequest {
        files: headwater_server::read_project(&root)?,
        reference: Some(branch.parse().map_err(error::from_error)?),
        parameters: pairs(&arguments.parameters, "param")?,
        strict: arguments.no_strict.then_some(false),
        no_cache: arguments.no_cache,
        no_reuse: arguments.no_reuse,
        no_repeat: arguments.no_repeat,
        select: arguments.select.clone(),
        exclude: arguments.exclude.clone(),
        retry: arguments.retry.clone(),
        dry_run: arguments.dry_run || arguments.plan,
        preview: run_preview::request(arguments),
        priority: arguments.priority.as_deref().map(priority).transpose()?,
        ..RunRequest::default()
    };
    if arguments.plan && context.output != OutputFormat::Json {
        let plan: RunPlan = api.post("/v1/runs", &request).await?;
        headwater_display::run_plan::print(context.answer_style, &plan);
        return Ok(());
    }
    if arguments.watch {
        return run_watch::watch(context, api, &root, request).await;
    }
    if let Some(path) = &arguments.openlineage {
        return run_openlineage::send(context, api, &request, arguments, path).await;
    }
    send(context, api, &request, arguments.detach).await
}

/// Runs `headwater test`.
pub async fn test(context: &Context, api: &ApiClient, arguments: &Test) -> Result<()> {
    let root = project::locate(arguments.project.as_ref(), &context.lake()?)?;
    let files = headwater_server::read_project(&root)?;
    let select = arguments.select.clone();
    let request = RunRequest { files, select, test: true, ..RunRequest::default() };
    send(context, api, &request, false).await
}

/// Sends a run, follows it and prints its report.
pub async fn send(
    context: &Context,
    api: &ApiClient,
    request: &RunRequest,
    detach: bool,
) -> Result<()> {
    if request.dry_run {
        let plan: RunPlan = api.post("/v1/runs", request).await?;
        print_plan(context, request, &plan);
        return Ok(());
    }
    let job: Job = api.post("/v1/runs", request).await?;
    if detach {
        started(context, &job);
        return Ok(());
    }
    follow(context, api, request, &job).await
}

/// Follows a run and prints its report.
pub async fn follow(
    context: &Context,
    api: &ApiClient,
    request: &RunRequest,
    job: &Job,
) -> Result<()> {
    // The JSON lines of a preview are its rows, so the events of the run are printed as text to
    // standard error.
    let is_preview = request.preview.is_some();
    let printer =
        if is_preview { EventPrinter::new(context.style) } else { EventPrinter::of(context) };
    let job = job_events::follow_with(context, api, job, printer).await?;
    if api_output::is_printed(context, &job.result) {
        return Ok(());
    }
    if request.test {
        let passed = output::plural(report(&job)?.steps.len() as u64, "test");
        context.style.say(format!("{} {passed} passed", context.style.paint(Tone::Good, "✓")));
        return Ok(());
    }
    let report = report(&job)?;
    if request.preview.is_some() {
        run_preview::print(context, &report);
    } else if context.output == OutputFormat::Ndjson {
        output::line(serde_json::json!({ "type": "report", "report": report }));
    } else {
        print_report(context, &report);
    }
    Ok(())
}

fn priority(text: &str) -> Result<Priority> {
    Priority::parse(text).ok_or_else(|| {
        error::invalid(format!("`{text}` is not a priority"))
            .with_hint("Write `--priority low`, `normal` or `high`.")
    })
}

/// Returns the report of a succeeded run.
pub fn report(job: &Job) -> Result<RunReport> {
    serde_json::from_value(job.result.clone()).map_err(error::unexpected)
}

/// Prints the id of a detached job.
pub fn started(context: &Context, job: &Job) {
    if context.output == OutputFormat::Json {
        output::print_json(job);
    } else {
        output::line(job.id);
        context.style.say(format!("follow the job with `headwater job logs {} --follow`", job.id));
    }
}

/// Parses `NAME=VALUE` arguments.
pub fn pairs(arguments: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for argument in arguments {
        let (name, value) = argument.split_once('=').ok_or_else(|| {
            error::invalid(format!("`--{flag} {argument}` has no `=` between name and value"))
                .with_hint(format!("Write `--{flag} NAME=VALUE`."))
        })?;
        pairs.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(pairs)
}

/// The step kind of expectations.
const EXPECTATION: &str = "expectation";

fn print_plan(context: &Context, request: &RunRequest, plan: &RunPlan) {
    if context.output == OutputFormat::Json {
        return output::print_json(plan);
    }
    let headings = ["STEP", "KIND", "READS", "WRITES", "ENVIRONMENT", "FROM", "RUNS"];
    let mut grid = Grid::new(context.answer_style, &headings).hide_first(&[
        "ENVIRONMENT",
        "KIND",
        "FROM",
        "WRITES",
    ]);
    for step in &plan.steps {
        let writes = step.materialization.as_deref().unwrap_or("");
        let environment = step.environment.as_deref().unwrap_or("");
        let place = format!("{}:{}", step.file, step.line);
        let reasons = match step.reasons().join("; ") {
            reasons if reasons.is_empty() => "unchanged".to_owned(),
            reasons => reasons,
        };
        let reads = step.parents.join(", ");
        grid.row([&step.name, &step.kind, &reads, writes, environment, &place, &reasons]);
    }
    let is_selection = !request.select.is_empty() || !request.exclude.is_empty();
    grid.print(if is_selection {
        "the selection matches no model and no expectation"
    } else {
        "the project has no models"
    });
}

/// Prints a run's outcome: branch, commit, tables, cost.
fn print_report(context: &Context, report: &RunReport) {
    let count = |status| report.steps.iter().filter(|step| step.status == status).count();
    let (unchanged, reused) = (count(StepStatus::Unchanged), count(StepStatus::Reused));
    let ran = report.steps.len() - unchanged - reused;
    let reused = if reused == 0 { String::new() } else { format!(" {reused} reused,") };
    let style = context.style;
    let outcome = match report.commit {
        Some(commit) => format!("merged into {} as @{}", report.branch, commit.short()),
        None => format!("nothing changed on {}", report.branch),
    };
    let cost = output::money(report.cost, &report.currency);
    let sum = output::milliseconds(report.usage.wall_ms);
    let figures = format!("{ran} ran,{reused} {unchanged} unchanged, {sum} of work, {cost}");
    style.say(format!("{} {outcome}", style.paint(Tone::Good, "✓")));
    style.say(format!("  {}", style.paint(Tone::Faint, figures)));
    if let Some(conflict) = report.conflicts.last() {
        let repeated = match report.conflicts.len() {
            1 => "repeated once".to_owned(),
            count => format!("repeated {count} times"),
        };
        let text = format!("the run was {repeated} after a conflict: {}", conflict.message);
        style.say(format!("  {} {text}", style.paint(Tone::Warn, "!")));
    }
    if let Some(merge) = &report.merge {
        branch::print_undone(context, &report.branch, merge);
        return print_merged(context, report, merge);
    }
    print_quarantine(context, report);
    let is_model = |step: &StepReport| step.kind != EXPECTATION;
    let modelled =
        report.steps.iter().any(|step| is_model(step) && step.status == StepStatus::Succeeded);
    let hint = match report.commit {
        None if report.steps.is_empty() => {
            "no model is selected: change the selection, or write NAME.sql or NAME.py"
        }
        None if modelled => {
            "no executed model is stored as a table: set `materialization = replace` in a model"
        }
        _ => return,
    };
    style.say(format!("  {}: {hint}", style.paint(Tone::Good, "hint")));
}

/// Prints the number of rows that failed an expectation, and the quarantine table that contains
/// them.
fn print_quarantine(context: &Context, report: &RunReport) {
    for step in &report.steps {
        let Some(rows) = step.quarantined.filter(|rows| *rows > 0) else { continue };
        let (style, rows) = (context.style, output::plural(rows, "row"));
        let text = format!("{rows} of {} in quarantine: {}_quarantine", step.step, step.step);
        style.say(format!("  {} {text}", style.paint(Tone::Warn, "!")));
    }
}

/// Prints for each merged table how its content was determined: recomputed, merged or taken from
/// one side.
fn print_merged(context: &Context, report: &RunReport, merge: &MergeReport) {
    for table in &report.tables {
        let name = table.rsplit('.').next().unwrap_or(table);
        let computed = |step: &StepReport| {
            step.step.eq_ignore_ascii_case(name) && step.status == StepStatus::Succeeded
        };
        let merged = merge.merged.iter().find(|merged| merged.table.to_string() == *table);
        let how = match merged {
            _ if report.steps.iter().any(computed) => " recomputed".to_owned(),
            Some(merged) => format!(" {}", branch::describe_merged_table(merged, "the source")),
            None => String::new(),
        };
        context.style.say(format!("  {}{how}", context.style.paint(Tone::Good, table)));
    }
}
