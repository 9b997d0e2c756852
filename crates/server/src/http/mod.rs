//! The HTTP API: one file per noun, JSON in and out, and [`headwater_model::Problem`] for what goes
//! wrong.
//!
//! A handler takes what it needs from the request, calls one room, and answers. The description of
//! all of it, `/v1/openapi.json`, is made from the handlers themselves.

pub(crate) mod body;
mod branch;
mod deployment;
mod diff;
mod environment;
pub(crate) mod extract;
pub(crate) mod failure;
mod function;
mod health;
mod import;
mod job;
mod namespace;
pub(crate) mod origin;
mod panic;
mod query;
mod reference;
mod rows;
mod run;
pub(crate) mod stall;
mod table;
mod tag;
mod trigger;
mod upkeep;
mod usage;
mod view;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use axum::{Json, Router};
use headwater_model::{ErrorCode, Problem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, License, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::activity;
use crate::iceberg;
use crate::state::AppState;
use failure::Failure;

/// What every handler is given.
pub(crate) type App = Arc<AppState>;

/// The longest body, runs apart.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The description of the HTTP API.
pub fn openapi() -> OpenApi {
    api().into_openapi()
}

/// The whole API, ready to answer.
pub(crate) fn router(app: &App) -> Router {
    let (router, description) = api().split_for_parts();
    let description = Arc::new(description);
    let described = get(move || async move { Json(description) });
    router
        .route("/v1/openapi.json", described)
        .nest(iceberg::ROOT, iceberg::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(panic::catch))
        .layer(from_fn(origin::check))
        .layer(from_fn_with_state(app.activity.clone(), activity::count))
        .with_state(app.clone())
}

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(head())
        .merge(branch::routes())
        .merge(deployment::routes())
        .merge(diff::routes())
        .merge(environment::routes())
        .merge(function::routes())
        .merge(health::routes())
        .merge(import::routes())
        .merge(job::routes())
        .merge(namespace::routes())
        .merge(query::routes())
        .merge(reference::routes())
        .merge(rows::routes())
        .merge(run::routes())
        .merge(table::routes())
        .merge(tag::routes())
        .merge(trigger::routes())
        .merge(upkeep::routes())
        .merge(usage::routes())
        .merge(view::routes())
}

fn head() -> OpenApi {
    let mut info = Info::new("Headwater", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "A serverless lakehouse. Names in paths are percent-encoded (`feature%2Fx`). Every error is a \
         `Problem` with the HTTP status of its code. `x-headwater-author` says who asks. Over TCP \
         every request but those for `/health` and `/v1/openapi.json` shows the server's token, \
         which `.headwater/server.token` holds; over the Unix socket none does."
            .to_owned(),
    );
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let token = ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(token));
    let required = [SecurityRequirement::new("token", Vec::<String>::new())];
    let head = OpenApiBuilder::new().info(info).components(Some(token.build()));
    head.security(Some(required)).build()
}

async fn unknown_route(request: Request) -> Failure {
    unknown(&request)
}

async fn unknown_method(request: Request) -> Failure {
    unknown(&request)
}

fn unknown(request: &Request) -> Failure {
    let message = format!("there is no `{} {}`", request.method(), request.uri().path());
    Failure(
        Problem::new(ErrorCode::RouteNotFound, message)
            .with_hint("See the addresses in `/v1/openapi.json`."),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_is_whole() {
        let description = serde_json::to_value(openapi()).expect("JSON");
        let paths = description["paths"].as_object().expect("paths");
        let mut ids = BTreeSet::new();
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().expect("methods") {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id), "`{id}` stands for two operations");
                assert!(operation["summary"].is_string(), "{method} {path} says not what it does");
                let failure = &operation["responses"]["default"];
                assert!(path == "/health" || failure.is_object(), "{method} {path} never fails");
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

    /// Whatever is referred to is there.
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
