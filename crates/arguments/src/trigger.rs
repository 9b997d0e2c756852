//! `headwater trigger`.

use clap::{Args, Subcommand};

/// `headwater trigger`
#[derive(Debug, Subcommand)]
pub enum Trigger {
    /// List the triggers of the deployed version and the triggers without a project
    #[command(after_help = "Example:\n  headwater trigger ls")]
    Ls,
    /// Show a trigger: its source, target and state
    #[command(after_help = "Example:\n  headwater trigger get NAME")]
    Get {
        /// The trigger's name
        trigger: String,
    },
    /// Create a trigger without a project. The trigger has your rights
    #[command(after_help = "Examples:
  headwater trigger create load --bucket landing --prefix in/ --function clean
  headwater trigger create nightly --schedule '15 2 * * *' --run
  headwater trigger create merged --set 'merges = { into = [\"main\"] }' --function report")]
    Create(Box<TriggerCreate>),
    /// Delete a trigger that was created without a project, and its pending and failed events
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater trigger rm load")]
    Rm(TriggerRm),
}

/// `headwater trigger create`
#[derive(Debug, Args)]
pub struct TriggerCreate {
    /// The trigger's name
    pub name: String,
    /// A bucket whose new objects fire the trigger
    #[arg(long)]
    pub bucket: Option<String>,
    /// With `--bucket`: the prefix of the keys
    #[arg(long, requires = "bucket")]
    pub prefix: Option<String>,
    /// With `--bucket`: the suffix of the keys
    #[arg(long, requires = "bucket")]
    pub suffix: Option<String>,
    /// The schedule of the trigger: a cron pattern, a rate or a single time
    #[arg(long, value_name = "EXPRESSION")]
    pub schedule: Option<String>,
    /// A queue whose messages fire the trigger
    #[arg(long)]
    pub queue: Option<String>,
    /// The function to call
    #[arg(long)]
    pub function: Option<String>,
    /// Run the deployed project
    #[arg(long)]
    pub run: bool,
    /// The table to import into
    #[arg(long, value_name = "TABLE")]
    pub import: Option<String>,
    /// Another key of `[[trigger]]` with its value, as in `headwater.toml`. Can be repeated
    #[arg(long = "set", value_name = "KEY = VALUE")]
    pub settings: Vec<String>,
    /// Replace the created trigger with this name, if there is one
    #[arg(long)]
    pub replace: bool,
}

/// `headwater trigger rm`
#[derive(Debug, Args)]
pub struct TriggerRm {
    /// The trigger's name
    pub name: String,
    /// Succeed if the trigger does not exist
    #[arg(long)]
    pub if_exists: bool,
}
