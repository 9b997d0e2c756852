//! Returns the configuration, which clients request first: the prefix for all other paths, and the
//! supported endpoints.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::Uri;
use headwater_model::RefSpec;
use headwater_service::Service;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::IcebergError;
use crate::error::HandlerResult;
use crate::request_context::RequestContext;

/// The supported endpoints, in the specification's notation.
const ENDPOINTS: [&str; 31] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "GET /v1/{prefix}/namespaces/{namespace}/views",
    "POST /v1/{prefix}/namespaces/{namespace}/views",
    "GET /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/register-view",
    "POST /v1/{prefix}/views/rename",
    "POST /v1/{prefix}/transactions/commit",
    "GET /v1/config",
    "POST /v1/oauth/tokens",
];

#[derive(Deserialize)]
struct Parameters {
    warehouse: Option<String>,
}

/// Returns the configuration. It contains the prefix for all other paths: the ref from the path, or
/// from the parameter `warehouse`.
pub async fn show(
    State(service): State<Service>,
    client: RequestContext,
    uri: Uri,
) -> HandlerResult<Json<Value>> {
    let RequestContext { principal, path } = client;
    let parameters = Query::<Parameters>::try_from_uri(&uri);
    let parameters =
        parameters.map_err(|_| IcebergError::invalid("`warehouse` cannot be parsed"))?;
    let warehouse = parameters.0.warehouse.filter(|name| !name.is_empty());
    let warehouse: Option<RefSpec> = warehouse.map(|name| name.parse()).transpose()?;
    let reference = match (path.explicit_ref(), warehouse) {
        (Some(explicit), Some(warehouse)) if *explicit != warehouse => {
            let message =
                format!("the path names the ref `{explicit}`, but `warehouse` names `{warehouse}`");
            return Err(IcebergError::invalid(message));
        }
        (_, Some(warehouse)) => warehouse,
        (_, None) => path.reference,
    };
    let iceberg = service.iceberg();
    iceberg.check_ref(&principal, &reference).await?;
    Ok(Json(json!({
        "defaults": iceberg.storage_access(&principal, false)?.properties,
        "overrides": {"prefix": encode(&reference.to_string())},
        "endpoints": ENDPOINTS,
        "idempotency-key-lifetime": "P7D",
    })))
}

/// Percent-encodes a ref as one segment of a path.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_one_segment() {
        assert_eq!(encode("feature/x"), "feature%2Fx");
        assert_eq!(encode("main@3fa9c1d2"), "main%403fa9c1d2");
        assert_eq!(encode("main~1"), "main~1");
    }
}
