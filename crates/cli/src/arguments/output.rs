//! Options for the form of the output.

use clap::ValueEnum;

/// The format of standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Aligned text tables
    #[default]
    Table,
    /// One JSON document
    Json,
    /// Comma-separated values; only for rows
    Csv,
    /// One JSON object per line; only for rows
    Ndjson,
}

/// `--color`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArgument {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
