//! `headwater view`.

use clap::{Args, Subcommand};

use super::{BranchArgument, RefArgument, TableLs};

/// `headwater view`
#[derive(Debug, Subcommand)]
pub enum View {
    /// List the views
    #[command(after_help = "Example:\n  headwater view ls --ref dev")]
    Ls(TableLs),
    /// Show the columns and the query of a view
    #[command(after_help = "Example:\n  headwater view get late_flights")]
    Get(ViewGet),
    /// Drop a view from a branch
    #[command(
        aliases = ["delete", "drop"],
        after_help = "Example:\n  headwater view rm late_flights --ref dev"
    )]
    Rm(ViewRm),
}

/// `headwater view get`
#[derive(Debug, Args)]
pub struct ViewGet {
    /// The view
    pub view: String,
    /// The ref to read
    #[command(flatten)]
    pub at: RefArgument,
}

/// `headwater view rm`
#[derive(Debug, Args)]
pub struct ViewRm {
    /// The view
    pub view: String,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
    /// Succeed if there is no such view
    #[arg(long)]
    pub if_exists: bool,
}
