//! `headwater function layer`: its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headwater function layer`
#[derive(Debug, Subcommand)]
pub enum FunctionLayer {
    /// Publish a version of a layer; the first version creates the layer
    #[command(after_help = "Examples:
  headwater function layer publish deps layer/
  headwater function layer publish deps layer.zip --description shared")]
    Publish(FunctionLayerPublish),
    /// List the versions of all layers
    #[command(after_help = "Example:\n  headwater function layer ls")]
    Ls,
    /// Delete a version of a layer; functions that use it keep its files
    #[command(
        aliases = ["delete", "drop"],
        after_help = "Example:\n  headwater function layer rm deps 3"
    )]
    Rm(FunctionLayerRm),
}

/// `headwater function layer publish`
#[derive(Debug, Args)]
pub struct FunctionLayerPublish {
    /// The layer
    pub name: String,
    /// The layer's folder, or a ZIP archive. Functions import its files below `python/` and
    /// `nodejs/`
    #[arg(value_name = "DIR|FILE.zip")]
    pub source: PathBuf,
    /// A description
    #[arg(long, default_value = "", hide_default_value = true)]
    pub description: String,
}

/// `headwater function layer rm`
#[derive(Debug, Args)]
pub struct FunctionLayerRm {
    /// The layer
    pub name: String,
    /// The number of a version
    pub version: u64,
    /// Succeed if the layer or the version does not exist
    #[arg(long)]
    pub if_exists: bool,
}
