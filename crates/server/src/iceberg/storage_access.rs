//! Access of clients to the files of the warehouse.

use axum::http::HeaderMap;
use headwater_model::Principal;
use headwater_service::iceberg::StorageAccess;
use serde_json::{Value, json};

use super::error::HandlerResult;
use crate::state::App;

/// Header of requests for credentials.
const DELEGATION_HEADER: &str = "x-iceberg-access-delegation";

/// Returns true if a client requests credentials.
pub fn wants_credentials(headers: &HeaderMap) -> bool {
    let values = headers.get_all(DELEGATION_HEADER).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim() == "vended-credentials")
}

/// Returns the access for a request. Includes credentials if the client requests them and has the
/// right to them.
pub fn of_request(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
) -> HandlerResult<StorageAccess> {
    let wants = wants_credentials(headers);
    Ok(app.service.iceberg().storage_access(principal, wants)?)
}

/// Encodes credentials for the warehouse; an empty list if there are none.
pub fn storage_credentials(access: &StorageAccess) -> Value {
    if !access.has_credentials {
        return json!([]);
    }
    json!([{"prefix": access.prefix, "config": access.properties}])
}
