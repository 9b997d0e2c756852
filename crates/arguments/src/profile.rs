//! `headwater profile`.

use clap::Subcommand;

/// `headwater profile`
#[derive(Debug, Subcommand)]
pub enum Profile {
    /// List the servers that you logged in to
    #[command(after_help = "Example:\n  headwater profile ls")]
    Ls,
    /// Make a profile the default
    #[command(after_help = "Example:\n  headwater profile use lake.example.com")]
    Use {
        /// The name of the profile
        #[arg(value_name = "PROFILE")]
        name: String,
    },
}
