//! Destinations of records of ended calls, and outputs of functions: queues, HTTP servers, tables
//! of the lake and of PostgreSQL, objects and e-mail.
//!
//! - [`DestinationAddress`] is a parsed address, such as `queue://orders`. [`DestinationSender`]
//!   sends a [`Payload`]: a record or a result.
//! - A message is added to a queue once, and a row to a table once, even if the payload is sent
//!   again. An object is written again, with the same content. HTTP requests and e-mails contain
//!   the id of the content, so that receivers can detect repetitions.
//! - The caller checks the rights; this crate only names the rights that a destination requires.
//! - A problem states whether another attempt may succeed, and contains no value of a secret.

mod address_parts;
mod destination_address;
mod destination_sender;
mod http;
mod invocation_record;
mod mail;
mod object;
mod payload;
mod postgres;
mod queue;
mod send_failure;
mod smtp;
mod table;

pub use destination_address::{ADDRESS_BYTES_MAX, DestinationAddress, is_address};
pub use destination_sender::{DestinationSender, SendAttempt, SentContent};
pub use payload::{Payload, ResultPayload, check_table_format};
