//! Time slices of threads. A thread with a short slice runs sooner after its wake-up.

use std::time::Duration;

use super::system_calls;

/// The time slice of threads that forward requests and responses.
pub(super) const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Sets a short time slice for this thread and threads that it starts. Used for threads that
/// forward requests and responses.
pub fn set_short_time_slice() {
    system_calls::set_time_slice(Some(SHORT_SLICE));
}

/// Sets the default time slice for this thread. Used for threads that compute.
pub fn set_default_time_slice() {
    system_calls::set_time_slice(None);
}
