//! `headwater run --openlineage`: appends the events of a run to a file, even if the run failed.

use std::io::Write;
use std::path::Path;

use headwater_model::{Job, JobEvent, QueryRequest, RefSpec, RunRequest};
use headwater_openlineage::{ColumnLineage, RunIdentity};

use crate::api::{ApiClient, ApiRequest, collect, segment};
use crate::arguments::Run;
use crate::commands::run;
use crate::context::Context;
use crate::error::{self, Result};

/// Runs the project and appends its events to a file.
pub async fn send(
    context: &Context,
    api: &ApiClient,
    request: &RunRequest,
    arguments: &Run,
    path: &Path,
) -> Result<()> {
    // Open the file first, so that a wrong path is reported before the run.
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    let mut file = file.map_err(error::from_io(&format!("open `{}`", path.display())))?;
    let job: Job = api.post("/v1/runs", request).await?;
    let outcome = run::follow(context, api, request, &job).await;
    // The tables of a failed run were not merged, so the target branch has no lineage of this run.
    let columns = if outcome.is_ok() { column_sources(api, &job).await } else { Vec::new() };
    let lines = lines(api, &job, &arguments.openlineage_namespace, &columns).await;
    let written = lines.and_then(|lines| {
        let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(error::from_io(&format!("write `{}`", path.display())))
    });
    outcome.and(written)
}

/// Returns the recorded column lineage of the run's target branch; nothing if it cannot be read.
async fn column_sources(api: &ApiClient, job: &Job) -> Vec<ColumnLineage> {
    let reference = job.reference.as_deref().and_then(|text| text.parse::<RefSpec>().ok());
    let sql = "SELECT * FROM system.lineage WHERE \"column\" IS NOT NULL".to_owned();
    let request = QueryRequest { sql, reference, ..QueryRequest::default() };
    let call = ApiRequest::get("/v1/query").method(hyper::Method::POST);
    let Ok(call) = call.accept("application/x-ndjson").json(&request) else { return Vec::new() };
    let Ok(response) = api.send(call).await else { return Vec::new() };
    let Ok(body) = collect(response).await else { return Vec::new() };
    let rows = body.split(|byte| *byte == b'\n');
    let rows = rows.filter_map(|row| serde_json::from_slice::<serde_json::Value>(row).ok());
    rows.filter_map(|row| ColumnLineage::from_row(&row)).collect()
}

/// Returns the events of a run that ended, one JSON object per line.
async fn lines(
    api: &ApiClient,
    job: &Job,
    namespace: &str,
    columns: &[ColumnLineage],
) -> Result<String> {
    let path = format!("/v1/jobs/{}/events", segment(&job.id.to_string()));
    let request = ApiRequest::get(path).accept("application/x-ndjson");
    let body = collect(api.send(request).await?).await?;
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let events: std::result::Result<Vec<JobEvent>, _> = lines.map(serde_json::from_slice).collect();
    let identity = RunIdentity {
        job: job.id,
        namespace: namespace.to_owned(),
        project: job.summary.split([' ', ',']).next().unwrap_or_default().to_owned(),
        branch: job.reference.clone().unwrap_or_default(),
    };
    let events = events.map_err(error::unexpected)?;
    let events = headwater_openlineage::events(&identity, &events, columns);
    let mut text = String::new();
    for event in events {
        text.push_str(&event.to_string());
        text.push('\n');
    }
    Ok(text)
}
