//! Fetches API values, and prints them as JSON if that is the output format.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::arguments::OutputFormat;
use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Gets a value from the API. With the JSON output format, it prints the value and returns `None`.
pub async fn fetch<T: Serialize + DeserializeOwned>(
    context: &Context,
    api: &Api,
    path: impl Into<String>,
) -> Result<Option<T>> {
    let value = api.get(path).await?;
    Ok(if is_printed(context, &value) { None } else { Some(value) })
}

/// Prints a value as JSON if that is the output format. Returns false otherwise.
pub fn is_printed(context: &Context, value: &impl Serialize) -> bool {
    let is_json = context.output == OutputFormat::Json;
    if is_json {
        output::print_json(value);
    }
    is_json
}

/// Prints a result as JSON if that is the output format, and its message otherwise.
pub fn print(context: &Context, value: &impl Serialize, text: impl std::fmt::Display) {
    if !is_printed(context, value) {
        context.style.say(text);
    }
}
