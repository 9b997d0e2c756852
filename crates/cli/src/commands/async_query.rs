//! `headwater query --detach`, `--result` and `--cancel`: queries whose rows the server keeps.

use headwater_model::{AsyncQuery, JobStatus, Problem, QueryRequest};

use crate::api::{ApiClient, segment};
use crate::api_output;
use crate::commands::query::{self, RowRange};
use crate::context::Context;
use crate::error::Result;
use crate::output;
use crate::progress::ProgressDisplay;

/// Starts a query and prints its id.
pub async fn start(context: &Context, api: &ApiClient, request: QueryRequest) -> Result<()> {
    let query: AsyncQuery = api.post("/v1/queries".to_owned(), &request).await?;
    if !api_output::is_printed(context, &query) {
        output::line(&query.id);
        context.style.say(format!("print its rows with `headwater query --result {}`", query.id));
    }
    Ok(())
}

/// Waits for the end of a query and prints its rows.
pub async fn result(context: &Context, api: &ApiClient, id: &str, rows: RowRange) -> Result<()> {
    let path = format!("/v1/queries/{}", segment(id));
    let watch = ProgressDisplay::new(context.style, "querying");
    let waiting = async {
        loop {
            let query: AsyncQuery = api.get(format!("{path}?wait_ms=30000")).await?;
            if query.status.is_final() {
                return Ok::<_, Problem>(query);
            }
        }
    };
    let query = watch.until_done(waiting).await?;
    match query.error {
        Some(problem) => Err(problem),
        None => query::print_range(context, api, &format!("{path}/rows"), rows).await,
    }
}

/// Cancels a query.
pub async fn cancel(context: &Context, api: &ApiClient, id: &str) -> Result<()> {
    let path = format!("/v1/queries/{}/cancel", segment(id));
    let query: AsyncQuery = api.post(path, &serde_json::json!({})).await?;
    let text = match query.status {
        JobStatus::Cancelled => format!("cancelled query {id}"),
        JobStatus::Running => format!("cancelling query {id}"),
        _ => format!("query {id} had already ended"),
    };
    api_output::print(context, &query, text);
    Ok(())
}
