//! `headwater audit`.

use std::time::Duration;

use clap::Args;
use headwater_model::parse_duration;

/// `headwater audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Only events after a time, `2027-01-31`, or in a period until now, `24h`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only events before a time, `2027-01-31`, or older than a duration, `24h`
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only events of this user, or of `owner` or `anonymous`
    #[arg(long)]
    pub user: Option<String>,
    /// Only events with this action, such as `select`, `login` or `grant`
    #[arg(long)]
    pub action: Option<String>,
    /// Only events with this outcome
    #[arg(long, value_parser = ["allowed", "denied"])]
    pub outcome: Option<String>,
    /// Set how long events are kept, such as `90d`, and print nothing [default: a year]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration,
        conflicts_with_all = ["since", "until", "user", "action", "outcome"])]
    pub keep: Option<Duration>,
}
