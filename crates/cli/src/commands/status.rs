//! `headwater status`: the lake, its server and its active branch.

use serde_json::json;

use crate::arguments::OutputFormat;
use crate::connect;
use crate::context::Context;
use crate::error::Result;
use crate::output;
use crate::terminal::Tone;

/// Carries out `headwater status`; starts nothing.
pub async fn status(context: &Context) -> Result<()> {
    let lake = context.lake_folder()?;
    let branch = lake.active_branch();
    let answering = connect::answering(context, &lake).await;
    let server = match &answering {
        Some((api, record)) => Some((connect::health(api).await?, record)),
        None => None,
    };
    if context.output == OutputFormat::Json {
        let health = server.as_ref().map(|(health, _)| health);
        let project = lake.project();
        output::print_json(&json!({
            "lake": lake.path, "project": project, "branch": branch, "server": health,
        }));
        return Ok(());
    }
    let style = context.answer_style;
    let state = match &server {
        None => "not running; the next command starts it".to_owned(),
        Some((health, record)) => {
            let http = record.http.as_deref().map(|http| format!(", http://{http}"));
            let jobs = output::plural(health.jobs_running, "job");
            let (pid, version, http) = (health.pid, &health.version, http.unwrap_or_default());
            format!("{}, process {pid}, version {version}{http}, {jobs} running", health.status)
        }
    };
    let project = lake.project().map_or("none".into(), |path| path.display().to_string());
    for (name, value) in [
        ("lake", lake.path.display().to_string()),
        ("project", project),
        ("branch", branch),
        ("server", state),
    ] {
        output::line(format!("{} {value}", style.paint(Tone::Faint, format!("{name:<8}"))));
    }
    Ok(())
}
