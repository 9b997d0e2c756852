//! Diffs of two refs, or of two states of one table, including rows.

use axum::Json;
use axum::extract::State;
use headwater_model::{
    CommitId, CompareRows, Diff, ObjectId, Problem, RefSpec, TableComparison, TableName,
};
use headwater_service::{ComparedTable, DiffOptions};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Caller, Parameters, Segments, parse_ref};
use crate::server_state::App;

/// Maximum number of rows of a table in a diff of refs.
const ROWS_MAX: usize = 100;

/// Default number of rows per page in a diff of one table.
const PAGE_ROWS: usize = 100;

/// Maximum number of rows per page in a diff of one table.
const PAGE_ROWS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(diff)).routes(routes!(diff_table))
}

/// Options of a diff of refs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DiffParameters {
    /// Maximum number of rows of each table; 5 by default, at most 100.
    rows: Option<usize>,
    /// Comparison of rows: `auto` (if few bytes must be read; the default), `always` or `never`.
    #[param(inline)]
    compare: Option<CompareRows>,
    /// Read the columns to compute exact statistics. Otherwise, statistics are bounds from
    /// metadata.
    stats: Option<bool>,
}

/// Compares two refs: tables, schemas, files, statistics, and some of the rows.
#[utoipa::path(get, path = "/v1/refs/{from}/diff/{to}",
    operation_id = "diff_refs", tag = "ref",
    params(("from" = String, Path), ("to" = String, Path), DiffParameters),
    responses((status = 200, body = Diff), (status = "default", body = Problem)))]
async fn diff(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((from, to)): Segments<(String, String)>,
    Parameters(parameters): Parameters<DiffParameters>,
) -> HandlerResult<Json<Diff>> {
    let options = DiffOptions {
        compare: parameters.compare.unwrap_or_default(),
        statistics: parameters.stats.unwrap_or_default(),
        limit: parameters.rows.unwrap_or(5).min(ROWS_MAX),
        ..DiffOptions::default()
    };
    let mut diff =
        app.service.refs().diff(&principal, parse_ref(&from)?, parse_ref(&to)?, options).await?;
    for table in &mut diff.tables {
        // Remove the token of the next page, because only the diff of a single table has pages.
        if let Some(rows) = &mut table.rows {
            rows.next_page_token = None;
        }
    }
    Ok(Json(diff))
}

/// Options of a diff of one table.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TableDiffParameters {
    /// The table's name at the second ref, if it differs.
    to_table: Option<String>,
    /// Snapshot on the first side; by default the table's current snapshot at the first ref.
    from_snapshot: Option<i64>,
    /// Snapshot on the second side; by default the table's current snapshot at the second ref.
    to_snapshot: Option<i64>,
    /// Columns that identify rows, separated by commas; by default the table's identifier columns.
    key: Option<String>,
    /// Maximum number of rows; 100 by default, at most 10,000. Fewer rows are returned if they are
    /// long.
    limit: Option<usize>,
    /// The `next_page_token` of the previous page. All other parameters must be unchanged. The
    /// server compares the tables again for each page.
    page_token: Option<String>,
    /// Comparison of rows: `always` (the default), `auto` (if few bytes must be read) or `never`.
    #[param(inline)]
    compare: Option<CompareRows>,
    /// Read the columns to compute exact statistics. Otherwise, statistics are bounds from
    /// metadata.
    stats: Option<bool>,
}

/// Compares two states of a table: schema, layout, files, statistics, and rows.
#[utoipa::path(get, path = "/v1/refs/{from}/diff/{to}/tables/{table}",
    operation_id = "diff_table", tag = "table",
    params(("from" = String, Path), ("to" = String, Path), ("table" = String, Path), TableDiffParameters),
    responses((status = 200, body = TableComparison), (status = "default", body = Problem)))]
