//! Every door of Headwater, and the one place that wires the rooms together.
//!
//! [`Server::start`] opens a lake, takes its lock, starts the parts from the ground up and opens
//! the doors that [`ServerConfig`] names: HTTP on a loopback address, and the same on a Unix
//! socket. [`Running`] is what is left in the caller's hand. A command that wants no server of its
//! own process calls [`Running::call`], which is the same router without a door.
//!
//! Nothing here decides what a table, a branch or a job is: a handler parses, calls one room, and
//! answers. Nothing here reads the environment or the home folder either; the command line does,
//! once.

mod activity;
mod answer;
mod config;
mod doors;
mod ending;
mod error;
mod http;
mod iceberg;
mod lock;
mod opening;
mod running;
mod server;
mod socket;
#[cfg(target_os = "linux")]
mod startup;
mod state;
mod token;

pub use axum::body::Body;
pub use config::ServerConfig;
pub use doors::HttpDoor;
pub use error::{Error, Result};
pub use headwater_functions::{
    Isolation, SpawnCommand, answer_promptly, make_folder, spawner_main,
};
pub use headwater_lake::{CloudSettings, WarehouseOptions};
pub use headwater_service::{ServiceConfig, read_project};
pub use http::openapi;
pub use lock::ServerInfo;
pub use running::Running;
pub use server::Server;
pub use socket::connect_socket;
