//! The open connections of clients: what each connection runs, and the signals that cancel its
//! statement or end it.
//!
//! [`Connections`] contains the connections of all listeners of a protocol. Each connection holds a
//! [`ConnectionHandle`], and observes the tokens of the handle. This crate knows no protocol and
//! checks no rights: [`Connections`] returns every connection, and the caller filters them.

mod connection;
mod registry;

pub use connection::{ConnectionKey, ConnectionState, NewConnection, TransactionState};
pub use registry::{ConnectionHandle, Connections};
