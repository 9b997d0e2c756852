//! Timestamps of the years 1 to 9999, which DataFusion alone takes through nanoseconds and their
//! few years.
//!
//! A `TIMESTAMP` that says nothing else has microseconds: so do what is compared with one
//! ([`Microseconds`]) and what functions give ([`functions`]). [`AT_TIME_ZONE`] is a function, too.

mod comparison;
mod functions;
mod zones;

pub(crate) use self::comparison::Microseconds;
pub(crate) use self::functions::functions;
pub use self::zones::check_zones;
