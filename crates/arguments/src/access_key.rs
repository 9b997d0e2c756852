//! `headwater key`.

use clap::Subcommand;

use super::TokenCreate;

/// `headwater key`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List access keys, without their secrets
    #[command(after_help = "Example:\n  headwater key ls --user ana")]
    Ls {
        /// Only the access keys of this user
        #[arg(long)]
        user: Option<String>,
    },
    /// Create an access key for S3 clients and print its secret, which is shown once
    #[command(after_help = "Examples:
  headwater key create
  headwater key create --user loader --expires 90d --scope 'read, list on bucket:landing'
  export $(headwater key create)")]
    Create(TokenCreate),
    /// Revoke an access key
    #[command(aliases = ["rm", "delete"], after_help = "Example:\n  headwater key revoke HWAKQ3ZP7M2X")]
    Revoke {
        /// The id, as `headwater key ls` prints it
        #[arg(value_name = "KEY")]
        id: String,
    },
}
