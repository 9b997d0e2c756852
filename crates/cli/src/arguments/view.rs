//! `headwater view`.

use clap::Subcommand;

use super::{TableGet, TableLs, TableRm};

/// `headwater view`
#[derive(Debug, Subcommand)]
pub enum View {
    /// List the views
    #[command(after_help = "Example:\n  headwater view ls --ref dev")]
    Ls(TableLs),
    /// Columns and query of a view
    #[command(after_help = "Example:\n  headwater view get late_flights")]
    Get(TableGet),
    /// Drop a view from a branch
    #[command(after_help = "Example:\n  headwater view rm late_flights --ref dev")]
    Rm(TableRm),
}
