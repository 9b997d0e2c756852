//! Diffs: what differs between two refs, or between two states of one table, down to the rows.

use axum::Json;
use axum::extract::State;
use headwater_engine::{DiffOptions, TableAt};
use headwater_model::{
    CommitId, CompareRows, Diff, ObjectId, Problem, RefSpec, TableComparison, TableName,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Caller, Parameters, Segments};
use super::failure::{Answer, Failure};
use super::reference::parse;

/// The most rows of one table in a diff of refs.
const ROWS_MAX: usize = 100;

/// Rows in a diff of one table, where nothing is said, and the most.
const PAGE_ROWS: usize = 100;
const PAGE_ROWS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(diff)).routes(routes!(diff_table))
}

/// How much to say of a difference.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Amount {
    /// Rows of each table; 5 where nothing is said, 100 at the most.
    rows: Option<usize>,
    /// Whether rows are compared: `auto` where little has to be read, `always`, or `never`.
    #[param(inline)]
    compare: Option<CompareRows>,
    /// Whether columns are read for their statistics, which are bounds otherwise.
    stats: Option<bool>,
}

/// Answers what differs between two refs: tables, schemas, files, statistics, and some of the rows.
#[utoipa::path(get, path = "/v1/refs/{from}/diff/{to}",
    operation_id = "diff_refs", tag = "ref",
    params(("from" = String, Path), ("to" = String, Path), Amount),
    responses((status = 200, body = Diff), (status = "default", body = Problem)))]
async fn diff(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((from, to)): Segments<(String, String)>,
    Parameters(amount): Parameters<Amount>,
) -> Answer<Json<Diff>> {
    let options = DiffOptions {
        compare: amount.compare.unwrap_or_default(),
        statistics: amount.stats.unwrap_or_default(),
        limit: amount.rows.unwrap_or(5).min(ROWS_MAX),
        ..DiffOptions::default()
    };
    let mut diff = app.service.refs().diff(&principal, parse(&from)?, parse(&to)?, options).await?;
    for table in &mut diff.tables {
        // Pages are those of one table.
        if let Some(rows) = &mut table.rows {
            rows.next_page_token = None;
        }
    }
    Ok(Json(diff))
}

/// What to compare of a table, and how much to say.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TableAmount {
    /// The table's name at the second ref, where that is another.
    to_table: Option<String>,
    /// A snapshot of the table, in place of the one that the first ref has.
    from_snapshot: Option<i64>,
    /// A snapshot of the table, in place of the one that the second ref has.
    to_snapshot: Option<i64>,
    /// The columns that tell rows apart, with commas between them; those that the table says where none are
    /// given.
    key: Option<String>,
    /// Rows in the answer; 100 where nothing is said, 10,000 at the most, none where it is 0. Fewer come
    /// where they are long.
    limit: Option<usize>,
    /// The `next_page_token` of the page before; everything else is as it was asked for there. Each page
    /// compares anew.
    page_token: Option<String>,
    /// Whether rows are compared: `always` where nothing is said, `auto` where little has to be read, or
    /// `never`.
    #[param(inline)]
    compare: Option<CompareRows>,
    /// Whether columns are read for their statistics, which are bounds otherwise.
    stats: Option<bool>,
}

/// Answers what differs between two states of a table: schema, layout, files, statistics, and the rows.
#[utoipa::path(get, path = "/v1/refs/{from}/diff/{to}/tables/{table}",
    operation_id = "diff_table", tag = "table",
    params(("from" = String, Path), ("to" = String, Path), ("table" = String, Path), TableAmount),
    responses((status = 200, body = TableComparison), (status = "default", body = Problem)))]
async fn diff_table(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((from, to, table)): Segments<(String, String, String)>,
    Parameters(amount): Parameters<TableAmount>,
) -> Answer<Json<TableComparison>> {
    let asked = amount.asked(&from, &to, &table);
    let token = amount.page_token.as_deref().map(|text| PageToken::parse(text, &asked));
    let token = token.transpose()?;
    let table: TableName = table.parse()?;
    let to_table = amount.to_table.as_deref().map_or(Ok(table.clone()), str::parse)?;
    let key = amount.key.as_deref().unwrap_or("").split(',').map(str::trim);
    let options = DiffOptions {
        key: key.filter(|column| !column.is_empty()).map(str::to_owned).collect(),
        compare: amount.compare.unwrap_or(CompareRows::Always),
        statistics: amount.stats.unwrap_or_default(),
        skip: token.as_ref().map_or(0, |token| token.skip),
        limit: amount.limit.unwrap_or(PAGE_ROWS).min(PAGE_ROWS_MAX),
        ..DiffOptions::default()
    };
    // A page is one of the same commits as the page before, wherever the refs are now.
    let at = |written: &str, commit: Option<CommitId>| match commit {
        Some(commit) => Ok(RefSpec::Commit(commit.to_string())),
        None => parse(written),
    };
    let from = TableAt {
        reference: at(&from, token.as_ref().map(|token| token.from))?,
        table,
        snapshot: amount.from_snapshot,
    };
    let to = TableAt {
        reference: at(&to, token.as_ref().map(|token| token.to))?,
        table: to_table,
        snapshot: amount.to_snapshot,
    };
    let mut found = app.service.refs().diff_table(&principal, from, to, options).await?;
    let (from, to) = (found.from, found.to);
    if let Some(rows) = &mut found.diff.rows {
        let skip = rows.next_page_token.take().and_then(|skip| skip.parse().ok());
        let token = skip.map(|skip| PageToken { from, to, skip });
        rows.next_page_token = token.map(|token| token.text(&asked));
    }
    Ok(Json(found))
}

impl TableAmount {
    /// What tells a request from others, apart from which page of its answer it asks for.
    fn asked(&self, from: &str, to: &str, table: &str) -> String {
        let TableAmount { to_table, from_snapshot, to_snapshot, key, .. } = self;
        let compare = self.compare.unwrap_or(CompareRows::Always);
        let asked = (from, to, table, to_table, from_snapshot, to_snapshot, key, compare);
        ObjectId::of(format!("{asked:?}").as_bytes()).short()
    }
}

/// More rows than any table has.
const SKIP_MAX: u64 = 1 << 60;

/// Where a page begins: after so many rows of what differs between two commits.
#[derive(Debug, PartialEq, Eq)]
struct PageToken {
    from: CommitId,
    to: CommitId,
    skip: u64,
}

impl PageToken {
    fn text(&self, asked: &str) -> String {
        format!("{}-{}-{}-{asked}", self.from, self.to, self.skip)
    }

    fn parse(text: &str, asked: &str) -> Answer<Self> {
        let read = || {
            let mut parts = text.split('-');
            let from = parts.next()?.parse().ok()?;
            let to = parts.next()?.parse().ok()?;
            let skip = parts.next()?.parse().ok().filter(|skip| *skip <= SKIP_MAX)?;
            (parts.next()? == asked && parts.next().is_none()).then_some(PageToken {
                from,
                to,
                skip,
            })
        };
        read().ok_or_else(|| {
            let hint =
                "Give the `next_page_token` of the page before, and all else as it was there.";
            Failure::invalid("the page token is not one of this request", hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_page_of_the_same_request_only() {
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
