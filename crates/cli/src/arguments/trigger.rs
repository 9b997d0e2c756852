//! `headwater trigger`.

use clap::{Args, Subcommand};

/// `headwater trigger`
#[derive(Debug, Subcommand)]
pub enum Trigger {
    /// List the triggers of the deployed version
    #[command(after_help = "Example:\n  headwater trigger ls")]
    Ls,
    /// List the events, newest first
    #[command(after_help = "Example:\n  headwater trigger events --status failed")]
    Events(TriggerEvents),
    /// Process an event again
    #[command(after_help = "Example:\n  headwater trigger replay EVENT")]
    Replay(TriggerReplay),
}

/// `headwater trigger events`
#[derive(Debug, Args)]
pub struct TriggerEvents {
    /// Only this trigger
    #[arg(long)]
    pub trigger: Option<String>,
    /// Only this status: pending, running, done, failed
    #[arg(long)]
    pub status: Option<String>,
    /// The maximum number of events
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
}

/// `headwater trigger replay`
#[derive(Debug, Args)]
pub struct TriggerReplay {
    /// The event's id
    pub event: String,
}
