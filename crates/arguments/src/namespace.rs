//! `headwater namespace`.

use clap::{Args, Subcommand};

use super::{BranchArgument, RefArgument};

/// `headwater namespace`
#[derive(Debug, Subcommand)]
pub enum Namespace {
    /// List the namespaces
    #[command(after_help = "Example:\n  headwater namespace ls")]
    Ls(RefArgument),
    /// Create a namespace
    #[command(after_help = "Example:\n  headwater namespace create staging")]
    Create(NamespaceName),
    /// Drop an empty namespace
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater namespace rm staging")]
    Rm(NamespaceName),
}

/// A namespace on a branch.
#[derive(Debug, Args)]
pub struct NamespaceName {
    /// The namespace
    pub name: String,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
}