async fn diff_table(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((from, to, table)): Segments<(String, String, String)>,
    Parameters(parameters): Parameters<TableDiffParameters>,
) -> HandlerResult<Json<TableComparison>> {
    let digest = parameters.digest(&from, &to, &table);
    let token = parameters.page_token.as_deref().map(|text| PageToken::parse(text, &digest));
    let token = token.transpose()?;
    let table: TableName = table.parse()?;
    let to_table = parameters.to_table.as_deref().map_or(Ok(table.clone()), str::parse)?;
    let key = parameters.key.as_deref().unwrap_or("").split(',').map(str::trim);
    let options = DiffOptions {
        key: key.filter(|column| !column.is_empty()).map(str::to_owned).collect(),
        compare: parameters.compare.unwrap_or(CompareRows::Always),
        statistics: parameters.stats.unwrap_or_default(),
        skip: token.as_ref().map_or(0, |token| token.skip),
        limit: parameters.limit.unwrap_or(PAGE_ROWS).min(PAGE_ROWS_MAX),
        ..DiffOptions::default()
    };
    // Compare the same commits for all pages, even if a ref has moved since the first page.
    let at = |written: &str, commit: Option<CommitId>| match commit {
        Some(commit) => Ok(RefSpec::Commit(commit.to_string())),
        None => parse_ref(written),
    };
    let from = ComparedTable {
        reference: at(&from, token.as_ref().map(|token| token.from))?,
        table,
        snapshot: parameters.from_snapshot,
    };
    let to = ComparedTable {
        reference: at(&to, token.as_ref().map(|token| token.to))?,
        table: to_table,
        snapshot: parameters.to_snapshot,
    };
    let mut comparison = app.service.refs().diff_table(&principal, from, to, options).await?;
    let (from, to) = (comparison.from, comparison.to);
    if let Some(rows) = &mut comparison.diff.rows {
        let skip = rows.next_page_token.take().and_then(|skip| skip.parse().ok());
        let token = skip.map(|skip| PageToken { from, to, skip });
        rows.next_page_token = token.map(|token| token.text(&digest));
    }
    Ok(Json(comparison))
}

impl TableDiffParameters {
    /// Returns a hash of all parameters except those that select the page.
    fn digest(&self, from: &str, to: &str, table: &str) -> String {
        let TableDiffParameters { to_table, from_snapshot, to_snapshot, key, .. } = self;
        let compare = self.compare.unwrap_or(CompareRows::Always);
        let request = (from, to, table, to_table, from_snapshot, to_snapshot, key, compare);
        ObjectId::of(format!("{request:?}").as_bytes()).short()
    }
}

/// Maximum number of rows before the start of a page.
const SKIP_MAX: u64 = 1 << 60;

/// The position of a page: the compared commits, and the number of rows before the start of the
/// page.
#[derive(Debug, PartialEq, Eq)]
struct PageToken {
    from: CommitId,
    to: CommitId,
    skip: u64,
}

impl PageToken {
    fn text(&self, digest: &str) -> String {
        format!("{}-{}-{}-{digest}", self.from, self.to, self.skip)
    }

    fn parse(text: &str, digest: &str) -> HandlerResult<Self> {
        let read = || {
            let mut parts = text.split('-');
            let from = parts.next()?.parse().ok()?;
            let to = parts.next()?.parse().ok()?;
            let skip = parts.next()?.parse().ok().filter(|skip| *skip <= SKIP_MAX)?;
            (parts.next()? == digest && parts.next().is_none()).then_some(PageToken {
                from,
                to,
                skip,
            })
        };
        read().ok_or_else(|| {
            let hint = "Send the `next_page_token` of the previous page with the same parameters.";
            ErrorResponse::invalid("the page token does not belong to this request", hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_valid_for_the_same_request_only() {
        let (from, to) = (ObjectId::of(b"from"), ObjectId::of(b"to"));
        let token = PageToken { from, to, skip: 100 };
        let text = token.text("a");
        assert_eq!(PageToken::parse(&text, "a").ok(), Some(token));
        assert!(PageToken::parse(&text, "b").is_err());
        assert!(PageToken::parse("100", "a").is_err());
        let far = PageToken { from, to, skip: u64::MAX / 2 };
        assert!(PageToken::parse(&far.text("a"), "a").is_err());
    }
}
