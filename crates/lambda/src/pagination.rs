//! Pagination of lists: `Marker`, `MaxItems` and `NextMarker`.

use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::request::LambdaRequest;

/// Default and maximum number of items of a page.
const ITEMS_DEFAULT: usize = 50;
const ITEMS_MAX: usize = 10_000;

/// Returns the requested page of `items` as an object with the field `key`. The marker in the
/// request is the index of the first item.
pub(crate) fn page(request: &LambdaRequest, key: &str, items: Vec<Value>) -> Result<Value> {
    let number = |name: &str, default: usize| match request.query(name) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| LambdaError::invalid(format!("{name} must be a number, not {text}"))),
    };
    let from = number("Marker", 0)?;
    let limit = number("MaxItems", ITEMS_DEFAULT)?.clamp(1, ITEMS_MAX);
    let next = from.saturating_add(limit);
    let is_last = next >= items.len();
    let items: Vec<Value> = items.into_iter().skip(from).take(limit).collect();
    let mut page = json!({ key: items });
    if !is_last {
        page["NextMarker"] = next.to_string().into();
    }
    Ok(page)
}
