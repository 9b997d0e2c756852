//! Event patterns in the language of
//! [EventBridge](https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html).
//!
//! [`Pattern::parse`] rejects malformed patterns. [`Pattern::check`] rejects patterns that no event
//! of a known [`ValueSchema`] matches. [`Pattern::matches`] tests an event. This crate does no I/O.

mod cidr;
mod error;
mod event_schema;
mod matcher;
mod number_range;
mod pattern;
mod wildcard;

pub use error::PatternError;
pub use event_schema::{FieldSchema, ValueSchema};
pub use pattern::Pattern;
