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
mod message;
mod numeric;
mod parameter;
mod parameter_inference;
mod prepare_statement;
mod reply;
mod result_rows;
mod session;
mod session_command;
mod session_function_call;
mod settings;
mod settings_query;
mod simple_query;
mod sqlstate;
mod temporary_objects;
mod text_format;
mod transaction;
mod transaction_modes;
mod transaction_settings;
mod wire;

pub use message::{FieldReader, FrontendMessage};
pub use reply::{ReplyWriter, Severity, TransactionStatus};
pub use session::{AuthenticatedClient, Session};
pub use settings::{APPLICATION_NAME, Settings};
pub use wire::{BufferedConnection, ClientStream, STARTUP_BYTES_MAX};
