//! What a client is told first: the prefix of all other addresses, and which of them there are.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::Uri;
use headwater_model::RefSpec;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::access::Access;
use super::error::Answer;
use super::place::{self, Place};
use crate::http::App;

/// The addresses there are, as the specification writes them.
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
struct Wanted {
    warehouse: Option<String>,
}

/// Answers the prefix of the ref that the address, or the warehouse, names.
pub async fn show(State(app): State<App>, place: Place, uri: Uri) -> Answer<Json<Value>> {
    let wanted = Query::<Wanted>::try_from_uri(&uri);
    let wanted = wanted.map_err(|_| Refusal::invalid("`warehouse` cannot be read"))?;
    let warehouse = wanted.0.warehouse.filter(|name| !name.is_empty());
    let warehouse: Option<RefSpec> = warehouse.map(|name| name.parse()).transpose()?;
    let reference = match (place.named(), warehouse) {
        (Some(named), Some(warehouse)) if *named != warehouse => {
            let message = format!("the address names `{named}`, and the warehouse `{warehouse}`");
            return Err(Refusal::invalid(message));
        }
        (_, Some(warehouse)) => warehouse,
        (_, None) => place.reference,
    };
    place::check(&app.service.components().lake, &reference).await?;
    Ok(Json(json!({
        "defaults": Access::plain().config(&app),
        "overrides": {"prefix": encode(&reference.to_string())},
        "endpoints": ENDPOINTS,
        "idempotency-key-lifetime": "P7D",
    })))
}

/// A ref as one part of an address.
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
    fn a_ref_is_one_part_of_an_address() {
        assert_eq!(encode("feature/x"), "feature%2Fx");
        assert_eq!(encode("main@3fa9c1d2"), "main%403fa9c1d2");
        assert_eq!(encode("main~1"), "main~1");
    }
}
