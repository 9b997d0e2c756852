//! `headwater secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headwater secret`
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// List the secrets, without their values
    #[command(after_help = "Example:\n  headwater secret ls")]
    Ls,
    /// Set a secret from standard input, a file or a prompt
    #[command(after_help = "Examples:
  headwater secret set STRIPE_KEY
  headwater secret set TLS_KEY --file server.key")]
    Set(SecretSet),
    /// Delete a secret
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater secret rm STRIPE_KEY")]
    Rm(SecretRm),
}

/// `headwater secret set`
#[derive(Debug, Args)]
pub struct SecretSet {
    /// The name of the secret and of its environment variable
    pub name: String,
    /// Read the value from a file, unchanged; from standard input, a final line break is removed
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
}

/// `headwater secret rm`
#[derive(Debug, Args)]
pub struct SecretRm {
    /// The name
    pub name: String,
    /// Succeed if the secret does not exist
    #[arg(long)]
    pub if_exists: bool,
}
