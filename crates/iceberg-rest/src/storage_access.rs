//! Access of clients to the files of the warehouse: locations and credentials.

use axum::http::HeaderMap;
use headwater_model::Principal;
use headwater_service::Service;
use headwater_service::iceberg::StorageAccess;
use serde_json::{Value, json};

use crate::error::HandlerResult;

/// Header with which clients request credentials.
const DELEGATION_HEADER: &str = "x-iceberg-access-delegation";

/// Returns true if a client requests credentials.
pub fn wants_credentials(headers: &HeaderMap) -> bool {
    let values = headers.get_all(DELEGATION_HEADER).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim() == "vended-credentials")
}

/// Returns the location of the warehouse's files, and credentials for them if the client requests
/// credentials and may use them.
pub fn of_request(
    service: &Service,
    principal: &Principal,
    headers: &HeaderMap,
) -> HandlerResult<StorageAccess> {
    let wants = wants_credentials(headers);
    Ok(service.iceberg().storage_access(principal, wants)?)
}

/// Encodes the credentials for the warehouse; an empty list if there are no credentials.
pub fn storage_credentials(access: &StorageAccess) -> Value {
    if !access.has_credentials {
        return json!([]);
    }
    json!([{"prefix": access.prefix, "config": access.properties}])
}
