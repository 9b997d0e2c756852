//! `headwater query`: runs SQL statements and prints the rows of the last one.

use std::collections::BTreeMap;
use std::io::Read;

use headwater_model::{ErrorCode, Problem, QueryRequest, RefSpec};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;

use crate::api::{ApiClient, ApiRequest, JOB_HEADER};
use crate::arguments::{OutputFormat, Query};
use crate::commands::{async_query, reference, run};
use crate::context::Context;
use crate::error::{self, Result};
use crate::output;
use crate::progress::ProgressDisplay;
use crate::query_rows::{self, RowReader};
use crate::terminal::Tone;

/// Maximum number of rows that the format `table` shows, unless an option sets another limit.
const ROWS_SHOWN: u64 = 100;

/// Runs `headwater query`.
pub async fn query(context: &Context, api: &ApiClient, arguments: Query) -> Result<()> {
    let shown = row_limit(context.output, arguments.limit);
    if let Some(id) = &arguments.result {
        return async_query::result(context, api, id, RowRange { offset: arguments.offset, shown })
            .await;
    }
    if let Some(id) = &arguments.cancel {
        return async_query::cancel(context, api, id).await;
    }
    let request = QueryRequest {
        sql: statement(&arguments)?,
        reference: Some(parse_ref(&reference(context, arguments.at.reference)?)?),
        parameters: parameters(&arguments.parameters)?,
        namespace: arguments.namespace,
        memory_bytes_max: arguments.memory,
        ..QueryRequest::default()
    };
    if arguments.detach {
        let limit = arguments.limit.filter(|limit| *limit > 0);
        return async_query::start(context, api, QueryRequest { limit, ..request }).await;
    }
    execute(context, api, request, shown).await
}

/// A range of rows to print.
#[derive(Debug, Clone, Copy)]
pub struct RowRange {
    /// Number of rows to skip.
    pub offset: u64,
    /// Maximum number of rows; `None` for all.
    pub shown: Option<u64>,
}

/// Prints a range of the rows that the API returns for a path.
pub async fn print_range(
    context: &Context,
    api: &ApiClient,
    path: &str,
    rows: RowRange,
) -> Result<()> {
    let RowRange { offset, shown } = rows;
    let limit = limit(context, shown).map(|limit| format!("&limit={limit}"));
    let call = ApiRequest::get(format!("{path}?offset={offset}{}", limit.unwrap_or_default()));
    let watch = ProgressDisplay::new(context.style, "reading");
    let call = call.accept(media_type(context.output));
    let work = answer(context, api, call, RowOutputOptions { shown, watch: &watch, done: None });
    watch.until_done(work).await
}

/// Returns the number of rows to request: one extra row, to detect if more rows follow.
fn limit(context: &Context, shown: Option<u64>) -> Option<u64> {
    shown.map(|rows| rows.saturating_add(u64::from(is_table(context))))
}

/// Parses a ref.
pub fn parse_ref(text: &str) -> Result<RefSpec> {
    text.parse().map_err(error::from_error)
}

/// Runs a statement and prints at most `shown` rows. Ctrl-C cancels the statement.
pub async fn execute(
    context: &Context,
    api: &ApiClient,
    request: QueryRequest,
    shown: Option<u64>,
) -> Result<()> {
    let request = QueryRequest { limit: limit(context, shown), ..request };
    let call = ApiRequest::get("/v1/query").method(hyper::Method::POST);
    let call = call.accept(media_type(context.output)).json(&request)?;
    let watch = ProgressDisplay::new(context.style, "querying");
    let done = done(&request.sql);
    let work = answer(context, api, call, RowOutputOptions { shown, watch: &watch, done });
    tokio::select! {
        outcome = watch.until_done(work) => {
            outcome.map_err(|problem| problem.with_excerpt(&request.sql))
        }
        // On Ctrl-C, only return: the server cancels the statement when the connection closes.
        _ = tokio::signal::ctrl_c() => Err(cancelled()),
    }
}

fn media_type(output: OutputFormat) -> &'static str {
    match output {
        OutputFormat::Table => "application/vnd.apache.arrow.stream",
        OutputFormat::Json => "application/json",
        OutputFormat::Ndjson => "application/x-ndjson",
        OutputFormat::Csv => "text/csv",
    }
}

/// Parses values as JSON numbers, booleans, nulls or strings. Any other value is text.
fn parameters(given: &[String]) -> Result<BTreeMap<String, Value>> {
    let typed = |text: String| match serde_json::from_str(&text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Null | Value::String(_))) => value,
        _ => Value::String(text),
    };
    let given = run::pairs(given, "param")?;
    Ok(given.into_iter().map(|(name, text)| (name, typed(text))).collect())
}

fn cancelled() -> Problem {
    Problem::new(ErrorCode::Cancelled, "stopped")
}

/// Returns the error for a detached query on an in-process server, which ends with the command.
pub fn detached_in_process() -> Problem {
    let message = "`--detach` cannot be combined with `--in-process`";
    Problem::new(ErrorCode::InvalidArgument, message)
        .with_hint("Remove `--in-process`: its server ends with the command.")
}

