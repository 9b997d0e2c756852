//! `headwater trigger`.

use clap::{Args, Subcommand};

/// `headwater trigger`
#[derive(Debug, Subcommand)]
pub enum Trigger {
    /// List the triggers of the deployed version
    #[command(after_help = "Example:\n  headwater trigger ls")]
    Ls,
    /// Show a trigger of the deployed version: its source, target and state
    #[command(after_help = "Example:\n  headwater trigger get NAME")]
    Get(TriggerGet),
    /// List the events, newest first
    #[command(after_help = "Example:\n  headwater trigger events --status failed")]
    Events(TriggerEvents),
    /// Deliver an event again
    #[command(after_help = "Example:\n  headwater trigger replay EVENT")]
    Replay(TriggerReplay),
}

/// `headwater trigger get`
#[derive(Debug, Args)]
pub struct TriggerGet {
    /// The trigger's name
    pub trigger: String,
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
