//! Values of the API, written as JSON if that is the output format.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::arguments::OutputFormat;
use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Gets a value of the API. Returns none after it has written it as JSON, if that is the format.
pub async fn fetch<T: Serialize + DeserializeOwned>(
    context: &Context,
    api: &Api,
    path: impl Into<String>,
) -> Result<Option<T>> {
    let value = api.get(path).await?;
    Ok(if is_printed(context, &value) { None } else { Some(value) })
}

/// Writes a value as JSON if that is the output format. Returns false otherwise.
pub fn is_printed(context: &Context, value: &impl Serialize) -> bool {
    let is_json = context.output == OutputFormat::Json;
    if is_json {
        output::print_json(value);
    }
    is_json
}

/// Writes a result as JSON if that is the output format, and otherwise its message.
pub fn print(context: &Context, value: &impl Serialize, text: impl std::fmt::Display) {
    if !is_printed(context, value) {
        context.style.say(text);
    }
}
