//! Arrow Flight SQL, the protocol of ADBC and of the Flight JDBC driver, for an authenticated
//! client.
//!
//! [`FlightSql`] implements the protocol with the operations of the service. The server keeps only
//! prepared statements, open transactions and running statements, which are limited for each
//! principal and expire. A ticket contains its statement, so that reading it needs no earlier
//! request.
//!
//! The ref of a request is in the header [`REF_HEADER`], and `main` by default; each branch is a
//! catalog. The server authenticates the requests and routes them here.

mod bulk_ingestion;
mod caller;
mod catalog_metadata;
mod client_handles;
mod custom_actions;
mod flight_sql;
mod grpc_status;
mod jdbc_info;
mod limits;
mod message_checks;
mod parameter_inference;
mod parameters;
mod prepared_statements;
mod primary_keys;
mod row_stream;
mod running_statements;
mod service;
mod session_options;
mod sql_info;
mod statement;
mod ticket;
mod transactions;
mod type_info;
mod uploads;

pub use caller::{ClientSession, NAMESPACE_HEADER, REF_HEADER, SessionToken};
pub use flight_sql::{FlightSql, HANDSHAKE_PATH, PATH_PREFIX};
pub use grpc_status::error_response;
pub use limits::FlightLimits;
