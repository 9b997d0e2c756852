//! Attributes of queues, with the names, defaults and limits of SQS.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, Result};

/// The suffix of the names of FIFO queues.
const FIFO: &str = ".fifo";

/// Maximum length of a name, in characters.
const NAME_MAX: usize = 80;

/// Maximum size of a message, in bytes.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// The attributes of a queue. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueAttributes {
    /// Time that a received message is invisible; 30 by default.
    pub visibility_timeout: u32,
    /// Time before a sent message becomes visible; 0 by default.
    pub delay: u32,
    /// Age at which a message is deleted; 4 days by default.
    pub retention: u32,
    /// Maximum size of a message in bytes; 1 MiB by default.
    pub message_bytes_max: u32,
    /// Time that a receiver waits for a message; 0 by default.
    pub receive_wait: u32,
    /// The dead-letter queue of messages that were received too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<RedrivePolicy>,
    /// True if the order of the messages of a group is preserved.
    pub is_fifo: bool,
    /// True if the hash of the body is the deduplication id of a message that has none.
    pub deduplicates_content: bool,
}

/// The dead-letter queue, and the number of deliveries after which a message moves to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedrivePolicy {
    /// Name of the dead-letter queue.
    pub queue: String,
    /// Number of deliveries after which a message is moved instead of being delivered again.
    pub receive_count_max: u32,
}

impl Default for QueueAttributes {
    fn default() -> Self {
        QueueAttributes {
            visibility_timeout: 30,
            delay: 0,
            retention: 345_600,
            message_bytes_max: MESSAGE_BYTES_MAX,
            receive_wait: 0,
            redrive: None,
            is_fifo: false,
            deduplicates_content: false,
        }
    }
}

/// Returns true for a valid name: letters, digits, `-` and `_`, at most 80, including the suffix
/// `.fifo` of FIFO queues.
pub fn is_queue_name(name: &str) -> bool {
    let stem = name.strip_suffix(FIFO).unwrap_or(name);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !stem.is_empty() && name.len() <= NAME_MAX && stem.chars().all(is_allowed)
}

impl QueueAttributes {
    /// Parses the attributes of a new queue; attributes that are not given have their defaults.
    pub fn new(name: &str, given: &BTreeMap<String, String>) -> Result<Self> {
        if !is_queue_name(name) {
            let reason = format!(
                "the queue name `{name}` is invalid: a name has 1 to 80 letters, digits, hyphens \
                 and underscores"
            );
            return Err(Error::Invalid { reason });
        }
        let mut attributes = QueueAttributes::default();
        if let Some(fifo) = given.get("FifoQueue") {
            attributes.is_fifo = boolean("FifoQueue", fifo)?;
        }
        if attributes.is_fifo != name.ends_with(FIFO) {
            let reason = format!(
                "the queue name `{name}` is invalid: only names of FIFO queues end with `.fifo`"
            );
            return Err(Error::Invalid { reason });
        }
        attributes.update(given)?;
        Ok(attributes)
    }

    /// Changes the attributes in the request.
    pub fn update(&mut self, given: &BTreeMap<String, String>) -> Result<()> {
        for (name, value) in given {
            match name.as_str() {
                "VisibilityTimeout" => self.visibility_timeout = number(name, value, [0, 43_200])?,
                "DelaySeconds" => self.delay = number(name, value, [0, 900])?,
                "MessageRetentionPeriod" => self.retention = number(name, value, [60, 1_209_600])?,
                "MaximumMessageSize" => {
                    self.message_bytes_max = number(name, value, [1_024, MESSAGE_BYTES_MAX])?;
                }
                "ReceiveMessageWaitTimeSeconds" => {
                    self.receive_wait = number(name, value, [0, 20])?;
                }
                "RedrivePolicy" => self.redrive = redrive(value)?,
                "FifoQueue" if boolean(name, value)? == self.is_fifo => {}
                "ContentBasedDeduplication" if self.is_fifo => {
                    self.deduplicates_content = boolean(name, value)?;
                }
                // These attributes are accepted but have no effect: deduplication always applies to
                // the whole queue, and Headwater does not encrypt messages.
                "DeduplicationScope" if value == "queue" => {}
                "FifoThroughputLimit" if value == "perQueue" => {}
                "SqsManagedSseEnabled" => {
                    boolean(name, value)?;
                }
                "Policy" | "KmsMasterKeyId" | "RedriveAllowPolicy" if value.is_empty() => {}
                _ => return Err(unsupported(name, value)),
            }
        }
        Ok(())
    }

