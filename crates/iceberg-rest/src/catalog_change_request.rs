//! Extracts the parts of requests that change the catalog.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use headwater_http_request::body_error;
use headwater_model::{Principal, TableName};
use headwater_service::Service;
use headwater_service::iceberg::{ChangeError, ChangeRequest, StorageAccess};
use sha2::{Digest, Sha256};

use crate::error::{HandlerResult, IcebergError};
use crate::request_context::RequestContext;
use crate::request_path::RequestPath;
use crate::{body, storage_access};

/// Header with the idempotency key of a request.
const KEY_HEADER: &str = "idempotency-key";

/// Header with the message of the commit that a request creates.
const MESSAGE_HEADER: &str = "x-headwater-message";

/// Maximum length of a commit message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// A request that changes the catalog.
pub struct CatalogChangeRequest {
    /// The principal.
    pub principal: Principal,
    /// The path of the request, which contains the ref and the names of the table or view.
    pub path: RequestPath,
    /// The body.
    pub body: Bytes,
    /// The branch to change, the message of the commit, and the hash that identifies the request.
    pub request: ChangeRequest,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequest<S> for CatalogChangeRequest {
    type Rejection = IcebergError;

    async fn from_request(request: Request, state: &S) -> HandlerResult<Self> {
        let (mut parts, body) = request.into_parts();
        let RequestContext { principal, path } =
            RequestContext::from_request_parts(&mut parts, state).await?;
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let request = Request::from_parts(parts, body);
        let body = Bytes::from_request(request, state).await.map_err(|error| body_error(&error))?;
        let key = text(&headers, KEY_HEADER).filter(|key| !key.is_empty());
        let message = text(&headers, MESSAGE_HEADER)
            .filter(|text| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX);
        let request = ChangeRequest {
            reference: path.reference.clone(),
            digest: digest(key.unwrap_or_default(), method.as_str(), &path, &body),
            has_key: key.is_some(),
            message: message.map(str::to_owned),
        };
        Ok(CatalogChangeRequest { principal, path, body, request, headers })
    }
}

impl CatalogChangeRequest {
    /// Parses the JSON body.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> HandlerResult<T> {
        body::parse(&self.headers, &self.body)
    }

    /// Returns the name of a table or view to create in the namespace of the path.
    pub fn new_name(&self, name: &str) -> HandlerResult<TableName> {
        Ok(TableName::new(self.path.namespace()?, name)?)
    }

    /// Returns the client's access to the files of the warehouse.
    pub fn storage_access(&self, service: &Service) -> HandlerResult<StorageAccess> {
        storage_access::of_request(service, &self.principal, &self.headers)
    }
}

/// Returns the response to a change that has no result.
pub fn no_content(changed: Result<(), ChangeError>) -> HandlerResult<StatusCode> {
    changed.map_err(IcebergError::of_change)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns a hash that identifies a request. A request with the same idempotency key but another
/// change has another hash.
fn digest(key: &str, method: &str, path: &RequestPath, body: &[u8]) -> String {
    let reference = path.reference.to_string();
    let parts = [key, &reference, method, &path.text].map(str::as_bytes);
    let mut digest = Sha256::new();
    for part in parts.into_iter().chain([body]) {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}
