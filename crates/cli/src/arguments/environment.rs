//! `headwater environment`.

use clap::{Args, Subcommand};

use super::DAYS_MAX;

/// `headwater environment`
#[derive(Debug, Subcommand)]
pub enum Environment {
    /// List the environments
    #[command(after_help = "Example:\n  headwater environment ls")]
    Ls,
    /// Show an environment's packages, what is held imported, and why calls wait
    #[command(after_help = "Example:\n  headwater environment explain 3fa9c1d2")]
    Explain(EnvironmentId),
    /// Remove environments that nobody has used for a while; what is asked for again is made again
    #[command(
        after_help = "Examples:\n  headwater environment prune --dry-run\n  headwater environment prune --all"
    )]
    Prune(EnvironmentPrune),
    /// Choose packages anew, within what was asked for; what runs goes on with the old ones
    #[command(
        after_help = "Examples:\n  headwater environment rebuild 3fa9c1d2\n  headwater environment rebuild --all"
    )]
    Rebuild(EnvironmentRebuild),
}

/// An environment.
#[derive(Debug, Args)]
pub struct EnvironmentId {
    /// Its id, or the beginning of it
    pub id: String,
}

/// `headwater environment prune`
#[derive(Debug, Args)]
pub struct EnvironmentPrune {
    /// Those that were not used for so many days
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=DAYS_MAX))]
    pub days: u64,
    /// All that no function uses now
    #[arg(long, conflicts_with = "days")]
    pub all: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// `headwater environment rebuild`
#[derive(Debug, Args)]
pub struct EnvironmentRebuild {
    /// Their ids, or the beginnings of them
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// Every environment
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}
