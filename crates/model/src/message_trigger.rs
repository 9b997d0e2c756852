//! Trigger sources: queues of the lake, channels and tables of PostgreSQL, and NATS JetStream.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{EventFormat, duration_text};

/// Fires for notifications of a PostgreSQL channel, or for rows of an outbox table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresTrigger {
    /// The database, `postgres://USER@HOST:PORT/DATABASE`, without a password. The parameter
    /// `sslmode` is `disable`, `prefer` (the default), `require`, `verify-ca` or `verify-full`.
    pub url: String,
    /// The secret that contains the password; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The channel to listen on. Each notification is an event. With `outbox`, a notification is
    /// not an event, but causes an immediate read of the outbox table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The table whose rows are events. A row is deleted after its event is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<String>,
    /// The column with the primary key of the outbox, which also determines the order; `id` by
    /// default.
    #[serde(default = "key_default")]
    pub key: String,
    /// Pause between two reads of the outbox, such as `500ms`; `5s` by default.
    #[serde(default = "interval_default", with = "duration_text")]
    #[schema(value_type = String)]
    pub interval: Duration,
    /// The maximum number of notifications or rows in one event; 1 by default.
    #[serde(default = "batch_default")]
    #[schema(minimum = 1)]
    pub batch: usize,
}

fn key_default() -> String {
    "id".to_owned()
}

fn interval_default() -> Duration {
    Duration::from_secs(5)
}

fn batch_default() -> usize {
    1
}

impl fmt::Display for PostgresTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.outbox, &self.channel) {
            (Some(outbox), _) => write!(f, "rows of {outbox} in {}", self.url),
            (None, Some(channel)) => write!(f, "notifications of {channel} in {}", self.url),
            (None, None) => f.write_str(&self.url),
        }
    }
}

/// Fires for messages of a NATS JetStream stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsTrigger {
    /// The servers, `nats://HOST:PORT` or `tls://HOST:PORT`, separated by commas.
    pub url: String,
    /// The user name for the servers; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The secret with the password of `user`. Without a user, the secret contains a token or the
    /// content of a credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The stream, which must exist.
    pub stream: String,
    /// Only messages with this subject, in which `*` and `>` are wildcards; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The name of the durable consumer, which is created if it is missing; `headwater-TRIGGER` by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The first message that a new consumer reads; `all` by default.
    #[serde(default)]
    pub start: NatsStart,
    /// The maximum number of messages in one event; 1 by default.
    #[serde(default = "batch_default")]
    #[schema(minimum = 1)]
    pub batch: usize,
}

impl fmt::Display for NatsTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.as_deref().unwrap_or(">");
        write!(f, "messages with subject {subject} of stream {} in {}", self.stream, self.url)
    }
}

/// The first message that a new consumer reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatsStart {
    /// The oldest message of the stream.
    #[default]
    All,
    /// The first message after the deployment.
    New,
}

/// Fires for messages of a queue of the lake. A string instead of an object is the queue's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueTrigger {
    /// The queue.
    pub name: String,
    /// The maximum number of messages in one event; 1 by default.
    #[schema(minimum = 1)]
    pub batch: usize,
    /// The format of the event that a function receives; the SQS format by default.
    pub format: EventFormat,
}

impl<'de> Deserialize<'de> for QueueTrigger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QueueVisitor)
    }
}

/// The long form of a queue trigger in a project file: an object with settings instead of a name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueSettings {
    name: String,
    #[serde(default = "batch_default")]
    batch: usize,
    #[serde(default)]
    format: EventFormat,
}

struct QueueVisitor;

impl<'de> Visitor<'de> for QueueVisitor {
    type Value = QueueTrigger;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a queue, or a table with its `name`")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<QueueTrigger, E> {
        let (batch, format) = (batch_default(), EventFormat::default());
        Ok(QueueTrigger { name: name.to_owned(), batch, format })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<QueueTrigger, A::Error> {
        let settings = QueueSettings::deserialize(MapAccessDeserializer::new(map))?;
        let QueueSettings { name, batch, format } = settings;
        Ok(QueueTrigger { name, batch, format })
    }
}

impl fmt::Display for QueueTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages of queue {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_queue_is_a_name_or_a_table() {
        let parse = serde_json::from_value::<QueueTrigger>;
        let named = parse(json!("orders")).expect("a name");
        assert_eq!(
            (named.name.as_str(), named.batch, named.format),
            ("orders", 1, EventFormat::Aws)
        );
        assert_eq!(parse(json!({"name": "orders"})).expect("a table"), named);
        assert_eq!(parse(json!(named)).expect("the serialized form"), named);
        let error = parse(json!({"name": "orders", "batches": 2})).expect_err("an unknown key");
        assert!(error.to_string().contains("`batches`"), "{error}");
        let error = parse(json!(5)).expect_err("a number");
        assert!(error.to_string().contains("the name of a queue"), "{error}");
    }
}
