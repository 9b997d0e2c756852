//! `headwater key`.

use clap::{Args, Subcommand};

/// `headwater key`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List access keys, without their secrets
    #[command(after_help = "Example:\n  headwater key ls --user ana")]
    Ls(KeyLs),
    /// Create an access key for S3 clients and print its secret, which is shown once
    #[command(after_help = "Examples:
  headwater key create
  headwater key create --user loader --expires 90d --scope 'read, list on bucket:landing'
  export $(headwater key create)")]
    Create(KeyCreate),
    /// Revoke an access key
    #[command(
        aliases = ["rm", "delete"],
        after_help = "Example:\n  headwater key revoke HWAKQ3ZP7M2XK4LDT6WV"
    )]
    Revoke(KeyRevoke),
}

/// `headwater key ls`
#[derive(Debug, Args)]
pub struct KeyLs {
    /// Only the access keys of this user
    #[arg(long)]
    pub user: Option<String>,
}

/// `headwater key create`
#[derive(Debug, Args)]
pub struct KeyCreate {
    /// The user [default: yourself]
    #[arg(long)]
    pub user: Option<String>,
    /// A description, such as the program that uses it
    #[arg(long, default_value = "")]
    pub label: String,
    /// When it expires: after a duration, `90d`, or at a time, `2027-01-31` [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Limit the key to a permission, `read, list on bucket:landing`; repeatable
    #[arg(long = "scope", value_name = "PERMISSION")]
    pub scopes: Vec<String>,
}

/// `headwater key revoke`
#[derive(Debug, Args)]
pub struct KeyRevoke {
    /// The id, as `headwater key ls` prints it
    #[arg(value_name = "KEY")]
    pub id: String,
}
