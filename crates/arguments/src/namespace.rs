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
    Rm(NamespaceRm),
}

/// `headwater namespace rm`
#[derive(Debug, Args)]
pub struct NamespaceRm {
    /// The namespace
    #[command(flatten)]
    pub namespace: NamespaceName,
    /// Succeed if it does not exist
    #[arg(long)]
    pub if_exists: bool,
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
