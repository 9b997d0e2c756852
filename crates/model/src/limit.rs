//! Limits of users and roles: concurrent jobs, memory, and bytes and cost per day.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ErrorCode, Problem, Timestamp};

/// The limits of a user or role. A missing value means no limit. A request that sets limits
/// replaces all limits of the user or role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum number of jobs that have not ended: statements, calls, imports, runs and all others,
    /// including queued ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// Maximum memory of one statement or of one function call, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The maximum number of bytes read per day (UTC). Once it is reached, no further job starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<u64>,
    /// The maximum cost per day (UTC), in the currency of the rate card. Once it is reached, no
    /// further job starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money_per_day: Option<f64>,
}

impl Limits {
    /// Returns true if no limit is set.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Checks that the memory that a function declares does not exceed the limit.
    ///
    /// Errors: `quota_exceeded`.
    pub fn check_memory(&self, function: &str, bytes: u64) -> Result<(), Problem> {
        let Some(limit) = self.memory_bytes.filter(|limit| bytes > *limit) else { return Ok(()) };
        let message =
            format!("function `{function}` needs {bytes} bytes of memory (limit {limit})");
        let hint = "Declare less with `memory`, or ask an administrator to raise the limit.";
        Err(Problem::new(ErrorCode::QuotaExceeded, message).with_hint(hint))
    }

    /// Returns these limits. Limits that are not set are taken from `other`.
    #[must_use]
    pub fn or(self, other: Limits) -> Self {
        Limits {
            jobs: self.jobs.or(other.jobs),
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            bytes_per_day: self.bytes_per_day.or(other.bytes_per_day),
            money_per_day: self.money_per_day.or(other.money_per_day),
        }
    }

    /// Returns the higher limit for each kind of limit. If only one of them has a limit of a kind,
    /// the result has this limit.
    #[must_use]
    pub fn max(self, other: Limits) -> Self {
        let highest = |one: Option<u64>, other: Option<u64>| one.max(other);
        let money = match (self.money_per_day, other.money_per_day) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Limits {
            jobs: self.jobs.max(other.jobs),
            memory_bytes: highest(self.memory_bytes, other.memory_bytes),
            bytes_per_day: highest(self.bytes_per_day, other.bytes_per_day),
            money_per_day: money,
        }
    }
}

/// The limits that were set for a user or role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Limit {
    /// The user or role.
    pub name: String,
    /// The limits.
    pub limits: Limits,
    /// The time at which the limits were last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
    /// The user that last changed the limits.
    pub by: String,
}

/// The effective limits of a user, which combine the limits of the user and its roles, and the
/// user's usage today.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitUsage {
    /// The effective limits.
    pub limits: Limits,
    /// Number of jobs that have not ended.
    pub jobs: u32,
    /// The number of bytes that the user's jobs have read today (UTC).
    pub bytes_today: u64,
    /// The cost of the user's jobs today (UTC).
    pub money_today: f64,
    /// The currency of costs.
    pub currency: String,
    /// The end of the current day (UTC), at which the daily usage is reset to zero.
    #[schema(value_type = String, format = DateTime)]
    pub day_ends: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_limits_take_precedence_and_the_highest_role_limit_counts() {
        let own = Limits { jobs: Some(1), ..Limits::default() };
        let one = Limits { jobs: Some(5), bytes_per_day: Some(10), ..Limits::default() };
        let other = Limits { bytes_per_day: Some(20), money_per_day: Some(0.5), ..one };
        let highest = one.max(other);
        assert_eq!((highest.bytes_per_day, highest.money_per_day), (Some(20), Some(0.5)));
        let all = own.or(highest);
        assert_eq!((all.jobs, all.memory_bytes, all.bytes_per_day), (Some(1), None, Some(20)));
        assert!(Limits::default().is_empty() && !all.is_empty());
    }
}
