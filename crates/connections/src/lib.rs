//! The open connections of clients: what each connection runs, and the signals that cancel its
//! statement or end it.
//!
//! [`Connections`] contains the connections of all listeners of a protocol. The connection itself
//! holds a [`ConnectionHandle`], and observes its tokens. This crate knows no protocol and checks
//! no rights: [`Connections`] shows every connection to the caller, which filters them.

mod connection;
mod registry;

pub use connection::{ConnectionKey, ConnectionState, NewConnection, TransactionState};
pub use registry::{ConnectionHandle, Connections};
