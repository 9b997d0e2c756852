//! Timestamps of the years 1 to 9999; DataFusion computes in nanoseconds, which cover fewer years.
//!
//!
//! A `TIMESTAMP` without a precision has microseconds. So have the operands of comparisons with one
//! ([`Microseconds`]) and the results of functions ([`functions`]). [`AT_TIME_ZONE`] is a function,
//! too.

mod comparison;
mod functions;
mod zones;

pub(crate) use self::comparison::Microseconds;
pub(crate) use self::functions::functions;
pub use self::zones::check_zones;
