//! The protocols of a Headwater server. The HTTP API, Iceberg REST and Arrow Flight SQL are served
//! over TCP and a Unix socket. The PostgreSQL and S3 protocols are served over TCP.
//!
//! [`Server::start`] locks a lake, starts its [`Service`](headwater_service::Service) and opens the
//! listeners of a [`ServerConfig`]. [`ServerHandle`] controls the running server, and
//! [`ServerHandle::call`] sends a request to the server without a listener.
//!
//! A handler parses a request, calls one method of the service, and encodes the result. This crate
//! does not read environment variables or the home folder. Only the command line reads them.

mod auth;
mod config;
mod console;
mod expect_continue;
mod flight;
mod host_and_origin;
mod http;
mod iceberg;
mod lake_lock;
mod lambda;
mod listeners;
mod local_tcp_token;
mod network_config;
mod panic;
mod postgres;
mod preface_timeout;
mod request_activity;
mod request_protocol;
mod router;
mod s3;
mod server;
mod server_handle;
mod server_state;
mod shutdown;
mod sqs;
mod startup_error;
mod tls;
mod unix_socket;
mod write_timeout;

pub use axum::body::Body;
pub use config::ServerConfig;
pub use headwater_flight::FlightLimits;
pub use headwater_service::{
    Access, CloudSettings, Credential, FunctionSource, Isolation, KeySource, NewUser, OidcConfig,
    ServiceConfig, SpawnerCommand, WarehouseOptions, make_folder, read_function, read_project,
    set_short_time_slice, spawner_main, write_function_archive,
};
pub use headwater_telemetry::{Telemetry, TelemetryOptions};
pub use http::openapi;
pub use lake_lock::ServerRecord;
pub use listeners::HttpListener;
pub use network_config::{CertificateSource, NetworkConfig, WebPageOrigin};
pub use server::Server;
pub use server_handle::ServerHandle;
pub use startup_error::{Error, Result};
pub use unix_socket::connect_socket;
