//! The times of schedules: cron patterns, rates and one-off times, in a time zone. This crate does
//! no I/O and does not use triggers.

mod expression;
mod schedule;

pub use schedule::Schedule;
