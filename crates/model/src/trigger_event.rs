//! The status of triggers and the deliveries of their events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Event, JobId, Problem, Timestamp, Trigger};

/// A trigger with its status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggerStatus {
    /// The trigger.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// The file and line of the trigger's declaration.
    #[serde(default)]
    pub defined_at: String,
    /// The next scheduled time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// The number of events that are pending or running.
    pub pending: u64,
    /// The number of delivered events.
    pub done: u64,
    /// The number of failed events.
    pub failed: u64,
    /// The current problem of the trigger's source, such as a missing folder. Events may be missing
    /// or late while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Status of an event's delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerEventStatus {
    /// The event is recorded, but is not yet due or has not been delivered.
    Pending,
    /// A job is delivering the event.
    Running,
    /// The event was delivered.
    Done,
    /// Delivery failed after the last retry. The event is kept with its error.
    Failed,
}

/// An event and its delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggerEvent {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// The trigger.
    pub trigger: String,
    /// Status of the delivery.
    pub status: TriggerEventStatus,
    /// Time at which the event was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Earliest time of the next attempt.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
    /// The number of attempts so far.
    pub attempts: u32,
    /// Job of the last attempt.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// Error of the last attempt.
    #[serde(default)]
    pub error: Option<Problem>,
    /// The principal that called the function; absent if a trigger recorded the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}
