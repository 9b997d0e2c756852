//! `headwater console`.

use clap::Args;

use super::Serve;

/// `headwater console`
#[derive(Debug, Args)]
pub struct Console {
    /// Print the address and open no browser
    #[arg(long)]
    pub no_browser: bool,
    /// Options of the server, if none listens for HTTP yet
    #[command(flatten)]
    pub serve: Serve,
}
