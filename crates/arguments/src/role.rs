//! `headwater role`.

use clap::{Args, Subcommand};

/// `headwater role`
#[derive(Debug, Subcommand)]
pub enum Role {
    /// List the roles
    #[command(after_help = "Example:\n  headwater role ls")]
    Ls,
    /// Create a role without grants
    #[command(after_help = "Example:\n  headwater role create analyst")]
    Create(RoleName),
    /// Drop a role with its grants
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater role rm analyst")]
    Rm(RoleRm),
    /// Grant a role to a user or another role
    #[command(after_help = "Example:\n  headwater role grant analyst ana")]
    Grant(RoleMember),
    /// Revoke a role from a user or another role
    #[command(after_help = "Example:\n  headwater role revoke analyst ana")]
    Revoke(RoleMember),
}

/// A role.
#[derive(Debug, Args)]
pub struct RoleName {
    /// The role
    #[arg(value_name = "ROLE")]
    pub name: String,
}

/// `headwater role rm`
#[derive(Debug, Args)]
pub struct RoleRm {
    /// The role
    #[arg(value_name = "ROLE")]
    pub name: String,
    /// Succeed if the role does not exist
    #[arg(long)]
    pub if_exists: bool,
}

/// A role and its member.
#[derive(Debug, Args)]
pub struct RoleMember {
    /// The role
    pub role: String,
    /// The user or role
    pub member: String,
}
