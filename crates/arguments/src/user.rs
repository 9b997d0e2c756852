//! `headwater user`.

use clap::{Args, Subcommand};

/// `headwater user`
#[derive(Debug, Subcommand)]
pub enum User {
    /// List the users
    #[command(after_help = "Example:\n  headwater user ls")]
    Ls,
    /// Create a user without grants
    #[command(after_help = "Examples:
  headwater user create ana
  headwater user create ana --password
  headwater user create loader --service")]
    Create(UserCreate),
    /// Set a user's password, read from a prompt or standard input
    #[command(after_help = "Example:\n  headwater user passwd ana")]
    Passwd(UserName),
    /// Reject a user's credentials from now on
    #[command(after_help = "Example:\n  headwater user disable ana")]
    Disable(UserName),
    /// Accept a disabled user's credentials again
    #[command(after_help = "Example:\n  headwater user enable ana")]
    Enable(UserName),
    /// Drop a user with its tokens, grants and ownership
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater user rm ana")]
    Rm(UserRm),
}

/// `headwater user create`
#[derive(Debug, Args)]
pub struct UserCreate {
    /// The name
    pub name: String,
    /// Create a service account: a program, which has tokens and no password
    #[arg(long, conflicts_with = "password")]
    pub service: bool,
    /// Set a password, read from a prompt or standard input
    #[arg(long)]
    pub password: bool,
}

/// A user.
#[derive(Debug, Args)]
pub struct UserName {
    /// The user
    #[arg(value_name = "USER")]
    pub name: String,
}

/// `headwater user rm`
#[derive(Debug, Args)]
pub struct UserRm {
    /// The user
    #[arg(value_name = "USER")]
    pub name: String,
    /// Succeed if the user does not exist
    #[arg(long)]
    pub if_exists: bool,
}
