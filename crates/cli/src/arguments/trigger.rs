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
}

/// `headwater trigger get`
#[derive(Debug, Args)]
pub struct TriggerGet {
    /// The trigger's name
    pub trigger: String,
}
