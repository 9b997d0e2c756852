//! `headwater login` and `headwater logout`.

use std::path::PathBuf;

use clap::Args;

/// `headwater login`
#[derive(Debug, Args)]
pub struct Login {
    /// The server's URL, such as `https://lake.example.com:4280`
    #[arg(value_name = "URL")]
    pub url: String,
    /// Log in at the server's OpenID provider, in any browser; the default on a terminal
    #[arg(long)]
    pub device: bool,
    /// Log in with an access token, from a prompt or standard input
    #[arg(long, conflicts_with = "device")]
    pub token: bool,
    /// The name of the profile [default: the server's host]
    #[arg(long)]
    pub name: Option<String>,
    /// A PEM file to trust, such as a self-signed certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
}

/// `headwater logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The name of the profile [default: the default profile]
    #[arg(value_name = "PROFILE")]
    pub name: Option<String>,
}
