//! `headwater function alias`: its commands.

use clap::{Args, Subcommand};

/// `headwater function alias`
#[derive(Debug, Subcommand)]
pub enum FunctionAlias {
    /// Create an alias of a version
    #[command(after_help = "Examples:
  headwater function alias create price live 2
  headwater function alias create price live 2 --weight 3=0.1")]
    Create(FunctionAliasCreate),
    /// Change an alias; settings that are not given are unchanged
    #[command(after_help = "Examples:
  headwater function alias update price live 3 --no-weights
  headwater function alias update price live --weight 4=0.05")]
    Update(FunctionAliasUpdate),
    /// List the aliases of a function
    #[command(after_help = "Example:\n  headwater function alias ls price")]
    Ls {
        /// The function
        name: String,
    },
    /// Delete an alias, with its URL
    #[command(
        aliases = ["delete", "drop"],
        after_help = "Example:\n  headwater function alias rm price live"
    )]
    Rm(FunctionAliasRm),
}

/// `headwater function alias create`
#[derive(Debug, Args)]
pub struct FunctionAliasCreate {
    /// The function
    pub name: String,
    /// The alias
    pub alias: String,
    /// The number of a version, or `latest` for the function's current code and settings
    #[arg(value_parser = parse_version)]
    pub version: AliasVersion,
    /// Another version and its share of the calls, from 0 to 1. Can be repeated
    #[arg(long = "weight", value_name = "VERSION=SHARE", value_parser = parse_weight)]
    pub weights: Vec<(u64, f64)>,
    /// A description
    #[arg(long, default_value = "", hide_default_value = true)]
    pub description: String,
}

/// `headwater function alias update`
#[derive(Debug, Args)]
pub struct FunctionAliasUpdate {
    /// The function
    pub name: String,
    /// The alias
    pub alias: String,
    /// The number of a version, or `latest` for the function's current code and settings
    #[arg(value_parser = parse_version)]
    pub version: Option<AliasVersion>,
    /// Another version and its share of the calls. Can be repeated; replaces all shares
    #[arg(long = "weight", value_name = "VERSION=SHARE", value_parser = parse_weight)]
    pub weights: Vec<(u64, f64)>,
    /// Remove all shares: the alias sends all calls to one version
    #[arg(long, conflicts_with = "weights")]
    pub no_weights: bool,
    /// A description
    #[arg(long)]
    pub description: Option<String>,
}

/// `headwater function alias rm`
#[derive(Debug, Args)]
pub struct FunctionAliasRm {
    /// The function
    pub name: String,
    /// The alias
    pub alias: String,
    /// Succeed if the function or the alias does not exist
    #[arg(long)]
    pub if_exists: bool,
}

/// The version of an alias; `None` for `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasVersion(pub Option<u64>);

fn parse_version(text: &str) -> Result<AliasVersion, String> {
    if text == "latest" {
        return Ok(AliasVersion(None));
    }
    let number =
        text.parse().map_err(|_| "write the number of a version, or `latest`".to_owned())?;
    Ok(AliasVersion(Some(number)))
}

fn parse_weight(text: &str) -> Result<(u64, f64), String> {
    let parts = text.split_once('=');
    let parsed =
        parts.and_then(|(version, share)| Some((version.parse().ok()?, share.parse().ok()?)));
    let is_share = |(_, share): &(u64, f64)| (0.0..=1.0).contains(share);
    parsed.filter(is_share).ok_or_else(|| {
        "write a version and its share of the calls, from 0 to 1, such as `3=0.1`".to_owned()
    })
}
