//! Extracts the client of a request: the principal and the requested path.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use headwater_http_request::principal;
use headwater_model::Principal;

use crate::error::{HandlerResult, IcebergError};
use crate::request_path::RequestPath;

/// The principal and the path of a request.
pub struct RequestContext {
    /// The principal.
    pub principal: Principal,
    /// The path.
    pub path: RequestPath,
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = IcebergError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HandlerResult<Self> {
        let principal = principal(parts)?;
        let path = RequestPath::from_request_parts(parts, state).await?;
        Ok(RequestContext { principal, path })
    }
}
