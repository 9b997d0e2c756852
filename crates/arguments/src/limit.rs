//! `headwater limit`.

use clap::Subcommand;
use headwater_model::parse_size;

/// `headwater limit`
#[derive(Debug, Subcommand)]
pub enum Limit {
    /// List the limits; without the right ADMINISTER, only your own and those of your roles
    #[command(after_help = "Example:\n  headwater limit ls")]
    Ls,
    /// Set the limits of a user or role, and replace its existing limits
    #[command(after_help = "Examples:
  headwater limit set ana --jobs 4 --memory 2GiB
  headwater limit set analyst --bytes-per-day 500GiB --money-per-day 20")]
    Set {
        /// The user or role
        name: String,
        /// Jobs at once, including queued ones: statements, calls, imports and runs
        #[arg(long, value_name = "N")]
        jobs: Option<u32>,
        /// Memory of one statement or function call: `2GiB`
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        memory: Option<u64>,
        /// Bytes read per day, in UTC: `500GiB`
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        bytes_per_day: Option<u64>,
        /// Cost per day, in UTC and in the currency of the rate card: `20`
        #[arg(long, value_name = "AMOUNT")]
        money_per_day: Option<f64>,
    },
    /// Remove the limits of a user or role
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater limit rm ana")]
    Rm {
        /// The user or role
        name: String,
        /// Succeed if the user or role has no limits
        #[arg(long)]
        if_exists: bool,
    },
}
