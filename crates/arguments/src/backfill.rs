//! `headwater backfill`.

use std::path::PathBuf;

use clap::Args;

use super::BranchArgument;

/// `headwater backfill`
#[derive(Debug, Args)]
pub struct Backfill {
    /// The parameter and its values: `day=2026-01-01..2026-01-31`, `month=2026-01..2026-06`,
    /// `part=0..15` or `origin=JFK,LGA`; with `--partitions-of`, only the name
    #[arg(value_name = "NAME=VALUES")]
    pub values: String,
    /// Run for each partition of this table, which is partitioned by one column
    #[arg(long, value_name = "TABLE")]
    pub partitions_of: Option<String>,
    /// Maximum number of runs at once
    #[arg(
        long,
        short,
        value_name = "COUNT",
        default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub jobs: u16,
    /// Maximum number of retries for the run of a value
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(0..=20)
    )]
    pub retries: u16,
    /// The project [default: the nearest `headwater.toml`, or the project of the lake]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
    /// Another parameter of the project, the same in all runs
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// Run only these models and their checks, as in `headwater run`
    #[arg(long, short, num_args = 1.., value_name = "SELECTOR")]
    pub select: Vec<String>,
    /// Leave out these models and expectations
    #[arg(long, num_args = 1.., value_name = "SELECTOR")]
    pub exclude: Vec<String>,
    /// A failed expectation is only a warning
    #[arg(long)]
    pub no_strict: bool,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}
