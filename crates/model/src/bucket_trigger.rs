//! Triggers on the objects of buckets in the lake and in other object stores.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AccessObject, Action, EventFormat, duration_text};

/// Watches the objects of a bucket of the lake, or of another object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BucketTrigger {
    /// The bucket of the lake, or the URL of a bucket of another object store, such as
    /// `s3://partner`.
    pub name: String,
    /// The prefix of the keys to watch; empty by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The suffix of the keys to watch; empty by default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// The kinds of change that fire the trigger; only `created` by default.
    #[serde(default = "bucket_events_default")]
    pub events: Vec<BucketEvent>,
    /// The format of the event that a function receives; the S3 notification format by default.
    #[serde(default)]
    pub format: EventFormat,
    /// For a bucket of another object store: the pause between two listings, such as `30s`; `60s`
    /// by default.
    #[serde(
        default = "poll_default",
        skip_serializing_if = "is_poll_default",
        with = "duration_text"
    )]
    #[schema(value_type = String)]
    pub poll: Duration,
}

impl BucketTrigger {
    /// The default pause between two listings of a bucket of another object store.
    pub const POLL: Duration = Duration::from_secs(60);

    /// Returns true if the bucket is in another object store.
    pub fn is_remote(&self) -> bool {
        self.name.contains("://")
    }

    /// Returns the name of the bucket, without the scheme of its URL.
    pub fn plain_name(&self) -> &str {
        self.name.split_once("://").map_or(self.name.as_str(), |(_, name)| name)
    }

    /// Returns the URL of the bucket.
    pub fn url(&self) -> String {
        if self.is_remote() { self.name.clone() } else { format!("s3://{}", self.name) }
    }

    /// Returns the location of the watched objects in another object store: the bucket with the
    /// folder part of the prefix. The rest of the prefix is omitted, because a right on
    /// `s3://partner/in` does not cover `s3://partner/inner`, which the prefix `in` also selects.
    pub fn location(&self) -> String {
        match self.prefix.rsplit_once('/') {
            Some((folder, _)) => format!("{}/{folder}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns the right that the user of the trigger needs to watch the objects.
    pub fn right(&self) -> (Action, AccessObject) {
        if self.is_remote() {
            (Action::Read, AccessObject::location(&self.location()))
        } else {
            (Action::List, AccessObject::prefix_in(&self.name, &self.prefix))
        }
    }
}

impl fmt::Display for BucketTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: Vec<&str> = self.events.iter().map(|event| event.as_str()).collect();
        let BucketTrigger { prefix, suffix, .. } = self;
        write!(f, "{} in {}/{prefix}*{suffix}", events.join(", "), self.url())
    }
}

fn poll_default() -> Duration {
    BucketTrigger::POLL
}

fn is_poll_default(poll: &Duration) -> bool {
    *poll == BucketTrigger::POLL
}

fn bucket_events_default() -> Vec<BucketEvent> {
    vec![BucketEvent::Created]
}

/// A kind of change of an object in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BucketEvent {
    /// An object was created or replaced.
    Created,
    /// An object was deleted.
    Removed,
}

impl BucketEvent {
    /// Returns `created` or `removed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            BucketEvent::Created => "created",
            BucketEvent::Removed => "removed",
        }
    }
}
