//! The routes of the catalog.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{MethodRouter, get, post};
use headwater_model::{ErrorCode, Problem};
use headwater_service::Service;

use crate::{IcebergError, commit, config, namespace, scan, table, view};

/// Path of the catalog.
pub const ROOT: &str = "/iceberg";

/// End of the paths of the token endpoint.
pub const TOKENS: &str = "/v1/oauth/tokens";

/// Maximum length of a request body, in bytes. A commit contains the columns of new tables, but no
/// rows.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Returns the routes under [`ROOT`]. `tokens` handles requests to the token endpoint. The server
/// crate supplies this handler, because only that crate checks credentials.
pub fn router(tokens: MethodRouter<Service>) -> Router<Service> {
    let bases = ["/v1/{prefix}", "/{ref}/v1/{prefix}"];
    let mut router = Router::new()
        .route("/v1/config", get(config::show))
        .route("/{ref}/v1/config", get(config::show))
        .route(TOKENS, tokens.clone())
        .route(&format!("/{{ref}}{TOKENS}"), tokens);
    for base in bases {
        for (path, methods) in resources() {
            router = router.route(&format!("{base}{path}"), methods);
        }
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Returns the routes that follow the prefix of a ref, each with its handlers.
fn resources() -> [(&'static str, MethodRouter<Service>); 17] {
    [
        ("/namespaces", get(namespace::list).post(namespace::create)),
        (
            "/namespaces/{namespace}",
            get(namespace::show).head(namespace::exists).delete(namespace::remove),
        ),
        ("/namespaces/{namespace}/properties", post(namespace::update)),
        ("/namespaces/{namespace}/tables", get(table::list).post(table::create)),
        (
            "/namespaces/{namespace}/tables/{table}",
            get(table::show).head(table::exists).delete(table::remove).post(commit::one),
        ),
        ("/namespaces/{namespace}/tables/{table}/credentials", get(table::credentials)),
        ("/namespaces/{namespace}/tables/{table}/metrics", post(table::metrics)),
        (
            "/namespaces/{namespace}/tables/{table}/plan",
            post(scan::plan).layer(DefaultBodyLimit::max(scan::BODY_BYTES_MAX)),
        ),
        (
            "/namespaces/{namespace}/tables/{table}/plan/{plan}",
            get(scan::show).delete(scan::cancel),
        ),
        ("/namespaces/{namespace}/tables/{table}/tasks", post(scan::tasks)),
        ("/namespaces/{namespace}/register", post(table::register)),
        ("/namespaces/{namespace}/register-view", post(view::register)),
        ("/namespaces/{namespace}/views", get(view::list).post(view::create)),
        (
            "/namespaces/{namespace}/views/{view}",
            get(view::show).head(view::exists).delete(view::remove).post(view::replace),
        ),
        ("/tables/rename", post(table::rename)),
        ("/views/rename", post(view::rename)),
        ("/transactions/commit", post(commit::many)),
    ]
}

async fn not_found(request: Request) -> IcebergError {
    let message =
        format!("there is no endpoint `{} {ROOT}{}`", request.method(), request.uri().path());
    IcebergError::from(Problem::new(ErrorCode::RouteNotFound, message))
}
