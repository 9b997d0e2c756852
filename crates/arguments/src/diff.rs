//! `headwater branch diff` and `headwater table diff`.

use clap::{Args, ValueEnum};

/// `headwater branch diff`
#[derive(Debug, Args)]
pub struct BranchDiff {
    /// The first ref
    pub from: String,
    /// The second ref [default: the active branch]
    pub to: Option<String>,
    /// The number of rows to show per table
    #[arg(long, default_value_t = 6)]
    pub rows: usize,
    /// The options of the comparison
    #[command(flatten)]
    pub how: CompareOptions,
}

/// `headwater table diff`
#[derive(Debug, Args)]
pub struct TableDiff {
    /// The table, or a state of it: TABLE@REF, TABLE~1, TABLE*TIME or TABLE#SNAPSHOT
    pub table: String,
    /// The first ref, or the other state of the table [default: the commit before the second]
    pub from: Option<String>,
    /// The second ref [default: the active branch]
    pub to: Option<String>,
    /// Columns that identify rows [default: the table's identifier fields]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub key: Vec<String>,
    /// The number of rows to show
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// Continue after the page that printed this token
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
    /// The options of the comparison
    #[command(flatten)]
    pub how: CompareOptions,
}

/// Options of a comparison.
#[derive(Debug, Args)]
pub struct CompareOptions {
    /// Show only counts, no rows
    #[arg(long)]
    pub summary: bool,
    /// When to compare rows [default: `always` for a table, `auto` for a branch]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub compare: Option<CompareArgument>,
    /// Compute exact statistics from the rows, not bounds from metadata
    #[arg(long)]
    pub stats: bool,
}

/// When rows are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompareArgument {
    /// Only if metadata is enough, or if little data must be read
    Auto,
    /// Always
    Always,
    /// Never; use metadata only
    Never,
}
