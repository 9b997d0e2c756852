//! `headwater token`.

use clap::{Args, Subcommand};

/// `headwater token`
#[derive(Debug, Subcommand)]
pub enum Token {
    /// List access tokens, without their secrets
    #[command(after_help = "Example:\n  headwater token ls --user ana")]
    Ls {
        /// Only the tokens of this user
        #[arg(long)]
        user: Option<String>,
    },
    /// Create an access token and print its secret, which is shown once
    #[command(after_help = "Examples:
  headwater token create --user ana
  headwater token create --user loader --expires 90d --scope 'select on table:sales.*'")]
    Create(TokenCreate),
    /// Revoke an access token
    #[command(aliases = ["rm", "delete"], after_help = "Example:\n  headwater token revoke 3fa9c1d2")]
    Revoke {
        /// The id, as `headwater token ls` prints it
        #[arg(value_name = "TOKEN")]
        id: String,
    },
}

/// `headwater token create`
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// The user [default: yourself]
    #[arg(long)]
    pub user: Option<String>,
    /// A description, such as the program that uses it
    #[arg(long, default_value = "")]
    pub label: String,
    /// The expiry: after a duration, `90d`, or at a time, `2027-01-31` [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Limit the token to a permission, `select on table:sales.*`; repeatable
    #[arg(long = "scope", value_name = "PERMISSION")]
    pub scopes: Vec<String>,
}
