//! Iceberg's REST catalog, under `/iceberg`: the door for engines other than our own.
//!
//! Which state of the lake a client sees stands in the address: `/iceberg` is `main`, and `/iceberg/dev`
//! the branch, tag or commit `dev`; a client that can only name a warehouse names the ref as that. The
//! answer to `config` puts the ref into every further address as the catalog's prefix, so that any client
//! works on any branch. Tables, commits and errors have the form of Iceberg's own specification; what they
//! do is what [`headwater_lake`] does for every other door, branch protection and conflicts included.

mod access;
mod body;
mod commit;
mod config;
mod error;
mod namespace;
mod page;
mod place;
mod scan;
mod table;
mod token;
mod view;
mod write;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{MethodRouter, get, post};
use headwater_model::{ErrorCode, Problem};

pub use error::Refusal;
pub(crate) use error::is_iceberg;
pub(crate) use scan::Plans;
pub(crate) use token::is_token_path;
pub(crate) use write::Requests;

use crate::http::App;

/// Where the door lies.
pub(crate) const ROOT: &str = "/iceberg";

/// The longest body. A commit holds no rows, but all columns of new tables.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The longest request for a token.
const TOKEN_BODY_BYTES_MAX: usize = 64 << 10;

/// Everything under [`ROOT`].
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
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// What strangers may use takes only little.
fn tokens() -> MethodRouter<App> {
    post(token::exchange).layer(DefaultBodyLimit::max(TOKEN_BODY_BYTES_MAX))
}

/// The resources of one prefix.
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

async fn unknown(request: Request) -> Refusal {
    let message = format!("there is no `{} {ROOT}{}`", request.method(), request.uri().path());
    Refusal::from(Problem::new(ErrorCode::RouteNotFound, message))
}
