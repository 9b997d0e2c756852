//! `headwater table`, except `table diff`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use headwater_model::parse_duration;

use super::{BranchArgument, RefArgument, TableDiff};

/// `headwater table`
#[derive(Debug, Subcommand)]
pub enum Table {
    /// List the tables
    #[command(after_help = "Example:\n  headwater table ls --ref dev")]
    Ls(TableLs),
    /// Show the columns, size and location of a table
    #[command(after_help = "Example:\n  headwater table get flights")]
    Get(TableGet),
    /// Show the differences between two states of a table: columns, layout, files, rows
    #[command(after_help = "Examples:
  headwater table diff flights main dev
  headwater table diff flights --key id --summary
  headwater table diff flights@v1 flights~2 --limit 20 -o csv

Without a ref, the last commit is compared with the one before.")]
    Diff(TableDiff),
    /// Import files into a table
    #[command(after_help = "Examples:
  headwater table import flights ./data/*.csv.gz
  headwater table import flights ./data --null NA --dry-run
  headwater table import clicks clicks.ndjson --type user_id=string --on-error reject")]
    Import(Box<TableImport>),
    /// Maintain tables: compact, sort, expire snapshots, remove unreferenced files
    #[command(after_help = "Examples:
  headwater table maintain flights
  headwater table maintain flights --sort origin,dep_time --dry-run
  headwater table maintain flights --expire-before 30d --orphans
  headwater table maintain --orphans

Without options, the command compacts data files, applies delete files and merges manifests.")]
    Maintain(TableMaintain),
    /// Drop a table from a branch
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater table rm flights --ref dev")]
    Rm(TableRm),
}

/// `headwater table ls`
#[derive(Debug, Args)]
pub struct TableLs {
    /// The ref to read
    #[command(flatten)]
    pub at: RefArgument,
    /// Only this namespace
    #[arg(long, short)]
    pub namespace: Option<String>,
}

/// `headwater table get`
#[derive(Debug, Args)]
pub struct TableGet {
    /// The table
    pub table: String,
    /// The ref to read
    #[command(flatten)]
    pub at: RefArgument,
}

/// `headwater table maintain`
#[derive(Debug, Args)]
pub struct TableMaintain {
    /// The table [default: all tables of the branch]
    pub table: Option<String>,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
    /// Merge small data files; rewrite files with many deleted rows
    #[arg(long, conflicts_with_all = ["sort", "zorder"])]
    pub compact: bool,
    /// Rewrite all files, sorted by columns: `a,b desc`
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "zorder")]
    pub sort: Vec<String>,
    /// Rewrite all files in z-order of columns
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub zorder: Vec<String>,
    /// Merge manifests
    #[arg(long)]
    pub manifests: bool,
    /// Remove the files of snapshots that were replaced longer ago than this: `30d`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expire_before: Option<Duration>,
    /// Remove the files of all but the last N snapshots of each branch
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Remove files that no branch or tag references
    #[arg(long)]
    pub orphans: bool,
    /// The minimum age of removed files, at least 1h [default: 3d]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "orphans")]
    pub older_than: Option<Duration>,
    /// Remove these files even if they are more than half of all files
    #[arg(long, requires = "orphans")]
    pub force: bool,
    /// Show the changes; make none
    #[arg(long)]
    pub dry_run: bool,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `headwater table rm`
#[derive(Debug, Args)]
pub struct TableRm {
    /// The table
    pub table: String,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
    /// Succeed if there is no such table
    #[arg(long)]
    pub if_exists: bool,
}

/// `headwater table import`
#[derive(Debug, Args)]
pub struct TableImport {
    /// The table; created if missing
    pub table: String,
    /// Files, folders and globs
    #[arg(required = true)]
    pub sources: Vec<String>,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
    /// Infer types and show the plan; import nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Import files again that were imported before
    #[arg(long)]
    pub again: bool,
    /// How to handle bad rows
    #[arg(long, value_enum, default_value_t)]
    pub on_error: OnErrorArgument,
    /// An Iceberg type for a column
    #[arg(long = "type", value_name = "COLUMN=TYPE")]
    pub types: Vec<String>,
    /// The date format of CSV files, such as `DD.MM.YYYY` or `MM/DD/YYYY`
    #[arg(long, value_name = "FORMAT")]
    pub date_format: Option<String>,
    /// CSV numbers have a decimal comma, as in `1.234,5`
    #[arg(long)]
    pub decimal_comma: bool,
    /// Text that means null, in addition to the empty field
    #[arg(long = "null", value_name = "TEXT")]
    pub nulls: Vec<String>,
    /// Partition a new table by `column`, `day(column)` or `bucket(16, column)`
    #[arg(long = "partition-by", value_name = "FIELD")]
    pub partition: Vec<String>,
    /// The file format [default: by the file extension]
    #[arg(long, value_enum)]
    pub format: Option<FormatArgument>,
    /// The CSV delimiter [default: detected]
    #[arg(long)]
    pub delimiter: Option<char>,
    /// CSV files have no header; columns are named `column_1`, `column_2`, …
    #[arg(long)]
    pub no_header: bool,
    /// The text encoding, such as `windows-1252` [default: UTF-8, or by the byte order mark]
    #[arg(long)]
    pub encoding: Option<String>,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `--on-error`
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum OnErrorArgument {
    /// Fail with file, line, column and value; import nothing
    #[default]
    Stop,
    /// Store the row and the reason in `<table>__rejected`
    Reject,
}

/// `--format`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArgument {
    /// Comma-separated values
    Csv,
    /// One JSON object per line, or a JSON array of objects
    Ndjson,
    /// Apache Parquet
    Parquet,
    /// Arrow IPC files and streams, Feather version 2
    Arrow,
}
