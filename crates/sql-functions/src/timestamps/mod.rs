//! Timestamps of the years 1 to 9999; DataFusion computes in nanoseconds, which cover fewer years.
//!
//! A `TIMESTAMP` without a precision has microseconds. Operands of comparisons with it
//! ([`MicrosecondComparison`]) and results of functions ([`functions`]) also have microseconds.
//! [`AT_TIME_ZONE`] is implemented as a function. [`add_seconds`] accepts texts without seconds.

mod comparison;
mod functions;
mod texts;
mod zones;

pub(crate) use self::comparison::MicrosecondComparison;
pub(crate) use self::functions::functions;
pub(crate) use self::texts::add_seconds;
pub use self::texts::with_seconds;
pub use self::zones::check_zones;
