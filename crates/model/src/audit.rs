//! The audit log: an event for each login, access decision and change of permissions. It contains
//! no secrets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AuthMethod, JobId, Timestamp};

/// The result of an access decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// Access was allowed.
    Allowed,
    /// Access was denied.
    Denied,
}

impl AuditOutcome {
    /// Returns the name, for example `denied`.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditOutcome::Allowed => "allowed",
            AuditOutcome::Denied => "denied",
        }
    }
}

/// The retention of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRetention {
    /// The retention in seconds; at least one day.
    pub keep_seconds: u64,
}

impl Default for AuditRetention {
    /// Returns a retention of one year.
    fn default() -> Self {
        AuditRetention { keep_seconds: 365 * 86_400 }
    }
}

/// An event of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    /// The time of the event.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The name of the user; `owner` for the lake's owner, `anonymous` for a client without a
    /// credential. For a failed login, the name that the client sent, if a user with this name
    /// exists.
    pub principal: String,
    /// The kind of the credential.
    pub method: AuthMethod,
    /// The id of the access token, if one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The client's address. Absent for the Unix socket, and for work that runs after the end of
    /// the request that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The action, for example `select`, `login` or `grant`.
    pub action: String,
    /// The object, for example `table:sales.orders`.
    pub object: String,
    /// The outcome.
    pub outcome: AuditOutcome,
    /// The reason, for example the grant that permitted the action.
    pub reason: String,
    /// The job in which the event occurred. The commits of the job contain its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
}
