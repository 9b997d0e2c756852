//! `headwater serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use headwater_model::{parse_duration, parse_size};

/// `headwater serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// The address for HTTP; port 0 picks a free port and prints it
    #[arg(
        long,
        visible_alias = "listen",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:4280",
        value_parser = parse_address
    )]
    pub http: SocketAddr,
    /// TLS, hosts and origins
    #[command(flatten)]
    pub network: ServeNetwork,
    /// Also listen on this address for the PostgreSQL protocol; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1,
        default_missing_value = "127.0.0.1:5432", value_parser = parse_address)]
    pub postgres: Option<SocketAddr>,
    /// Also listen on this address for S3 clients; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1,
        default_missing_value = "127.0.0.1:9000", value_parser = parse_address)]
    pub s3: Option<SocketAddr>,
    /// Require no token over TCP: any program and user of this machine can use the lake
    #[arg(long)]
    pub no_auth: bool,
    /// Let people log in at the OpenID provider that this TOML file describes
    #[arg(long, value_name = "FILE")]
    pub oidc: Option<PathBuf>,
    /// How functions are isolated
    #[arg(long, value_enum, default_value_t)]
    pub isolation: IsolationArgument,
    /// The memory for queries and functions together: `4GiB` [default: 75 % of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// The memory for decoded table columns: `2GiB`, `0` for none [default: 3/16 of `--memory`]
    #[arg(long, value_name = "SIZE", value_parser = parse_cache)]
    pub decoded_cache: Option<u64>,
    /// The maximum number of concurrent project runs; further runs are queued
    #[arg(long, value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub runs: u16,
    /// Disable automatic table maintenance
    #[arg(long)]
    pub no_maintenance: bool,
    /// Once a day, remove files in table folders that were unreferenced for three days
    #[arg(long, conflicts_with = "no_maintenance")]
    pub remove_orphans: bool,
    /// How long events of the audit log are kept: `90d` [default: as set by `audit --keep`]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub keep_audit: Option<Duration>,
    /// Store the tables of a new lake in a bucket, `s3://bucket/prefix`
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
    /// Give the server's bucket credentials to Iceberg REST clients that request them
    #[arg(long)]
    pub vend_credentials: bool,
    /// Send traces to the OpenTelemetry collector at this URL, `http://127.0.0.1:4318`
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp: Option<String>,
    /// The name of the service in traces
    #[arg(
        long,
        value_name = "NAME",
        env = "OTEL_SERVICE_NAME",
        hide_env_values = true,
        default_value = "headwater"
    )]
    pub otlp_service: String,
    // Hidden, because other users of the machine can read the arguments of a process.
    /// Additional headers of requests to the collector, `name=value,name=value`
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true, hide = true)]
    pub otlp_headers: Option<String>,
    /// Additional attributes of the service in traces, `name=value,name=value`
    #[arg(long, env = "OTEL_RESOURCE_ATTRIBUTES", hide_env_values = true, hide = true)]
    pub otlp_attributes: Option<String>,
    /// Listen only on the Unix socket and exit when idle
    #[arg(long, hide = true)]
    pub background: bool,
}

/// Options for clients on other machines and for web pages.
#[derive(Debug, Args)]
pub struct ServeNetwork {
    /// Use TLS with this certificate, a PEM file with its chain; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Use TLS with a self-signed certificate, kept in the lake's folder; for testing
    #[arg(long, conflicts_with = "tls_certificate")]
    pub tls_self_signed: bool,
    /// A proxy terminates TLS and sends the client's address in `X-Forwarded-For`
    #[arg(long, conflicts_with_all = ["tls_certificate", "tls_self_signed"])]
    pub behind_proxy: bool,
    /// Another name or address of this server, besides loopback; repeatable
    #[arg(long = "host", value_name = "NAME", value_parser = parse_host)]
    pub hosts: Vec<String>,
    /// An origin whose web pages may use this server, `https://app.example`; repeatable
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub origins: Vec<String>,
}

/// Minimum memory of a server, in bytes.
const MEMORY_MIN: u64 = 64 << 20;

/// Parses the server's memory. Rejects sizes that are too small for any statement, such as a number
/// without a unit.
fn parse_memory(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < MEMORY_MIN => {
            Err("less than the minimum of 64MiB; write a number with a unit, as in `4GiB`".into())
        }
        bytes => Ok(bytes),
    }
}

/// Parses the memory of a cache; `0` disables the cache.
fn parse_cache(text: &str) -> Result<u64, &'static str> {
    if text.trim() == "0" { Ok(0) } else { parse_size(text) }
}

/// Parses an IP address, or `localhost`, with a port.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    if let Some(port) = local {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        "not an IP address with a port, as in `127.0.0.1:4280` or `[::1]:4280`".to_owned()
    })
}

/// Rejects a host with a scheme, port or path.
fn parse_host(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let is_address = inner.parse::<std::net::IpAddr>().is_ok();
    if is_address || (!text.is_empty() && text.chars().all(is_name)) {
        return Ok(inner.to_owned());
    }
    Err("not a host name or an IP address; write it without scheme and port, as in `lake.example`"
        .to_owned())
}

/// `--isolation`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationArgument {
    /// Namespaces, a read-only root and resource limits
    #[default]
    Sandbox,
    /// A plain process, for hosts without user namespaces; weak isolation
    Process,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_or_localhost_with_a_port() {
        let address = |text| parse_address(text).map(|address| address.to_string());
        assert_eq!(address("localhost:4280").as_deref(), Ok("127.0.0.1:4280"));
        assert_eq!(address("[::1]:0").as_deref(), Ok("[::1]:0"));
        for text in ["4280", ":4280", "localhost", "localhost:x", "lake.example:4280", "::1"] {
            let error = address(text).expect_err(text);
            assert!(error.starts_with("not an IP address with a port"), "{text}: {error}");
        }
    }

    #[test]
    fn the_memory_of_a_server_has_a_minimum() {
        assert_eq!(parse_memory("64MiB"), Ok(64 << 20));
        let error = parse_memory("10").expect_err("10 bytes");
        assert_eq!(
            error,
            "less than the minimum of 64MiB; write a number with a unit, as in `4GiB`"
        );
        assert!(parse_memory("much").is_err());
    }
}
