//! `headwater demo`.

use std::path::PathBuf;

use clap::Args;

/// `headwater demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// The folder of the demo's project
    #[arg(default_value = "headwater-demo")]
    pub folder: PathBuf,
}
