//! `headwater status`.

use headwater_model::{Branch, ErrorCode, MAIN_BRANCH};
use serde_json::json;

use crate::api::{ApiClient, segment};
use crate::arguments::OutputFormat;
use crate::connect;
use crate::context::Context;
use crate::error::Result;
use crate::lake::{Lake, RemoteLake};
use crate::output;
use crate::terminal::Tone;

/// Runs `headwater status`. Starts no server.
pub async fn status(context: &Context) -> Result<()> {
    let lake = match context.lake()? {
        Lake::Folder(lake) => lake,
        Lake::Remote(remote) => return remote_status(context, &remote).await,
    };
    let branch = lake.active_branch();
    let answering = connect::connect_if_running(context, &lake).await;
    let server = match &answering {
        Some((api, record)) => Some((connect::health(api).await?, record)),
        None => None,
    };
    let exists = match &answering {
        Some((api, _)) => Some(exists(api, &branch).await?),
        None => None,
    };
    if context.output == OutputFormat::Json {
        let health = server.as_ref().map(|(health, _)| health);
        let project = lake.project();
        output::print_json(&json!({
            "lake": lake.path, "project": project, "branch": branch, "branch_exists": exists,
            "server": health,
        }));
        return Ok(());
    }
    let style = context.answer_style;
    let state = match &server {
        None => "not running; the next command starts the server".to_owned(),
        Some((health, record)) => {
            let scheme = if record.tls { "https" } else { "http" };
            let http = record.http.as_deref().map(|http| format!(", {scheme}://{http}"));
            let jobs = output::plural(health.jobs_running.unwrap_or_default(), "job");
            let postgres =
                record.postgres.as_deref().map(|address| format!(", postgres {address}"));
            let s3 = record.s3.as_deref().map(|address| format!(", s3 {address}"));
            let listeners = [http, postgres, s3].map(Option::unwrap_or_default).concat();
            let (pid, version) = (health.pid.unwrap_or(record.pid), &health.version);
            format!(
                "{}, process {pid}, version {version}{listeners}, {jobs} running",
                health.status
            )
        }
    };
    let project = lake.project().map_or("none".into(), |path| path.display().to_string());
    for (name, value) in [
        ("lake", lake.path.display().to_string()),
        ("project", project),
        ("branch", branch_state(branch, exists)),
        ("server", state),
    ] {
        output::line(format!("{} {value}", style.paint(Tone::Faint, format!("{name:<8}"))));
    }
    Ok(())
}

/// Prints the state of a server on another machine.
async fn remote_status(context: &Context, lake: &RemoteLake) -> Result<()> {
    let api = connect::remote_api(context, lake)?;
    let health = connect::health(&api).await?;
    let branch = lake.profile.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned());
    let exists = exists(&api, &branch).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&json!({
            "profile": lake.name, "url": lake.profile.url, "branch": branch,
            "branch_exists": exists, "server": health,
        }));
        return Ok(());
    }
    for (name, value) in [
        ("profile", lake.name.clone()),
        ("url", lake.profile.url.clone()),
        ("branch", branch_state(branch, Some(exists))),
        ("server", format!("{}, version {}", health.status, health.version)),
    ] {
        let name = context.answer_style.paint(Tone::Faint, format!("{name:<8}"));
        output::line(format!("{name} {value}"));
    }
    Ok(())
}

async fn exists(api: &ApiClient, branch: &str) -> Result<bool> {
    match api.get::<Branch>(format!("/v1/branches/{}", segment(branch))).await {
        Ok(_) => Ok(true),
        Err(problem) if problem.code == ErrorCode::RefNotFound => Ok(false),
        Err(problem) => Err(problem),
    }
}

fn branch_state(branch: String, exists: Option<bool>) -> String {
    if exists == Some(false) {
        return format!("{branch} (missing); run `headwater checkout {MAIN_BRANCH}`");
    }
    branch
}
