//! Events as values. The modules create the argument of a function from an event, read values at
//! paths, parse payloads, detect loops in the lineage, limit the rate of events, remember recent
//! ids, and describe events by schemas and short texts. This crate does no I/O.

mod aws_event;
mod call_record;
mod event_items;
mod event_path;
mod event_schema;
mod event_summary;
mod loop_detection;
pub mod message_payload;
mod rate_limit;
mod recent_ids;

pub use aws_event::{function_argument, function_arn};
pub use call_record::{CALL_EVENT, CallRecord, call_event};
pub use event_items::{failed_items, item_ids, part_of};
pub use event_path::EventPath;
pub use event_schema::event_schema;
pub use event_summary::event_summary;
pub use loop_detection::loop_problem;
pub use rate_limit::RateLimit;
pub use recent_ids::{IdHash, RecentIds};
