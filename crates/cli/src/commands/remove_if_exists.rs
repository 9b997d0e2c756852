//! Removal of users, roles, limits, row filters and column masks, with `--if-exists`.

use headwater_model::ErrorCode;
use serde_json::Value;

use crate::api::{ApiClient, segment};
use crate::commands::branch::removed_if_exists;
use crate::context::Context;
use crate::error::Result;

/// A user, role, set of limits, row filter or column mask to remove.
pub struct RemovalTarget<'a> {
    /// The kind, such as `role`, for messages.
    pub what: &'a str,
    /// The name; for limits, the name of the user or role.
    pub name: &'a str,
    /// The API path that lists all objects of this kind, such as `/v1/roles`.
    pub list: &'a str,
    /// True to succeed if there is nothing to remove.
    pub if_exists: bool,
}

/// Removes a user, role, set of limits, row filter or column mask.
pub async fn remove(context: &Context, api: &ApiClient, removal: RemovalTarget<'_>) -> Result<()> {
    let RemovalTarget { what, name, list, if_exists } = removal;
    let deletion = api.delete(format!("{list}/{}", segment(name))).await;
    // For a missing user, role and so on, the API returns `invalid_argument`, which also has other
    // causes. So check if the list contains the name.
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

async fn is_listed(api: &ApiClient, list: &str, name: &str) -> Result<bool> {
    let all: Vec<Value> = api.get(list).await?;
    Ok(all.iter().any(|one| one["name"] == name))
}
