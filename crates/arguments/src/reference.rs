//! The option `--ref` of most commands: a ref to read, or a branch to write.

use clap::Args;

/// A ref to read at.
#[derive(Debug, Args)]
pub struct RefArgument {
    /// Branch, tag or commit [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "REF")]
    pub reference: Option<String>,
}

/// A branch to write to.
#[derive(Debug, Args)]
pub struct BranchArgument {
    /// The branch [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "BRANCH")]
    pub reference: Option<String>,
}
