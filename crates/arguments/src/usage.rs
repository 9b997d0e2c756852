//! `headwater usage`.

use clap::{Args, ValueEnum};

/// The longest period in days: a hundred years.
pub(crate) const DAYS_MAX: u64 = 36_500;

/// `headwater usage`
#[derive(Debug, Args)]
pub struct Usage {
    /// The grouping of the lines: one property or two, as in `function,day`
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kind")]
    pub by: Vec<UsageBy>,
    /// Only the last N days, at least 1: N times 24 hours, not calendar days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    pub days: Option<u64>,
}

/// `--by`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum UsageBy {
    /// Days
    Day,
    /// Job kinds
    Kind,
    /// Models of the project
    Model,
    /// Jobs
    Job,
    /// Functions, called by clients and triggers
    Function,
    /// Triggers, with the deliveries of their events
    Trigger,
    /// Branches and other refs
    Branch,
    /// Authors
    Author,
}
