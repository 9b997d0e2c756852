//! `headwater audit`: prints or exports the audit log, the oldest events first.

use chrono::Utc;
use headwater_model::parse_duration;

use crate::api::{Api, Call, segment};
use crate::arguments::{Audit, AuditOutcome};
use crate::commands::query;
use crate::context::Context;
use crate::error::{self, Result};

/// Runs `headwater audit`.
pub async fn audit(context: &Context, api: &Api, arguments: &Audit) -> Result<()> {
    let time = |given: &Option<String>| given.as_deref().map(moment).transpose();
    let outcome = arguments.outcome.map(|outcome| match outcome {
        AuditOutcome::Allowed => "allowed".to_owned(),
        AuditOutcome::Denied => "denied".to_owned(),
    });
    let filters = [
        ("since", time(&arguments.since)?),
        ("until", time(&arguments.until)?),
        ("user", arguments.user.clone()),
        ("action", arguments.action.clone()),
        ("outcome", outcome),
    ];
    let given = filters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let given: Vec<_> = given.map(|(name, value)| format!("{name}={}", segment(&value))).collect();
    query::print(context, api, Call::get(format!("/v1/audit?{}", given.join("&")))).await
}

/// Returns a time as the API expects it; a duration counts back from now.
fn moment(text: &str) -> Result<String> {
    let Ok(duration) = parse_duration(text) else { return Ok(text.to_owned()) };
    let back = chrono::TimeDelta::from_std(duration).map_err(error::unexpected)?;
    Ok((Utc::now() - back).to_rfc3339())
}
