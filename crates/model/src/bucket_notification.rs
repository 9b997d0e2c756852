//! Notifications of buckets, as S3 clients configure them.

use serde::{Deserialize, Serialize};

/// A bucket notification, which calls a function when objects change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketNotification {
    /// The id, unique in the bucket.
    pub id: String,
    /// The ARN of the function, as the client wrote it.
    pub function_arn: String,
    /// The names of S3 events, such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// The prefix of the keys; empty for all keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The suffix of the keys; empty for all keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
}

impl BucketNotification {
    /// Returns the name of the trigger that implements the notification: `BUCKET/ID`.
    pub fn trigger_name(&self, bucket: &str) -> String {
        format!("{bucket}/{}", self.id)
    }
}
