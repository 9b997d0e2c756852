//! Parts of requests and responses that the HTTP API and the Iceberg REST catalog share.
//!
//! [`principal`] returns the principal that the server has added to a request. The other functions
//! check the content type, convert errors of the body, and compute the header `retry-after`.

mod request;
mod retry_after;

pub use request::{body_error, check_content_type, principal};
pub use retry_after::retry_after;
