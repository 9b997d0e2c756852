//! `headwater checkout`.

use clap::Args;

/// `headwater checkout`
#[derive(Debug, Args)]
pub struct Checkout {
    /// The branch
    pub branch: String,
    /// Create the branch first
    #[arg(short = 'b', long)]
    pub create: bool,
    /// The start of the new branch [default: the active branch]
    #[arg(long, value_name = "REF", requires = "create")]
    pub from: Option<String>,
}
