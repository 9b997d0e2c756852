//! The PostgreSQL wire protocol: the listener, TLS and authentication. `headwater-postgres` serves
//! the messages of an authenticated client. The database name of a connection is a ref.

mod listener;
mod startup;

pub use listener::{PostgresListener, serve};
pub use startup::ListenerState;
