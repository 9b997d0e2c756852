//! `headwater test`.

use std::path::PathBuf;

use clap::Args;

/// `headwater test`
#[derive(Debug, Args)]
pub struct Test {
    /// Test only these models: names, `+NAME+`, `tag:NAME`, `path:PATH`
    #[arg(value_name = "SELECTOR")]
    pub select: Vec<String>,
    /// The project [default: the nearest `headwater.toml`, or the project of the lake]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
}
