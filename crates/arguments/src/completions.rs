//! `headwater completions`.

use clap::Args;

/// `headwater completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}
