//! Timestamps of the years 1 to 9999; DataFusion computes in nanoseconds, which cover fewer years.
//!
//! A `TIMESTAMP` without a precision has microseconds. Operands of comparisons with it
//! ([`Microseconds`]) and results of functions ([`functions`]) also have microseconds.
//! [`AT_TIME_ZONE`] is implemented as a function.

mod comparison;
mod functions;
mod zones;

pub(crate) use self::comparison::Microseconds;
pub(crate) use self::functions::functions;
pub use self::zones::check_zones;
