//! `headwater deploy` and `headwater deployment`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headwater deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The project [default: the one around the lake, or the nearest `headwater.toml` upwards]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Validate, show what would change, and deploy nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `headwater deployment`
#[derive(Debug, Subcommand)]
pub enum Deployment {
    /// List the deployed versions, the last deployed first
    #[command(after_help = "Example:\n  headwater deployment ls")]
    Ls,
    /// Show a version: its functions, triggers and files
    #[command(after_help = "Example:\n  headwater deployment get")]
    Get(DeploymentVersion),
    /// Put an earlier version in force
    #[command(
        after_help = "Examples:\n  headwater deployment rollback\n  headwater deployment rollback 3fa9c1d2e4b5"
    )]
    Rollback(DeploymentVersion),
}

/// A version, where one is named.
#[derive(Debug, Args)]
pub struct DeploymentVersion {
    /// The version, or the beginning of it [default: for `get` the one in force, for `rollback` the
    /// one deployed before it]
    pub version: Option<String>,
}
