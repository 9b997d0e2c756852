//! Arrow Flight SQL, the protocol of ADBC and of the Flight JDBC driver, for an authenticated
//! client.
//!
//! [`FlightSql`] implements the protocol with the operations of the service. It is stateless except
//! for prepared statements, open transactions and running statements, which are bounded and expire.
//! A ticket contains its statement, so that reading it needs no earlier request.
//!
//! The ref of a request is in the header [`REF_HEADER`], and `main` by default; each branch is a
//! catalog. The server authenticates the requests and routes them here.

mod caller;
mod flight_sql;
mod ingest;
mod keys;
mod message_checks;
mod metadata;
mod parameters;
mod prepared;
mod rows;
mod service;
mod sql_info;
mod statement;
mod status;
mod ticket;
mod transactions;
mod type_info;

pub use caller::{NAMESPACE_HEADER, REF_HEADER, SessionToken};
pub use flight_sql::{FlightSql, HANDSHAKE_PATH, PATH_PREFIX};
pub use status::error_response;
