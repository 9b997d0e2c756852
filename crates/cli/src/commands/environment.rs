//! `headwater environment`: the Python environments of functions.

use headwater_model::{
    EnvironmentDetails, EnvironmentSummary, PruneEnvironments, PrunedEnvironments,
    RebuiltEnvironment, WarmInstanceSummary,
};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Environment, EnvironmentPrune, EnvironmentRebuild, OutputFormat};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Runs `headwater environment`.
pub async fn environment(context: &Context, api: &ApiClient, arguments: Environment) -> Result<()> {
    match arguments {
        Environment::Ls => list(context, api).await,
        Environment::Explain(arguments) => explain(context, api, &arguments.id).await,
        Environment::Prune(arguments) => prune(context, api, &arguments).await,
        Environment::Rebuild(arguments) => rebuild(context, api, arguments).await,
    }
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(environments) =
        fetch::<Vec<EnvironmentSummary>>(context, api, "/v1/environments").await?
    else {
        return Ok(());
    };
    let headings = ["ENVIRONMENT", "PYTHON", "REQUIREMENTS", ">PACKAGES", ">SIZE", "LAST USED"];
    let mut grid = Grid::new(context.answer_style, &headings).hide_first(&["PACKAGES", "SIZE"]);
    for environment in environments {
        grid.row([
            environment.id,
            environment.python,
            environment.requirements.join(" "),
            output::count(environment.packages.len() as u64),
            output::bytes(environment.bytes),
            output::format_time(environment.used),
        ]);
    }
    grid.print("no environments; the first run of a Python model creates one");
    Ok(())
}

async fn explain(context: &Context, api: &ApiClient, id: &str) -> Result<()> {
    let path = format!("/v1/environments/{}", segment(id));
    let Some(explained) = fetch::<EnvironmentDetails>(context, api, path).await? else {
        return Ok(());
    };
    let EnvironmentDetails { environment, zygote, instances, huge_pages_unavailable, calls } =
        explained;
    let asked = match environment.requirements.join(" ") {
        none if none.is_empty() => "no packages".to_owned(),
        asked => asked,
    };
    output::line(format!("{} is Python {} with {asked}", environment.id, environment.python));
    let size = output::bytes(environment.bytes);
    let own = output::bytes(environment.bytes_own);
    output::line(format!("  {size} on disk, {own} not shared with other environments"));
    match zygote {
        None => output::line(
            "  no process with imported packages (zygote): the next call imports the packages",
        ),
        Some(zygote) => {
            if let Some(failure) = zygote.failure {
                output::line(format!(
                    "  the process with imported packages (zygote) cannot be started: {failure}"
                ));
            } else {
                let memory = output::bytes(zygote.memory_bytes);
                let took = output::milliseconds(zygote.imported_ms);
                output::line(format!(
                    "  process with imported packages (zygote): {memory}, imported in {took}"
                ));
            }
            for (package, reason) in zygote.skipped {
                output::line(format!("  each call imports `{package}` itself: {reason}"));
            }
        }
    }
    for instance in instances {
        let WarmInstanceSummary { label, until, reason, .. } = instance;
        let until = output::format_time(until);
        output::line(format!("  1 warm instance of `{label}` until {until}: {reason}"));
    }
    output::line(match huge_pages_unavailable {
        None => "  results are passed in huge pages".to_owned(),
        Some(reason) => {
            format!(
                "  results use small memory pages, because huge pages are unavailable: {reason}"
            )
        }
    });
    let mut grid = Grid::new(context.answer_style, &["PACKAGE", "VERSION"]);
    for (package, version) in environment.packages {
        grid.row([package, version]);
    }
    grid.print("no packages");
    let mut grid =
        Grid::new(context.answer_style, &["CALL", "OF", ">MEMORY", "SINCE", "WAITS FOR"]);
    for call in calls {
        grid.row([
            call.label,
            call.owner,
            output::bytes(call.memory_bytes),
            output::format_time(call.since),
            call.waits_for.unwrap_or_else(|| "running".to_owned()),
        ]);
    }
    grid.print("no running or waiting calls");
    Ok(())
}

async fn prune(context: &Context, api: &ApiClient, arguments: &EnvironmentPrune) -> Result<()> {
    let unused_seconds = if arguments.all { 0 } else { arguments.days * SECONDS_PER_DAY };
    let request = PruneEnvironments { unused_seconds, dry_run: arguments.dry_run };
    let pruned: PrunedEnvironments = api.post("/v1/environments/prune", &request).await?;
    if api_output::is_printed(context, &pruned) {
        return Ok(());
    }
    let (removed, freed) = if arguments.dry_run {
        ("would be removed", "would be freed")
    } else {
        ("removed", "freed")
    };
    for environment in &pruned.removed {
        let asked = environment.requirements.join(" ");
        context.style.say(format!("{removed}: {} {asked}", environment.id));
    }
    for id in &pruned.busy {
        context.style.say(format!("kept {id}: in use"));
    }
    let count = output::plural(pruned.removed.len() as u64, "environment");
    context.style.say(format!("{count} {removed}, {} {freed}", output::bytes(pruned.bytes)));
    Ok(())
}

async fn rebuild(context: &Context, api: &ApiClient, arguments: EnvironmentRebuild) -> Result<()> {
    let ids = if arguments.all {
        let all: Vec<EnvironmentSummary> = api.get("/v1/environments").await?;
        all.into_iter().map(|environment| environment.id).collect()
    } else {
        arguments.ids
    };
    let mut rebuilt: Vec<RebuiltEnvironment> = Vec::new();
    for id in ids {
        let path = format!("/v1/environments/{}/rebuild", segment(&id));
        let one: RebuiltEnvironment = api.post(&path, &serde_json::json!({})).await?;
        if context.output != OutputFormat::Json {
            tell(context, &one);
        }
        rebuilt.push(one);
    }
    if context.output == OutputFormat::Json {
        output::print_json(&rebuilt);
    }
    Ok(())
}

fn tell(context: &Context, rebuilt: &RebuiltEnvironment) {
    let id = &rebuilt.environment.id;
    if rebuilt.changed.is_empty() {
        context.style.say(format!("rebuilt {id}: no package changed"));
    }
    for (package, change) in &rebuilt.changed {
        let version =
            |version: &Option<String>| version.clone().unwrap_or_else(|| "none".to_owned());
        let (from, to) = (version(&change.from), version(&change.to));
        context.style.say(format!("rebuilt {id}: {package} {from} → {to}"));
    }
}
