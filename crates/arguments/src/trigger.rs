//! `headwater trigger`.

use clap::Subcommand;

/// `headwater trigger`
#[derive(Debug, Subcommand)]
pub enum Trigger {
    /// List the triggers of the deployed version
    #[command(after_help = "Example:\n  headwater trigger ls")]
    Ls,
    /// Show a trigger of the deployed version: its source, target and state
    #[command(after_help = "Example:\n  headwater trigger get NAME")]
    Get {
        /// The trigger's name
        trigger: String,
    },
}
