//! `headwater restriction`.

use headwater_model::{CreateRestriction, Restriction as Row};

use crate::api::ApiClient;
use crate::api_output::{self, fetch};
use crate::arguments::{Restriction, RestrictionCreate};
use crate::commands::remove_if_exists::{self, RemovalTarget};
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::Grid;

/// Runs `headwater restriction`.
pub async fn restriction(context: &Context, api: &ApiClient, arguments: Restriction) -> Result<()> {
    match arguments {
        Restriction::Ls => list(context, api).await,
        Restriction::Create(new) => create(context, api, new).await,
        Restriction::Rm { name, if_exists } => {
            let (what, list) = ("restriction", "/v1/restrictions");
            let removal = RemovalTarget { what, name: &name, list, if_exists };
            remove_if_exists::remove(context, api, removal).await
        }
    }
}

async fn create(context: &Context, api: &ApiClient, arguments: RestrictionCreate) -> Result<()> {
    let RestrictionCreate { name, on, column, using, to, replace } = arguments;
    let table = on.parse().map_err(error::from_error)?;
    let new = CreateRestriction { name, table, column, using, to, replace, reference: None };
    let created: Row = api.post("/v1/restrictions", &new).await?;
    api_output::print(context, &created, format!("created {created} on {}", created.table));
    Ok(())
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(all) = fetch::<Vec<Row>>(context, api, "/v1/restrictions").await? else {
        return Ok(());
    };
    let columns = ["NAME", "KIND", "TABLE", "COLUMN", "USING", "TO"];
    let mut grid = Grid::new(context.answer_style, &columns);
    for one in all {
        let kind = one.kind().to_owned();
        let (column, to) = (one.column.unwrap_or_default(), one.to.join(", "));
        grid.row([one.name, kind, one.table.to_string(), column, one.using, to]);
    }
    grid.print("no row filters or column masks; see `headwater restriction create --help`");
    Ok(())
}
