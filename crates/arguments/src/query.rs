//! `headwater query`.

use std::path::PathBuf;

use clap::Args;
use headwater_model::parse_size;

use super::RefArgument;

/// `headwater query`
#[derive(Debug, Args)]
pub struct Query {
    /// The statement; `-` reads it from standard input
    #[arg(required_unless_present_any = ["file", "result", "cancel"])]
    pub sql: Option<String>,
    /// Read the statement from a file
    #[arg(long, short, value_name = "FILE", conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// The ref to read
    #[command(flatten)]
    pub at: RefArgument,
    /// The namespace of unqualified table names
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// The value of `$NAME` in the statement: a number, `true`, `false`, `null`, or else text
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// The maximum number of rows to print; 0 for all [default: 100 for `table`, otherwise all]
    #[arg(long, short)]
    pub limit: Option<u64>,
    /// The memory limit before the statement spills to disk: `512MiB`, `2GiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Start the statement, print the id of the query, and do not wait
    #[arg(long, short)]
    pub detach: bool,
    /// Wait for a detached query and print its rows
    #[arg(long, value_name = "ID", conflicts_with_all = ["sql", "file", "detach", "cancel"])]
    pub result: Option<String>,
    /// The number of rows of the result to skip
    #[arg(long, value_name = "ROWS", default_value_t = 0, requires = "result")]
    pub offset: u64,
    /// Cancel a detached query
    #[arg(long, value_name = "ID", conflicts_with_all = ["sql", "file", "detach"])]
    pub cancel: Option<String>,
}
