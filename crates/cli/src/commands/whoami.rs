//! `headwater whoami`.

use headwater_model::{LimitUsage, Whoami};

use crate::api::ApiClient;
use crate::api_output::fetch;
use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Runs `headwater whoami`.
pub async fn whoami(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(found) = fetch::<Whoami>(context, api, "/v1/whoami").await? else { return Ok(()) };
    output::line(format!("{}, by {}", found.name, found.method.as_str()));
    if !found.roles.is_empty() {
        output::line(format!("roles: {}", found.roles.join(", ")));
    }
    for permission in found.permissions {
        output::line(permission);
    }
    for scope in found.scopes.unwrap_or_default() {
        output::line(format!("limited by the token to {scope}"));
    }
    found.limits.iter().for_each(print_limits);
    Ok(())
}

fn print_limits(usage: &LimitUsage) {
    let (limits, currency) = (usage.limits, &usage.currency);
    let money = |money| output::money(money, currency);
    let (jobs, bytes) = (usage.jobs, output::bytes(usage.bytes_today));
    let texts = [
        limits.jobs.map(|limit| format!("{jobs} of {limit} jobs at once")),
        limits.memory_bytes.map(|limit| format!("{} of memory at most", output::bytes(limit))),
        limits.bytes_per_day.map(|limit| format!("{bytes} of {} read", output::bytes(limit))),
        limits
            .money_per_day
            .map(|limit| format!("{} of {}", money(usage.money_today), money(limit))),
    ];
    let texts: Vec<_> = texts.into_iter().flatten().collect();
    output::line(format!(
        "limits and usage (the day ends at {}): {}",
        output::format_time(usage.day_ends),
        texts.join(", ")
    ));
}
