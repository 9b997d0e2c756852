//! `headwater sql`.

use clap::Args;
use headwater_model::parse_size;

use super::RefArgument;

/// `headwater sql`
#[derive(Debug, Args)]
pub struct Sql {
    /// The ref to read
    #[command(flatten)]
    pub at: RefArgument,
    /// The namespace of unqualified table names
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// The maximum number of rows to print per result; 0 for all
    #[arg(long, short, default_value_t = 100)]
    pub limit: u64,
    /// The memory limit before a statement spills to disk: `512MiB`, `2GiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
}
