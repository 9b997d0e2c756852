//! `headwater run`.

use std::path::PathBuf;

use clap::Args;

use super::BranchArgument;

/// `headwater run`
#[derive(Debug, Args)]
pub struct Run {
    /// The project [default: the one around the lake, or the nearest `headwater.toml`]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    #[command(flatten)]
    pub on: BranchArgument,
    /// A parameter of the project
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// Check the project and list the models that would run
    #[arg(long)]
    pub dry_run: bool,
    /// A failed expectation fails the run (the default)
    #[arg(long, conflicts_with = "no_strict")]
    pub strict: bool,
    /// A failed expectation is only a warning
    #[arg(long)]
    pub no_strict: bool,
    /// Run unchanged models too
    #[arg(long)]
    pub no_cache: bool,
    /// The priority of the run's functions in the queue: low, normal, high
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<String>,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}
