//! `headwater environment`.

use clap::{Args, Subcommand};

use super::usage::DAYS_MAX;

/// `headwater environment`
#[derive(Debug, Subcommand)]
pub enum Environment {
    /// List the environments
    #[command(after_help = "Example:\n  headwater environment ls")]
    Ls,
    /// Show an environment's packages, its preloaded process (zygote), and why calls wait
    #[command(after_help = "Example:\n  headwater environment explain 3fa9c1d2")]
    Explain(EnvironmentId),
    /// Remove unused environments; a later call creates them again
    #[command(
        after_help = "Examples:\n  headwater environment prune --dry-run\n  headwater environment prune --all"
    )]
    Prune(EnvironmentPrune),
    /// Resolve the packages again within their requirements; running calls keep the old ones
    #[command(
        after_help = "Examples:\n  headwater environment rebuild 3fa9c1d2\n  headwater environment rebuild --all"
    )]
    Rebuild(EnvironmentRebuild),
}

/// An environment.
#[derive(Debug, Args)]
pub struct EnvironmentId {
    /// The environment's id, or a prefix of the id
    pub id: String,
}

/// `headwater environment prune`
#[derive(Debug, Args)]
pub struct EnvironmentPrune {
    /// Remove environments that were not used for this many days
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=DAYS_MAX))]
    pub days: u64,
    /// Remove all environments that no function is using
    #[arg(long, conflicts_with = "days")]
    pub all: bool,
    /// Only list the environments that would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// `headwater environment rebuild`
#[derive(Debug, Args)]
pub struct EnvironmentRebuild {
    /// The ids of environments, or prefixes of ids
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// Rebuild all environments
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}
