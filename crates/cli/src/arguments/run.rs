//! `headwater run`.

use std::path::PathBuf;

use clap::Args;

use super::BranchArgument;

/// `headwater run`
#[derive(Debug, Args)]
pub struct Run {
    /// The project [default: the one around the lake, or the nearest `headwater.toml` upwards]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    #[command(flatten)]
    pub on: BranchArgument,
    /// A parameter of the project
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// Check everything and show what would run
    #[arg(long)]
    pub dry_run: bool,
    /// A failed expectation ends the run (this is the default)
    #[arg(long, conflicts_with = "no_strict")]
    pub strict: bool,
    /// A failed expectation is only a warning
    #[arg(long)]
    pub no_strict: bool,
    /// Run every model, changed or not
    #[arg(long)]
    pub no_cache: bool,
    /// How much its functions matter where more wait than can run: low, normal, high
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<String>,
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}
