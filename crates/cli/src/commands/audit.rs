//! `headwater audit`: prints or exports the audit log, the oldest events first.

use chrono::Utc;
use headwater_model::{AuditRetention, parse_duration};
use hyper::Method;

use crate::api::{ApiClient, ApiRequest, segment};
use crate::api_output;
use crate::arguments::Audit;
use crate::commands::query;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::plural;

/// Runs `headwater audit`.
pub async fn audit(context: &Context, api: &ApiClient, arguments: &Audit) -> Result<()> {
    if let Some(keep) = arguments.keep {
        let retention = AuditRetention { keep_seconds: keep.as_secs() };
        let set: AuditRetention = api.call(Method::PUT, "/v1/audit/retention", &retention).await?;
        let days = set.keep_seconds / 86_400;
        api_output::print(context, &set, format!("events are kept for {}", plural(days, "day")));
        return Ok(());
    }
    let time = |given: &Option<String>| given.as_deref().map(parse_time).transpose();
    let filters = [
        ("since", time(&arguments.since)?),
        ("until", time(&arguments.until)?),
        ("user", arguments.user.clone()),
        ("action", arguments.action.clone()),
        ("outcome", arguments.outcome.clone()),
    ];
    let given = filters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let given: Vec<_> = given.map(|(name, value)| format!("{name}={}", segment(&value))).collect();
    query::print(context, api, ApiRequest::get(format!("/v1/audit?{}", given.join("&")))).await
}

/// Converts a time to the API's format. A duration means the current time minus that duration.
fn parse_time(text: &str) -> Result<String> {
    let Ok(duration) = parse_duration(text) else { return Ok(text.to_owned()) };
    let back = chrono::TimeDelta::from_std(duration).map_err(error::unexpected)?;
    Ok((Utc::now() - back).to_rfc3339())
}
