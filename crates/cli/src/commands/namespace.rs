//! `headwater namespace`.

use headwater_model::{ErrorCode, Namespace as NamespaceRow};
use serde_json::json;

use crate::api::{ApiClient, segment};
use crate::api_output;
use crate::arguments::{Namespace, NamespaceRm, OutputFormat};
use crate::commands::branch::removed_if_exists;
use crate::commands::reference;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};

/// Runs `headwater namespace`.
pub async fn namespace(context: &Context, api: &ApiClient, arguments: Namespace) -> Result<()> {
    match arguments {
        Namespace::Ls(arguments) => {
            let at = reference(context, arguments.reference)?;
            let path = format!("/v1/refs/{}/namespaces", segment(&at));
            list(context, &api.get::<Vec<NamespaceRow>>(path).await?);
        }
        Namespace::Create(arguments) => {
            let at = reference(context, arguments.on.reference)?;
            let path = format!("/v1/branches/{}/namespaces", segment(&at));
            let made: NamespaceRow = api.post(path, &json!({ "name": arguments.name })).await?;
            api_output::print(context, &made, format!("created namespace {} on {at}", made.name));
        }
        Namespace::Rm(arguments) => {
            let NamespaceRm { namespace, if_exists } = arguments;
            let (at, name) = (reference(context, namespace.on.reference)?, namespace.name);
            let path = format!("/v1/branches/{}/namespaces/{}", segment(&at), segment(&name));
            let missing = if_exists.then_some(ErrorCode::NamespaceNotFound);
            removed_if_exists(context, "namespace", &name, missing, api.delete(path).await)?;
        }
    }
    Ok(())
}

fn list(context: &Context, namespaces: &[NamespaceRow]) {
    if context.output == OutputFormat::Json {
        return output::print_json(&namespaces);
    }
    let mut grid = Grid::new(context.answer_style, &["NAMESPACE"]);
    for namespace in namespaces {
        grid.row([&namespace.name]);
    }
    grid.print("no namespaces");
}
