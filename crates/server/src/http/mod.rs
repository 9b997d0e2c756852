//! The HTTP API: one file per noun, JSON requests and responses, and [`headwater_model::Problem`]
//! for errors.
//!
//! A handler parses a request, calls one method of the service, and encodes the result. The
//! description of the API, `/v1/openapi.json`, is generated from the handlers.

mod access_key;
mod async_query;
mod audit;
mod backfill;
pub(crate) mod body;
mod branch;
mod call_events;
mod cloud_event;
mod deployment;
mod diff;
mod environment;
mod error;
mod extract;
mod function;
mod function_alias;
mod function_url;
mod grant;
mod health;
mod import;
mod job;
mod layer;
mod limit;
mod maintenance;
mod metrics;
mod namespace;
mod query;
mod reference;
mod restriction;
mod role;
mod run;
mod secret;
mod session;
mod standalone_function;
mod table;
mod tag;
mod token;
mod trigger;
mod upload;
mod usage;
mod user;
mod view;
mod write_rows;

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, License, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

pub(crate) use error::ErrorResponse;

use crate::server_state::App;

/// Returns the description of the HTTP API.
pub fn openapi() -> OpenApi {
    api().into_openapi()
}

/// Returns the routes of the API.
pub(crate) fn router() -> Router<App> {
    let (router, description) = api().split_for_parts();
    let description = Arc::new(description);
    router.route("/v1/openapi.json", get(move || async move { Json(description) }))
}

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(description())
        .merge(async_query::routes())
        .merge(audit::routes())
        .merge(backfill::routes())
        .merge(branch::routes())
        .merge(cloud_event::routes())
        .merge(standalone_function::routes())
        .merge(function_alias::routes())
        .merge(function_url::routes())
        .merge(deployment::routes())
        .merge(diff::routes())
        .merge(environment::routes())
        .merge(function::routes())
        .merge(grant::routes())
        .merge(health::routes())
        .merge(import::routes())
        .merge(job::routes())
        .merge(layer::routes())
        .merge(limit::routes())
        .merge(maintenance::routes())
        .merge(metrics::routes())
        .merge(namespace::routes())
        .merge(query::routes())
        .merge(reference::routes())
        .merge(restriction::routes())
        .merge(role::routes())
        .merge(write_rows::routes())
        .merge(run::routes())
        .merge(secret::routes())
        .merge(session::routes())
        .merge(table::routes())
        .merge(tag::routes())
        .merge(access_key::routes())
        .merge(token::routes())
        .merge(trigger::routes())
        .merge(upload::routes())
        .merge(usage::routes())
        .merge(user::routes())
        .merge(view::routes())
}

fn description() -> OpenApi {
    let mut info = Info::new("Headwater", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "A serverless lakehouse. Names in paths are percent-encoded (`feature%2Fx`). Every error is a \
         `Problem` with the HTTP status of its code. The header `x-headwater-author` sets the author. \
         Over TCP, every request except those for `/health` and `/v1/openapi.json` needs the \
         server's token, which is in `.headwater/server.token`; over the Unix socket, requests \
         need no token."
            .to_owned(),
    );
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let token = ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(token));
    let required = [SecurityRequirement::new("token", Vec::<String>::new())];
    let builder = OpenApiBuilder::new().info(info).components(Some(token.build()));
    builder.security(Some(required)).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_is_complete() {
        let description = serde_json::to_value(openapi()).expect("JSON");
        let paths = description["paths"].as_object().expect("paths");
        let mut ids = BTreeSet::new();
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().expect("methods") {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id), "`{id}` is used twice");
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                let failure = &operation["responses"]["default"];
                assert!(path == "/health" || failure.is_object(), "{method} {path} has no error");
                let named = path.matches('{').count();
                let given = operation["parameters"].as_array().map_or(0, |all| {
                    all.iter().filter(|parameter| parameter["in"] == "path").count()
                });
                assert_eq!(named, given, "{method} {path}");
            }
        }
        assert!(!ids.is_empty());
        check_references(&description, &description);
    }

    /// Checks that every referenced schema exists.
    fn check_references(description: &Value, part: &Value) {
        match part {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(description.pointer(pointer).is_some(), "{reference}");
                }
                for field in fields.values() {
                    check_references(description, field);
                }
            }
            Value::Array(items) => {
                for item in items {
                    check_references(description, item);
                }
            }
            _ => {}
        }
    }
}
