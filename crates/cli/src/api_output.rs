//! Gets API values, and prints them as JSON if the output format is JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::ApiClient;
use crate::arguments::OutputFormat;
use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Gets a value from the API. With the JSON output format, prints the value and returns `None`.
pub async fn fetch<T: Serialize + DeserializeOwned>(
    context: &Context,
    api: &ApiClient,
    path: impl Into<String>,
) -> Result<Option<T>> {
    let value = api.get(path).await?;
    Ok(if is_printed(context, &value) { None } else { Some(value) })
}

/// Prints a value and returns true if the output format is JSON. Returns false otherwise.
pub fn is_printed(context: &Context, value: &impl Serialize) -> bool {
    let is_json = context.output == OutputFormat::Json;
    if is_json {
        output::print_json(value);
    }
    is_json
}

/// Prints a result as JSON if the output format is JSON, and its message otherwise.
pub fn print(context: &Context, value: &impl Serialize, text: impl std::fmt::Display) {
    if !is_printed(context, value) {
        context.style.say(text);
    }
}