    /// Returns the attributes by their SQS names. `arn` converts the name of a queue to its ARN.
    pub fn named(&self, arn: impl Fn(&str) -> String) -> BTreeMap<&'static str, String> {
        let mut named = BTreeMap::from([
            ("VisibilityTimeout", self.visibility_timeout.to_string()),
            ("DelaySeconds", self.delay.to_string()),
            ("MessageRetentionPeriod", self.retention.to_string()),
            ("MaximumMessageSize", self.message_bytes_max.to_string()),
            ("ReceiveMessageWaitTimeSeconds", self.receive_wait.to_string()),
            ("SqsManagedSseEnabled", "false".to_owned()),
        ]);
        if self.is_fifo {
            named.insert("FifoQueue", "true".to_owned());
            named.insert("ContentBasedDeduplication", self.deduplicates_content.to_string());
            named.insert("DeduplicationScope", "queue".to_owned());
            named.insert("FifoThroughputLimit", "perQueue".to_owned());
        }
        if let Some(redrive) = &self.redrive {
            let policy = json!({"deadLetterTargetArn": arn(&redrive.queue),
                "maxReceiveCount": redrive.receive_count_max});
            named.insert("RedrivePolicy", policy.to_string());
        }
        named
    }
}

fn unsupported(name: &str, value: &str) -> Error {
    Error::Invalid {
        reason: format!("the attribute `{name}` does not support the value `{value}`"),
    }
}

fn number(name: &str, value: &str, [min, max]: [u32; 2]) -> Result<u32> {
    let number = value.trim().parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| Error::Invalid {
        reason: format!("the attribute `{name}` must be between {min} and {max}, not `{value}`"),
    })
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(unsupported(name, value)),
    }
}

fn redrive(value: &str) -> Result<Option<RedrivePolicy>> {
    if value.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::Invalid {
        reason: format!(
            "the attribute `RedrivePolicy` must be an object with `deadLetterTargetArn` and a \
             `maxReceiveCount` of 1 to 1,000, not `{value}`"
        ),
    };
    let policy: Value = serde_json::from_str(value).map_err(|_| invalid())?;
    let arn = policy["deadLetterTargetArn"].as_str().ok_or_else(invalid)?;
    let queue = arn.rsplit(':').next().filter(|name| is_queue_name(name)).ok_or_else(invalid)?;
    let count = match &policy["maxReceiveCount"] {
        Value::String(text) => text.parse().ok(),
        count => count.as_u64(),
    };
    let count = count.filter(|count| (1..=1_000).contains(count)).ok_or_else(invalid)?;
    Ok(Some(RedrivePolicy { queue: queue.to_owned(), receive_count_max: count as u32 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn attributes_are_checked() {
        let dead = r#"{"deadLetterTargetArn": "arn:aws:sqs:r:0:dead", "maxReceiveCount": "3"}"#;
        let attributes = QueueAttributes::new(
            "orders",
            &given(&[("VisibilityTimeout", "5"), ("RedrivePolicy", dead)]),
        );
        let attributes = attributes.expect("attributes");
        assert_eq!(attributes.visibility_timeout, 5);
        let policy = RedrivePolicy { queue: "dead".into(), receive_count_max: 3 };
        assert_eq!(attributes.redrive, Some(policy));
        let named = attributes.named(|name| format!("arn:{name}"));
        assert_eq!(
            named["RedrivePolicy"],
            r#"{"deadLetterTargetArn":"arn:dead","maxReceiveCount":3}"#
        );
        let fifo = given(&[("FifoQueue", "true"), ("ContentBasedDeduplication", "true")]);
        assert!(QueueAttributes::new("a.fifo", &fifo).expect("a queue").deduplicates_content);
        for (name, attributes) in [
            ("", given(&[])),
            ("a b", given(&[])),
            ("a.fifo", given(&[])),
            ("a", fifo),
            ("a", given(&[("VisibilityTimeout", "43201")])),
            ("a", given(&[("ContentBasedDeduplication", "true")])),
            ("a", given(&[("RedrivePolicy", "{}")])),
            ("a", given(&[("Unknown", "1")])),
        ] {
            QueueAttributes::new(name, &attributes).expect_err(name);
        }
    }
}
