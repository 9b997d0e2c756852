//! The Iceberg REST catalog, under `/iceberg`, for other engines.
//!
//! The path selects a ref: `/iceberg` is `main`, and `/iceberg/dev` is the branch, tag or commit
//! `dev`. Clients that can configure only a warehouse use the ref as the warehouse name. The
//! response to `config` returns the ref as the prefix for all other paths, so any client can use
//! any branch. Requests, responses and errors follow Iceberg's specification.

mod body;
mod change;
mod client;
mod commit;
mod config;
mod error;
mod namespace;
mod page;
mod request_path;
mod scan;
mod storage_access;
mod table;
mod token;
mod view;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{MethodRouter, get, post};
use headwater_model::{ErrorCode, Problem};

pub(crate) use error::IcebergError;
pub(crate) use request_path::contains;
pub(crate) use token::is_token_path;

use crate::state::App;

/// Path of the catalog.
pub(crate) const ROOT: &str = "/iceberg";

/// Maximum length of a request body, in bytes. A commit contains the columns of new tables, but no
/// rows.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Maximum length of a request for a token, in bytes.
const TOKEN_BODY_BYTES_MAX: usize = 64 << 10;

/// Returns the routes under [`ROOT`].
pub(crate) fn router() -> Router<App> {
    let bases = ["/v1/{prefix}", "/{ref}/v1/{prefix}"];
    let mut router = Router::new()
        .route("/v1/config", get(config::show))
        .route("/{ref}/v1/config", get(config::show))
        .route("/v1/oauth/tokens", tokens())
        .route("/{ref}/v1/oauth/tokens", tokens());
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

/// Returns the route for tokens. It has a lower length limit, because its requests are not
/// authenticated.
fn tokens() -> MethodRouter<App> {
    post(token::exchange).layer(DefaultBodyLimit::max(TOKEN_BODY_BYTES_MAX))
}

/// Returns the routes below a prefix.
fn resources() -> [(&'static str, MethodRouter<App>); 17] {
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
    let message = format!("there is no `{} {ROOT}{}`", request.method(), request.uri().path());
    IcebergError::from(Problem::new(ErrorCode::RouteNotFound, message))
}
