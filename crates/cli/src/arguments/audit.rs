//! `headwater audit`.

use clap::{Args, ValueEnum};

/// `headwater audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Only events after a time, `2027-01-31`, or of the last duration, `24h`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only events before a time, or before the last duration
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only events of this user, or of `owner` or `anonymous`
    #[arg(long)]
    pub user: Option<String>,
    /// Only events with this action, such as `select`, `login` or `grant`
    #[arg(long)]
    pub action: Option<String>,
    /// Only events with this outcome
    #[arg(long, value_enum)]
    pub outcome: Option<AuditOutcome>,
}

/// `--outcome`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AuditOutcome {
    /// Requests that were allowed
    Allowed,
    /// Requests that were denied
    Denied,
}
