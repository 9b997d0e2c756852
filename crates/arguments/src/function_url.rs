//! `headwater function url`: its commands.

use clap::{Args, Subcommand, ValueEnum};

/// `headwater function url`
#[derive(Debug, Subcommand)]
pub enum FunctionUrl {
    /// Create the URL of a function
    #[command(after_help = "Examples:
  headwater function url create webhook --auth none
  headwater function url create price --alias live --auth iam --stream")]
    Create(FunctionUrlCreate),
    /// Change the URL of a function; settings that are not given are unchanged
    #[command(after_help = "Examples:
  headwater function url update webhook --auth iam
  headwater function url update price --alias live --no-stream")]
    Update(FunctionUrlUpdate),
    /// Show the URL of a function
    #[command(after_help = "Example:\n  headwater function url get webhook")]
    Get(FunctionUrlName),
    /// Delete the URL of a function
    #[command(
        aliases = ["delete", "drop"],
        after_help = "Example:\n  headwater function url rm webhook"
    )]
    Rm(FunctionUrlRm),
}

/// The function, or its alias, that a URL calls.
#[derive(Debug, Args)]
pub struct FunctionUrlName {
    /// The function
    pub name: String,
    /// The alias that the URL calls [default: the function's current code and settings]
    #[arg(long)]
    pub alias: Option<String>,
}

/// `headwater function url create`
#[derive(Debug, Args)]
pub struct FunctionUrlCreate {
    /// The function or alias.
    #[command(flatten)]
    pub of: FunctionUrlName,
    /// The clients that may call the function
    #[arg(long, value_enum)]
    pub auth: UrlAuthArgument,
    /// Return responses while the function writes them
    #[arg(long)]
    pub stream: bool,
}

/// `headwater function url update`
#[derive(Debug, Args)]
pub struct FunctionUrlUpdate {
    /// The function or alias.
    #[command(flatten)]
    pub of: FunctionUrlName,
    /// The clients that may call the function
    #[arg(long, value_enum)]
    pub auth: Option<UrlAuthArgument>,
    /// Return responses while the function writes them
    #[arg(long)]
    pub stream: bool,
    /// Return responses after the function has ended
    #[arg(long, conflicts_with = "stream")]
    pub no_stream: bool,
}

/// `headwater function url rm`
#[derive(Debug, Args)]
pub struct FunctionUrlRm {
    /// The function or alias.
    #[command(flatten)]
    pub of: FunctionUrlName,
    /// Succeed if the function has no URL
    #[arg(long)]
    pub if_exists: bool,
}

/// `--auth`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UrlAuthArgument {
    /// Every client that reaches the HTTP address
    None,
    /// Clients that sign requests with an access key of a user that may call the function
    Iam,
}
