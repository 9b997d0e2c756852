//! Timestamps of the years 1 to 9999; DataFusion computes in nanoseconds, which cover fewer years.
//!
//! A `TIMESTAMP` without a precision has microseconds. Operands of comparisons with it
//! ([`Microseconds`]) and results of functions ([`functions`]) have microseconds too.
//! [`AT_TIME_ZONE`] is a function, too.

mod comparison;
mod functions;
mod zones;

pub(crate) use self::comparison::Microseconds;
pub(crate) use self::functions::functions;
pub use self::zones::check_zones;
