//! Destinations of ended calls other than functions: queues, HTTP servers, tables and e-mail.
//!
//! - [`Destination`] is a parsed address, such as `queue://orders`. [`Destinations`] sends records.
//! - A message reaches its queue once, and a row its table once, also if a record is sent again.
//!   HTTP requests and e-mails contain the id of the event, so that receivers can detect
//!   repetitions.
//! - The caller checks the rights; this crate only names the rights that a destination requires.
//! - A problem states whether another attempt may succeed. It contains no value of a secret.

mod address;
mod destination;
mod destinations;
mod failure;
mod http;
mod mail;
mod queue;
mod record;
mod smtp;
mod table;

pub use destination::{ADDRESS_BYTES_MAX, Destination, is_address};
pub use destinations::{Destinations, Sending, Sent};
