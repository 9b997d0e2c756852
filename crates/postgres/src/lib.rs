//! The PostgreSQL wire protocol, version 3, after the authentication of a client.
//!
//! A [`Session`] reads a message, executes it, and writes the reply before it reads the next
//! message. Rows are encoded only as fast as the client reads them, so slow clients and large
//! results do not use much memory. The server implements listeners, TLS and authentication.
//!
//! This crate decodes messages without a library, because the lengths in messages cannot be
//! trusted. Each read is checked, and no buffer is larger than the received bytes.

mod advisory_lock;
mod array_parameter;
mod backend_message;
mod binary_numeric;
mod buffered_connection;
mod column_encoder;
mod connection;
mod copy;
mod copy_binary;
mod copy_format;
mod copy_options;
mod discard;
mod error_position;
mod explain;
mod extended_query;
mod frontend_message;
mod parameter_inference;
mod parameter_value;
mod prepare_statement;
mod result_rows;
mod session;
mod session_command;
mod session_function_call;
mod set_config_query;
mod settings;
mod simple_query;
mod sqlstate;
mod temporary_objects;
mod text_format;
mod transaction;
mod transaction_modes;
mod transaction_settings;

pub use backend_message::{ReplyWriter, Severity, TransactionStatus};
pub use buffered_connection::{BufferedConnection, ClientStream, STARTUP_BYTES_MAX};
pub use frontend_message::{FieldReader, FrontendMessage};
pub use session::{AuthenticatedClient, Session};
pub use settings::{APPLICATION_NAME, Settings};
