//! `headwater grant`, `headwater revoke` and `headwater access`.

use clap::{Args, Subcommand};

/// `headwater grant`
#[derive(Debug, Args)]
pub struct Grant {
    /// The actions, separated by commas: `select,insert`
    #[arg(value_delimiter = ',', required = true)]
    pub actions: Vec<String>,
    /// The objects: `table:sales.*`, `namespace:sales`, `branch:dev/*`, `function:score` or `lake`
    #[arg(long, value_name = "OBJECT")]
    pub on: String,
    /// The user or role
    #[arg(long, value_name = "NAME")]
    pub to: String,
}

/// `headwater revoke`
#[derive(Debug, Args)]
pub struct Revoke {
    /// The actions, separated by commas: `select,insert`
    #[arg(value_delimiter = ',', required = true)]
    pub actions: Vec<String>,
    /// The objects, written as in the grant
    #[arg(long, value_name = "OBJECT")]
    pub on: String,
    /// The user or role
    #[arg(long, value_name = "NAME")]
    pub from: String,
}

/// `headwater access`
#[derive(Debug, Subcommand)]
pub enum Access {
    /// List grants
    #[command(after_help = "Example:\n  headwater access ls --of analyst")]
    Ls(AccessLs),
    /// Explain whether a user may perform an action on an object, and which grant decides
    #[command(after_help = "Example:\n  headwater access explain ana select table:sales.orders")]
    Explain(AccessExplain),
}

/// `headwater access ls`
#[derive(Debug, Args)]
pub struct AccessLs {
    /// Only the grants of this user or role
    #[arg(long, value_name = "NAME")]
    pub of: Option<String>,
}

/// `headwater access explain`
#[derive(Debug, Args)]
pub struct AccessExplain {
    /// The user
    pub user: String,
    /// The action, such as `select`
    pub action: String,
    /// The object: `table:sales.orders`, `branch:main` or `lake`
    pub object: String,
}
