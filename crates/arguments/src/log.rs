//! `headwater log`.

use clap::Args;

use super::RefArgument;

/// `headwater log`
#[derive(Debug, Args)]
pub struct Log {
    /// Branch, tag or commit [default: the active branch]
    #[arg(value_name = "REF", conflicts_with = "reference")]
    pub start: Option<String>,
    /// The ref to read
    #[command(flatten)]
    pub at: RefArgument,
    /// The maximum number of commits
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
    /// Draw the commit graph
    #[arg(long)]
    pub graph: bool,
}
