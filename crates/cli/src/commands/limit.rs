//! `headwater limit`.

use headwater_model::{Limit as Row, Limits};
use hyper::Method;

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::Limit;
use crate::commands::remove_if_exists::{self, RemovalTarget};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};

/// Runs `headwater limit`.
pub async fn limit(context: &Context, api: &ApiClient, arguments: Limit) -> Result<()> {
    match arguments {
        Limit::Ls => list(context, api).await,
        Limit::Set { name, jobs, memory, bytes_per_day, money_per_day } => {
            let limits = Limits { jobs, memory_bytes: memory, bytes_per_day, money_per_day };
            let set: Row = api.call(Method::PUT, path(&name), &limits).await?;
            api_output::print(context, &set, format!("set the limits of {}", set.name));
            Ok(())
        }
        Limit::Rm { name, if_exists } => {
            let removal =
                RemovalTarget { what: "limit of", name: &name, list: "/v1/limits", if_exists };
            remove_if_exists::remove(context, api, removal).await
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/limits/{}", segment(name))
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(all) = fetch::<Vec<Row>>(context, api, "/v1/limits").await? else { return Ok(()) };
    let columns = ["NAME", ">JOBS", ">MEMORY", ">BYTES PER DAY", ">MONEY PER DAY", "BY", "CHANGED"];
    let mut grid = Grid::new(context.answer_style, &columns);
    for Row { name, limits, changed, by } in all {
        let size = |bytes: Option<u64>| bytes.map(output::bytes).unwrap_or_default();
        grid.row([
            name,
            limits.jobs.map(|jobs| jobs.to_string()).unwrap_or_default(),
            size(limits.memory_bytes),
            size(limits.bytes_per_day),
            limits.money_per_day.map(|money| money.to_string()).unwrap_or_default(),
            by,
            output::format_time(changed),
        ]);
    }
    grid.print("no limits; set some with `headwater limit set NAME --jobs N`");
    Ok(())
}
