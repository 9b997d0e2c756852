//! `headwater restriction`.

use clap::{Args, Subcommand};

/// `headwater restriction`
#[derive(Debug, Subcommand)]
pub enum Restriction {
    /// List the row filters and column masks
    #[command(after_help = "Example:\n  headwater restriction ls")]
    Ls,
    /// Create a row filter, or with `--column` a column mask
    #[command(after_help = "Examples:
  headwater restriction create eu --on sales.orders --using \"region = 'EU'\" --to analyst
  headwater restriction create pay --on hr.staff --column salary --using NULL")]
    Create(RestrictionCreate),
    /// Drop a row filter or column mask
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater restriction rm eu")]
    Rm {
        /// The row filter or column mask
        name: String,
        /// Succeed if the row filter or column mask does not exist
        #[arg(long)]
        if_exists: bool,
    },
}

/// `headwater restriction create`
#[derive(Debug, Args)]
pub struct RestrictionCreate {
    /// The name
    pub name: String,
    /// The table
    #[arg(long, value_name = "TABLE")]
    pub on: String,
    /// The column to mask
    #[arg(long, value_name = "COLUMN")]
    pub column: Option<String>,
    /// The condition for visible rows, or the value that replaces the column's value, as SQL
    #[arg(long, value_name = "SQL")]
    pub using: String,
    /// The users and roles to restrict, separated by commas; by default all but administrators
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Replace a restriction of this name
    #[arg(long)]
    pub replace: bool,
}
