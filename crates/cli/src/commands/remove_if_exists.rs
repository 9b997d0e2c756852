//! Removal of users, roles, limits, and row filters and column masks, with `--if-exists`.

use headwater_model::ErrorCode;
use serde_json::Value;

use crate::api::{Api, segment};
use crate::commands::branch::removed_if_exists;
use crate::context::Context;
use crate::error::Result;

/// An object to remove.
pub struct RemovalTarget<'a> {
    /// The kind of the object, for messages.
    pub what: &'a str,
    /// The name of the object to remove.
    pub name: &'a str,
    /// The path of the list of these objects in the API.
    pub list: &'a str,
    /// True if a missing object is not an error.
    pub if_exists: bool,
}

/// Removes an object.
pub async fn remove(context: &Context, api: &Api, removal: RemovalTarget<'_>) -> Result<()> {
    let RemovalTarget { what, name, list, if_exists } = removal;
    let deletion = api.delete(format!("{list}/{}", segment(name))).await;
    // The error code for a missing object is also used for other errors, so look for the object in
    // the list.
    let mut missing = None;
    if let Err(problem) = &deletion
        && if_exists
        && problem.code == ErrorCode::InvalidArgument
        && !is_listed(api, list, name).await?
    {
        missing = Some(problem.code);
    }
    removed_if_exists(context, what, name, missing, deletion)
}

async fn is_listed(api: &Api, list: &str, name: &str) -> Result<bool> {
    let all: Vec<Value> = api.get(list).await?;
    Ok(all.iter().any(|one| one["name"] == name))
}
