//! The open connections of clients: what each connection runs, and the signals that cancel its
//! statement or end it. Also the advisory locks that connections hold.
//!
//! [`Connections`] lists the open connections of one protocol. The code that serves a connection
//! holds a [`ConnectionHandle`], and stops when a token of the handle is cancelled. This crate
//! checks no rights: [`Connections`] returns all connections, and the caller filters them.

mod advisory_lock;
mod connection;
mod registry;

pub use advisory_lock::{AdvisoryKey, LockKind, LockMode, LockScope, TooManyLocks};
pub use connection::{ClientProperties, ConnectionKey, ConnectionState, TransactionState};
pub use registry::{ConnectionHandle, Connections};
