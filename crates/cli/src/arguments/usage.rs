//! `headwater usage`.

use clap::{Args, ValueEnum};

use super::DAYS_MAX;

/// `headwater usage`
#[derive(Debug, Args)]
pub struct Usage {
    /// What a line sums up
    #[arg(long, value_enum, default_value_t)]
    pub by: UsageBy,
    /// Only the last days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(..=DAYS_MAX))]
    pub days: Option<u64>,
}

/// `--by`
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum UsageBy {
    /// Days
    Day,
    /// Kinds of job
    #[default]
    Kind,
    /// Models of the project
    Model,
    /// Jobs
    Job,
}
