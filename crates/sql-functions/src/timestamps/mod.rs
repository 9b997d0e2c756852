//! Timestamps of the years 1 to 9999. DataFusion computes in nanoseconds, which cover only the
//! years 1677 to 2262.
//!
//! A `TIMESTAMP` without a precision has microseconds. Operands of comparisons with it
//! ([`MicrosecondComparisonRewrite`]) and results of functions ([`functions`]) also have
//! microseconds. [`AT_TIME_ZONE`] is implemented as a function. [`add_seconds`] accepts texts
//! without seconds.

mod comparison;
mod functions;
mod texts_without_seconds;
mod time_zones;

pub(crate) use self::comparison::MicrosecondComparisonRewrite;
pub(crate) use self::functions::functions;
pub(crate) use self::texts_without_seconds::add_seconds;
pub use self::texts_without_seconds::with_seconds;
pub use self::time_zones::check_zones;
