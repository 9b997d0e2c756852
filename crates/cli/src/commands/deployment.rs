//! `headwater deploy` and `headwater deployment`: versions of the project.

use headwater_model::{
    ChangeKind, DeployChange, DeployReport, DeployRequest, DeployedKind,
    Deployment as DeploymentRow, ErrorCode, Problem,
};

use crate::api::{ApiClient, segment};
use crate::arguments::{Deploy, Deployment, OutputFormat};
use crate::cell::Cell;
use crate::context::Context;
use crate::error::{self, Result};
use crate::grid::Grid;
use crate::output;
use crate::project;
use crate::terminal::Tone;

/// Runs `headwater deploy`.
pub async fn deploy(context: &Context, api: &ApiClient, arguments: &Deploy) -> Result<()> {
    let root = project::locate(arguments.project.as_ref(), &context.lake()?)?;
    let files = headwater_server::read_project(&root)?;
    let request = DeployRequest { files, dry_run: arguments.dry_run, author: None };
    let report: DeployReport = api.post("/v1/deployments", &request).await?;
    print_report(context, &report);
    Ok(())
}

/// Runs `headwater deployment`.
pub async fn deployment(context: &Context, api: &ApiClient, arguments: Deployment) -> Result<()> {
    match arguments {
        Deployment::Ls => list(context, &all(api).await?),
        Deployment::Get(arguments) => {
            let found = match arguments.version {
                Some(version) => api.get(format!("/v1/deployments/{}", segment(&version))).await?,
                None => in_force(all(api).await?)?,
            };
            show(context, &found);
        }
        Deployment::Rollback(arguments) => {
            let version = match arguments.version {
                Some(version) => version,
                None => before_active(&all(api).await?)?,
            };
            let path = format!("/v1/deployments/{}/activate", segment(&version));
            let report: DeployReport = api.post(path, &serde_json::json!({})).await?;
            print_report(context, &report);
        }
    }
    Ok(())
}

async fn all(api: &ApiClient) -> Result<Vec<DeploymentRow>> {
    api.get("/v1/deployments").await
}

fn in_force(all: Vec<DeploymentRow>) -> Result<DeploymentRow> {
    all.into_iter().find(|one| one.active).ok_or_else(nothing)
}

/// Returns the version deployed before the active one.
fn before_active(all: &[DeploymentRow]) -> Result<String> {
    let active = all.iter().position(|one| one.active).ok_or_else(nothing)?;
    let before = all.get(active + 1).ok_or_else(|| {
        let version = all[active].version.short();
        let message = format!("no version was deployed before `{version}`, the active one");
        Problem::new(ErrorCode::DeploymentNotFound, message)
            .with_hint("List the versions with `headwater deployment ls`.")
    })?;
    Ok(before.version.to_string())
}

fn nothing() -> Problem {
    Problem::new(ErrorCode::DeploymentNotFound, "no version of the project is deployed")
        .with_hint("Run `headwater deploy`.")
}

fn list(context: &Context, all: &[DeploymentRow]) {
    if context.output == OutputFormat::Json {
        return output::print_json(&all);
    }
    let style = context.answer_style;
    let headings =
        ["VERSION", "STATUS", "DEPLOYED", "AUTHOR", ">FUNCTIONS", ">TRIGGERS", ">MODELS"];
    let mut grid = Grid::new(style, &headings);
    for one in all {
        grid.row([
            Cell::toned(Tone::Id, one.version.short()),
            if one.active { Cell::toned(Tone::Good, "active") } else { Cell::default() },
            output::format_time(one.deployed).into(),
            (&one.author).into(),
            output::count(one.functions.len() as u64).into(),
            output::count(one.triggers.len() as u64).into(),
            output::count(one.models).into(),
        ]);
    }
    grid.print("no version is deployed; `headwater deploy` deploys the working folder");
}

fn show(context: &Context, one: &DeploymentRow) {
    if context.output == OutputFormat::Json {
        return output::print_json(one);
    }
    let style = context.answer_style;
    let state = if one.active { "active" } else { "inactive" };
    output::line(format!("{} {} {state}", style.paint(Tone::Strong, one.version), one.project));
    let models = output::count(one.models);
    for (name, value) in [
        ("deployed", output::format_time(one.deployed)),
        ("author", one.author.clone()),
        ("functions", names(&one.functions)),
        ("triggers", names(&one.triggers)),
        ("models", models),
        ("files", names(&one.files)),
    ] {
        output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{name:<10}"))));
    }
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Prints a version with its contents and changes.
pub fn print_report(context: &Context, report: &DeployReport) {
    if context.output == OutputFormat::Json {
        return output::print_json(report);
    }
    let (style, one) = (context.style, &report.deployment);
    let version = one.version.short();
    let outcome = match (report.dry_run, report.previous) {
        (true, Some(previous)) if previous == one.version => {
            format!("version {version} of {} is already active", one.project)
        }
        (true, _) => format!("version {version} of {} can be deployed", one.project),
        (false, Some(previous)) if previous == one.version => {
            format!("version {version} of {} was already active", one.project)
        }
        (false, _) => format!("version {version} of {} is active", one.project),
    };
    style.say(format!("{} {outcome}", style.paint(Tone::Good, "✓")));
    style.say(format!("  functions: {}", names(&one.functions)));
    style.say(format!("  triggers: {}", names(&one.triggers)));
    for change in &report.changes {
        let kind = match change.kind {
            DeployedKind::Trigger => "trigger",
            DeployedKind::Function => "function",
            DeployedKind::File => "file",
        };
        let (tone, sign) = sign(change);
        style.say(format!("  {}", style.paint(tone, format!("{sign} {kind} {}", change.name))));
    }
    for warning in &report.warnings {
        style.say(format!("  {}: {warning}", style.paint(Tone::Warn, "warning")));
    }
}

fn sign(change: &DeployChange) -> (Tone, &'static str) {
    match change.change {
        ChangeKind::Added => (Tone::Good, "+"),
        ChangeKind::Removed => (Tone::Bad, "-"),
        ChangeKind::Changed | ChangeKind::Same => (Tone::Warn, "~"),
    }
}

/// Compares the functions or triggers in the working folder with the active version, and prints the
/// differences.
pub async fn note_differences(context: &Context, api: &ApiClient, kind: DeployedKind) {
    let Ok(lake) = context.lake() else { return };
    let Ok(root) = project::locate(None, &lake) else { return };
    let Ok(files) = headwater_server::read_project(&root) else { return };
    let request = DeployRequest { files, dry_run: true, author: None };
    let report: DeployReport = match api.post("/v1/deployments", &request).await {
        Ok(report) => report,
        Err(problem) if problem.code == ErrorCode::InvalidProject => {
            let message = problem.message;
            return context.style.say(format!(
                "the working folder cannot be deployed: {message}; see `headwater deploy --dry-run`"
            ));
        }
        Err(_) => return,
    };
    let changes = report.changes.iter().filter(|change| change.kind == kind);
    let changes: Vec<String> =
        changes.map(|change| format!("{} {}", sign(change).1, change.name)).collect();
    if !changes.is_empty() {
        let changes = changes.join(", ");
        context.style.say(format!(
            "the working folder differs from the deployment: {changes}; run `headwater deploy`"
        ));
    }
}

/// Reads the files of the working folder's project.
pub fn working_files(context: &Context) -> Result<headwater_model::ProjectFiles> {
    let root = project::locate(None, &context.lake()?)?;
    headwater_server::read_project(&root).map_err(error::from_error)
}
