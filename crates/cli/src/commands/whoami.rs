//! `headwater whoami`.

use headwater_model::Whoami;

use crate::api::Api;
use crate::arguments::OutputFormat;
use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Runs `headwater whoami`.
pub async fn whoami(context: &Context, api: &Api) -> Result<()> {
    let found: Whoami = api.get("/v1/whoami").await?;
    if context.output == OutputFormat::Json {
        output::print_json(&found);
        return Ok(());
    }
    output::line(format!("{}, by {}", found.name, found.method.as_str()));
    if !found.roles.is_empty() {
        output::line(format!("roles: {}", found.roles.join(", ")));
    }
    for permission in found.permissions {
        output::line(permission);
    }
    for scope in found.scopes.unwrap_or_default() {
        output::line(format!("limited by the token to {scope}"));
    }
    Ok(())
}
