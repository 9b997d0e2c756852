//! The Iceberg REST catalog, under `/iceberg`, for other engines.
//!
//! The path selects a ref: `/iceberg` is `main`, and `/iceberg/dev` is the branch, tag or commit
//! `dev`. Clients that can configure only a warehouse use the ref as the warehouse name. The
//! response to `config` returns the ref as the prefix for all other paths, so any client can use
//! any branch. Requests, responses and errors follow Iceberg's specification.
//!
//! [`router`] returns the routes. This crate does not handle connections and does not check
//! credentials. The server adds the principal to each request.

mod body;
mod catalog_change_request;
mod commit;
mod config;
mod error;
mod namespace;
mod pagination;
mod request_context;
mod request_path;
mod router;
mod scan;
mod storage_access;
mod table;
mod view;

pub use error::IcebergError;
pub use request_path::contains;
pub use router::{ROOT, TOKENS, router};
