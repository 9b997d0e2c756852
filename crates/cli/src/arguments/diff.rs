//! `headwater branch diff` and `headwater table diff`.

use clap::{Args, ValueEnum};

/// `headwater branch diff`
#[derive(Debug, Args)]
pub struct BranchDiff {
    /// The first ref
    pub from: String,
    /// The second ref [default: the active branch]
    pub to: Option<String>,
    /// Rows to show of each table
    #[arg(long, default_value_t = 6)]
    pub rows: usize,
    #[command(flatten)]
    pub how: HowToCompare,
}

/// `headwater table diff`
#[derive(Debug, Args)]
pub struct TableDiff {
    /// The table; or one of its states, as TABLE@REF, TABLE~1, TABLE*TIME or TABLE#SNAPSHOT
    pub table: String,
    /// The first ref; or the other state, where TABLE is one [default: the commit before the second]
    pub from: Option<String>,
    /// The second ref [default: the active branch]
    pub to: Option<String>,
    /// Columns that tell rows apart [default: those that the table says]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub key: Vec<String>,
    /// Rows to show
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// Show the rows after those of the page that said so
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
    #[command(flatten)]
    pub how: HowToCompare,
}

/// What is read to find a difference.
#[derive(Debug, Args)]
pub struct HowToCompare {
    /// Show counts and no rows
    #[arg(long)]
    pub summary: bool,
    /// Whether rows are compared [default: `always` for a table, `auto` for a branch]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub compare: Option<CompareArgument>,
    /// Read columns for their statistics, which are bounds otherwise
    #[arg(long)]
    pub stats: bool,
}

/// Whether rows are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompareArgument {
    /// Where metadata is enough, or little has to be read
    Auto,
    /// Whatever has to be read
    Always,
    /// Only as far as metadata is enough
    Never,
}
