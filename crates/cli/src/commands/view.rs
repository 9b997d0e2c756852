//! `headwater view`: list, show, drop.

use headwater_model::{ErrorCode, SqlView};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{TableLs, View, ViewGet, ViewRm};
use crate::commands::branch::removed_if_exists;
use crate::commands::{reference, with_other_noun_hint};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};
use crate::terminal::Tone;

/// Runs `headwater view`.
pub async fn view(context: &Context, api: &ApiClient, arguments: View) -> Result<()> {
    match arguments {
        View::Ls(arguments) => list(context, api, arguments).await,
        View::Get(arguments) => get(context, api, arguments).await,
        View::Rm(arguments) => remove(context, api, arguments).await,
    }
}

async fn list(context: &Context, api: &ApiClient, arguments: TableLs) -> Result<()> {
    let at = reference(context, arguments.at.reference)?;
    let mut path = format!("/v1/refs/{}/views", segment(&at));
    if let Some(namespace) = &arguments.namespace {
        path.push_str(&format!("?namespace={}", segment(namespace)));
    }
    let Some(views) = fetch::<Vec<SqlView>>(context, api, path).await? else { return Ok(()) };
    let mut grid = Grid::new(context.answer_style, &["VIEW", "COLUMNS", "DIALECTS", "UPDATED"]);
    for view in views {
        let columns: Vec<&str> = view.columns.iter().map(|column| column.name.as_str()).collect();
        let dialects: Vec<&str> = view.queries.iter().map(|query| query.dialect.as_str()).collect();
        grid.row([
            view.name.to_string(),
            columns.join(", "),
            dialects.join(", "),
            view.updated.map_or(String::new(), output::format_time),
        ]);
    }
    grid.print(&format!("no views on {at}; create one with `CREATE VIEW NAME AS SELECT …`"));
    Ok(())
}

async fn get(context: &Context, api: &ApiClient, arguments: ViewGet) -> Result<()> {
    let at = reference(context, arguments.at.reference)?;
    let path = format!("/v1/refs/{}/views/{}", segment(&at), segment(&arguments.view));
    let view: SqlView = api.get(path).await.map_err(with_other_noun_hint("table", "get"))?;
    if api_output::is_printed(context, &view) {
        return Ok(());
    }
    let style = context.answer_style;
    output::line(style.paint(Tone::Strong, &view.name));
    for (label, value) in [
        ("version", view.version.to_string()),
        ("updated", view.updated.map_or("never".into(), output::format_time)),
        ("metadata", view.metadata_location.clone()),
    ] {
        output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{label:<10}"))));
    }
    for query in &view.queries {
        output::line(style.paint(Tone::Faint, format!("  dialect {}", query.dialect)));
        for line in query.sql.lines() {
            output::line(format!("    {line}"));
        }
    }
    let mut grid = Grid::new(style, &["COLUMN", "TYPE"]);
    for column in &view.columns {
        grid.row([column.name.as_str(), &column.data_type]);
    }
    grid.print("no columns");
    Ok(())
}

async fn remove(context: &Context, api: &ApiClient, arguments: ViewRm) -> Result<()> {
    let branch = reference(context, arguments.on.reference)?;
    let name = &arguments.view;
    let path = format!("/v1/branches/{}/views/{}", segment(&branch), segment(name));
    let deletion = api.delete(path).await.map_err(with_other_noun_hint("table", "rm"));
    let missing = arguments.if_exists.then_some(ErrorCode::TableNotFound);
    removed_if_exists(context, "view", name, missing, deletion)
}
