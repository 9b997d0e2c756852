//! Bodies: JSON, and what a client can be told when it is not what the specification says. Fields that are
//! not known are passed over, as the specification wants, since clients are newer than servers.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Refusal;
use crate::http::extract::{check_content_type, too_long};

/// The body, read from JSON.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        read(&bytes).map(Body)
    }
}

/// The body as it was sent.
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        check_content_type(request.headers())?;
        let bytes = Bytes::from_request(request, state).await;
        Ok(Raw(bytes.map_err(|error| too_long(&error))?))
    }
}

/// Reads a body from JSON.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let read = serde_json::from_slice(bytes);
    read.map_err(|error| Refusal::invalid(format!("the body cannot be read: {error}")))
}
