//! Trigger source: topics of Apache Kafka.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::{EventFormat, Timestamp, duration_text};

/// Fires for records of a topic of Apache Kafka.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaTrigger {
    /// Servers of the cluster, `HOST:PORT`, separated by commas. The other servers of the cluster
    /// are found through them.
    pub servers: String,
    /// The topic, which must exist.
    pub topic: String,
    /// The first record of a new trigger: `all` (the default), `new`, or the first record since a
    /// time in the format of RFC 3339.
    #[serde(default)]
    #[schema(value_type = String)]
    pub start: KafkaStart,
    /// The maximum number of records in one event; 1 by default.
    #[serde(default = "batch_default")]
    #[schema(minimum = 1)]
    pub batch: usize,
    /// Maximum time to wait until a batch is complete, such as `500ms`; no time by default.
    #[serde(default, with = "duration_text")]
    #[schema(value_type = String)]
    pub window: Duration,
    /// Encrypts the connections with TLS.
    #[serde(default)]
    pub tls: bool,
    /// The secret with the CA certificates, in PEM format, that verify the servers' certificates;
    /// the CA certificates of the operating system by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The user name for the servers; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The secret with the password of `user`. Without a user, the secret is a JSON object with
    /// `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The SASL mechanism of the login; `plain` by default.
    #[serde(default)]
    pub mechanism: KafkaMechanism,
    /// The format of the event that a function receives; the AWS Lambda format by default.
    #[serde(default)]
    pub format: EventFormat,
}

fn batch_default() -> usize {
    1
}

impl fmt::Display for KafkaTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records of topic {} in {}", self.topic, self.servers)
    }
}

/// The first record that a new trigger reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KafkaStart {
    /// The oldest record of each partition; `TRIM_HORIZON` in AWS Lambda.
    #[default]
    All,
    /// The first record after the deployment; `LATEST` in AWS Lambda.
    New,
    /// The first record with this timestamp or a later one; `AT_TIMESTAMP` in AWS Lambda.
    Time(Timestamp),
}

impl fmt::Display for KafkaStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KafkaStart::All => f.write_str("all"),
            KafkaStart::New => f.write_str("new"),
            KafkaStart::Time(time) => {
                f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            }
        }
    }
}

impl Serialize for KafkaStart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KafkaStart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "all" => Ok(KafkaStart::All),
            "new" => Ok(KafkaStart::New),
            time => match DateTime::parse_from_rfc3339(time) {
                Ok(time) => Ok(KafkaStart::Time(time.to_utc())),
                Err(_) => Err(serde::de::Error::custom(format!(
                    "`start` must be `all`, `new` or a time such as `2026-01-31T00:00:00Z`, not \
                     `{text}`"
                ))),
            },
        }
    }
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KafkaMechanism {
    /// The password is sent to the server, so the connection needs TLS.
    #[default]
    Plain,
    /// The password is not sent; its SHA-256 hash is stored by the server.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The password is not sent; its SHA-512 hash is stored by the server.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_start_is_a_word_or_a_time() {
        let parse = serde_json::from_value::<KafkaStart>;
        for text in ["all", "new", "2026-01-31T00:00:00Z", "2026-01-31T00:00:00.250Z"] {
            let start = parse(json!(text)).expect("a start");
            assert_eq!(json!(start), json!(text));
        }
        let offset = parse(json!("2026-01-31T02:00:00+02:00")).expect("a time");
        assert_eq!(offset.to_string(), "2026-01-31T00:00:00Z");
        let error = parse(json!("LATEST")).expect_err("another word");
        assert!(error.to_string().contains("must be `all`, `new` or a time"), "{error}");
    }
}
