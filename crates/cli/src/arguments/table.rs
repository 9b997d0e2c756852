//! `headwater table`: its commands, of which `diff` has a file of its own.

use clap::{Args, Subcommand, ValueEnum};

use super::{BranchArgument, RefArgument, TableDiff};

/// `headwater table`
#[derive(Debug, Subcommand)]
pub enum Table {
    /// List the tables
    #[command(after_help = "Example:\n  headwater table ls --ref dev")]
    Ls(TableLs),
    /// Columns, size and location of a table
    #[command(after_help = "Example:\n  headwater table get flights")]
    Get(TableGet),
    /// What differs between two states of a table: columns, layout, files, statistics, rows
    #[command(after_help = "Examples:
  headwater table diff flights main dev
  headwater table diff flights --key id --summary
  headwater table diff flights@v1 flights~2 --limit 20 -o csv

Without a ref, the last commit is compared with the one before.")]
    Diff(TableDiff),
    /// Bring files into a table
    #[command(after_help = "Examples:
  headwater table import flights ./data/*.csv.gz
  headwater table import flights ./data --null NA --dry-run
  headwater table import clicks clicks.ndjson --type user_id=string --on-error reject")]
    Import(Box<TableImport>),
    /// Keep tables small and clean: compact, sort, expire, remove what nothing needs
    #[command(after_help = "Examples:
  headwater table maintain flights
  headwater table maintain flights --sort origin,dep_time --dry-run
  headwater table maintain flights --expire-before 30d --orphans
  headwater table maintain --orphans

Without an option, small files are put together, deletes folded in and manifests arranged.")]
    Maintain(TableMaintain),
    /// Drop a table from a branch
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater table rm flights --ref dev")]
    Rm(TableRm),
}

/// `headwater table ls`
#[derive(Debug, Args)]
pub struct TableLs {
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
    #[command(flatten)]
    pub at: RefArgument,
}

/// `headwater table maintain`
#[derive(Debug, Args)]
pub struct TableMaintain {
    /// The table [default: all tables of the branch]
    pub table: Option<String>,
    #[command(flatten)]
    pub on: BranchArgument,
    /// Put small files together, and write files anew that lost many rows
    #[arg(long, conflicts_with_all = ["sort", "zorder"])]
    pub compact: bool,
    /// Write all files anew, sorted by columns: `a,b desc`
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "zorder")]
    pub sort: Vec<String>,
    /// Write all files anew, in a z-order of columns
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub zorder: Vec<String>,
    /// Put what many manifests say into few
    #[arg(long)]
    pub manifests: bool,
    /// Remove the files of states that were superseded longer ago: `30d`
    #[arg(long, value_name = "DURATION")]
    pub expire_before: Option<String>,
    /// Remove the files of all states but the last N of each branch
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Remove files that no branch, no tag and no commit that leads to one needs
    #[arg(long)]
    pub orphans: bool,
    /// How old those must be, an hour at least [default: 3d]
    #[arg(long, value_name = "DURATION", requires = "orphans")]
    pub older_than: Option<String>,
    /// Remove those files even where they are most of what is there
    #[arg(long, requires = "orphans")]
    pub force: bool,
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `headwater table rm`
#[derive(Debug, Args)]
pub struct TableRm {
    /// The table
    pub table: String,
    #[command(flatten)]
    pub on: BranchArgument,
    /// Succeed where there is no such table
    #[arg(long)]
    pub if_exists: bool,
}

/// `headwater table import`
#[derive(Debug, Args)]
pub struct TableImport {
    /// The table; it is made where it is not there
    pub table: String,
    /// Files, folders and globs
    #[arg(required = true)]
    pub sources: Vec<String>,
    #[command(flatten)]
    pub on: BranchArgument,
    /// Infer, check and show the plan; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Import files that were imported before once more
    #[arg(long)]
    pub again: bool,
    /// What to do with a row that cannot be read
    #[arg(long, value_enum, default_value_t)]
    pub on_error: OnErrorArgument,
    /// The type of a column, as Iceberg writes it
    #[arg(long = "type", value_name = "COLUMN=TYPE")]
    pub types: Vec<String>,
    /// How CSV files write dates, such as `DD.MM.YYYY` or `MM/DD/YYYY`
    #[arg(long, value_name = "FORMAT")]
    pub date_format: Option<String>,
    /// CSV numbers have a comma before their fraction, as in `1.234,5`
    #[arg(long)]
    pub decimal_comma: bool,
    /// Text that means null, besides the empty field
    #[arg(long = "null", value_name = "TEXT")]
    pub nulls: Vec<String>,
    /// Partition a new table by `column`, `day(column)` or `bucket(16, column)`
    #[arg(long = "partition-by", value_name = "FIELD")]
    pub partition: Vec<String>,
    /// The files' format [default: told by their names]
    #[arg(long, value_enum)]
    pub format: Option<FormatArgument>,
    /// The CSV delimiter [default: found in the files]
    #[arg(long)]
    pub delimiter: Option<char>,
    /// The first CSV row is data; columns are named `column_1`, `column_2`, …
    #[arg(long)]
    pub no_header: bool,
    /// The text encoding, such as `windows-1252` [default: UTF-8, or what the file's first bytes say]
    #[arg(long)]
    pub encoding: Option<String>,
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `--on-error`
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum OnErrorArgument {
    /// End with file, line, column and value; write nothing
    #[default]
    Stop,
    /// Put the row and the reason into `<table>__rejected`
    Reject,
}

/// `--format`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArgument {
    /// Comma-separated values
    Csv,
    /// One JSON object a line, or a JSON array of objects
    Ndjson,
    /// Apache Parquet
    Parquet,
    /// Arrow IPC: a file, also of Feather version 2, or a stream
    Arrow,
}