fn is_table(context: &Context) -> bool {
    context.output == OutputFormat::Table
}

fn row_limit(output: OutputFormat, limit: Option<u64>) -> Option<u64> {
    match limit {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => (output == OutputFormat::Table).then_some(ROWS_SHOWN),
    }
}

fn statement(arguments: &Query) -> Result<String> {
    match (&arguments.file, arguments.sql.as_deref()) {
        (Some(file), _) => std::fs::read_to_string(file)
            .map_err(error::from_io(&format!("read `{}`", file.display()))),
        (None, Some("-")) => {
            let mut sql = String::new();
            let read = std::io::stdin().read_to_string(&mut sql);
            read.map(|_| sql).map_err(error::from_io("read the statement from standard input"))
        }
        (None, sql) => Ok(sql.unwrap_or_default().to_owned()),
    }
}

/// Prints the rows of a response in the chosen format.
pub async fn print(context: &Context, api: &ApiClient, call: ApiRequest) -> Result<()> {
    let watch = ProgressDisplay::new(context.style, "reading");
    let call = call.accept(media_type(context.output));
    let work =
        answer(context, api, call, RowOutputOptions { shown: None, watch: &watch, done: None });
    watch.until_done(work).await
}

/// Options for printing rows.
#[derive(Clone, Copy)]
struct RowOutputOptions<'a> {
    /// Maximum number of rows that the format `table` shows; `None` for all.
    shown: Option<u64>,
    watch: &'a ProgressDisplay,
    /// The message for a statement that changed neither rows nor tables.
    done: Option<&'static str>,
}

/// Returns the message after a statement about users and rights, such as `granted`; `None` for
/// other statements.
fn done(sql: &str) -> Option<&'static str> {
    let last = sql.rsplit(';').find(|statement| !statement.trim().is_empty())?;
    let verb = last.split_whitespace().next()?.to_ascii_uppercase();
    let verbs = [
        ("GRANT", "granted"),
        ("REVOKE", "revoked"),
        ("CREATE", "created"),
        ("ALTER", "altered"),
        ("DROP", "dropped"),
    ];
    verbs.into_iter().find(|(name, _)| *name == verb).map(|(_, done)| done)
}

async fn answer(
    context: &Context,
    api: &ApiClient,
    call: ApiRequest,
    to: RowOutputOptions<'_>,
) -> Result<()> {
    let response = api.send(call).await?;
    let job = response.headers().get(JOB_HEADER).and_then(|id| id.to_str().ok());
    let job = job.unwrap_or_default().to_owned();
    let outcome = if is_table(context) {
        print_table(context, response, to).await
    } else {
        copy(context, response, to.watch).await
    };
    if let Err(cut) = outcome {
        // The statement failed, so the server aborted the stream. The job contains the error.
        return Err(api.job(&job).await.ok().and_then(|job| job.error).unwrap_or(cut));
    }
    Ok(())
}

async fn copy(
    context: &Context,
    response: Response<Incoming>,
    watch: &ProgressDisplay,
) -> Result<()> {
    let mut body = response.into_body();
    let mut copied = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(error::unexpected)?;
        if let Some(bytes) = frame.data_ref() {
            if context.answer_style.is_terminal() {
                watch.end();
            }
            copied += bytes.len() as u64;
            watch.set(format!("{} copied", output::bytes(copied)));
            output::write(bytes);
        }
    }
    Ok(())
}

async fn print_table(
    context: &Context,
    response: Response<Incoming>,
    to: RowOutputOptions<'_>,
) -> Result<()> {
    let mut reader = RowReader::default();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(error::unexpected)?;
        if let Ok(bytes) = frame.into_data() {
            reader.push(bytes)?;
            to.watch.set(format!("{} received", output::plural(reader.rows, "row")));
        }
    }
    reader.finish().map_err(error::unexpected)?;
    to.watch.end();
    let Some(schema) = reader.schema() else { return Ok(()) };
    let total = reader.rows;
    let limit = to.shown.unwrap_or(u64::MAX);
    if let Some(plans) = query_rows::plans(&schema, &reader.batches) {
        plans.iter().for_each(output::line);
        return Ok(());
    }
    if let Some(done) = to.done.filter(|_| query_rows::changed_nothing(&schema, &reader.batches)) {
        context.style.say(done);
        return Ok(());
    }
    if !schema.fields().is_empty() {
        let grid = query_rows::grid(context.answer_style, &schema, &reader.batches, limit)?;
        output::line(grid.text());
    }
    if total > limit {
        let remark =
            format!("only the first {}; `--limit 0` prints all", output::plural(limit, "row"));
        context.style.say(context.style.paint(Tone::Faint, remark));
    } else if context.style.is_terminal() {
        let remark = output::plural(total, "row");
        context.style.say(context.style.paint(Tone::Faint, remark));
    }
    Ok(())
}
