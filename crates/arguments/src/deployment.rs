//! `headwater deploy` and `headwater deployment`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headwater deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The project [default: the nearest `headwater.toml`, or the project of the lake]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Validate and show the changes; deploy nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `headwater deployment`
#[derive(Debug, Subcommand)]
pub enum Deployment {
    /// List the deployed versions, newest first
    #[command(after_help = "Example:\n  headwater deployment ls")]
    Ls,
    /// Show a version: its functions, triggers and files
    #[command(after_help = "Example:\n  headwater deployment get")]
    Get(DeploymentVersion),
    /// Deploy an earlier version again
    #[command(
        after_help = "Examples:\n  headwater deployment rollback\n  headwater deployment rollback 3fa9c1d2e4b5"
    )]
    Rollback(DeploymentVersion),
}

/// An optional version.
#[derive(Debug, Args)]
pub struct DeploymentVersion {
    /// The version or a prefix [default: the active version for `get`, the previous version for
    /// `rollback`]
    pub version: Option<String>,
}
