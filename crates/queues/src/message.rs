//! Messages of queues, and the MD5 hashes that SQS returns for them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headwater_model::Timestamp;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, QueueAttributes, Result};

/// Maximum number of attributes of a message.
const ATTRIBUTES_MAX: usize = 10;

/// Maximum length of an id or group, in characters.
const ID_MAX: usize = 128;

/// A typed attribute of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, with an optional label such as `Number.int`.
    pub kind: String,
    /// The text of strings and numbers; base64 of binary values.
    pub value: String,
}

/// A message to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The body.
    pub body: String,
    /// Typed attributes by name.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// Time in seconds before the message becomes visible; by default the queue's delay.
    pub delay: Option<u32>,
    /// For FIFO queues: messages of a group are received in order, one batch at a time.
    pub group: Option<String>,
    /// For FIFO queues: a message whose id was already sent within the last 5 minutes is not added.
    pub deduplication_id: Option<String>,
    /// The lineage of the message: names of triggers, function queues and event source mappings.
    /// Only outputs and destinations of functions set this field. Clients cannot set it.
    pub caused_by: Vec<String>,
}

/// The result of sending a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// Id of the message; for a repeated message, the id of the earlier message.
    pub id: String,
    /// MD5 of the body, as hexadecimal digits.
    pub body_md5: String,
    /// For FIFO queues: the message's sequence number in the queue.
    pub sequence: Option<String>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The message.
    pub message: StoredMessage,
    /// The message's sequence number in the queue, which determines its position.
    pub sequence: u64,
    /// Number of deliveries, including this delivery.
    pub received: u32,
    /// Time of the first delivery.
    pub first_received: Timestamp,
    /// The receipt, which identifies this delivery.
    pub receipt: String,
}

/// A message as stored. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// The message's id.
    pub id: String,
    /// The body.
    pub body: String,
    /// Typed attributes by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// Time at which the message was sent.
    pub sent: Timestamp,
    /// Time at which the message becomes visible for its first delivery.
    pub visible: Timestamp,
    /// The sender.
    pub sender: String,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The deduplication id, in FIFO queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication_id: Option<String>,
    /// The lineage of the message; empty if a client sent it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caused_by: Vec<String>,
}

/// The deliveries of a message so far, and the time of the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryState {
    /// Number of deliveries.
    pub received: u32,
    /// Time of the first delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_received: Option<Timestamp>,
    /// Time from which the message is visible.
    pub visible: Timestamp,
    /// The receipt of the last delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

impl NewMessage {
    /// Checks the message against the attributes of its queue.
    pub(crate) fn check(&self, queue: &QueueAttributes) -> Result<()> {
        let invalid = |reason: String| Err(Error::Invalid { reason });
        let size = size(&self.body, &self.attributes, MessageAttribute::bytes);
        if self.body.is_empty() {
            return Err(Error::Missing { name: "MessageBody" });
        }
        if size > queue.message_bytes_max as usize {
            let max = queue.message_bytes_max;
            return invalid(format!(
                "the message has {size} bytes, more than the maximum of {max}"
            ));
        }
        let mut texts = self.attributes.values().filter(|attribute| !attribute.is_binary());
        let is_allowed = texts.all(|attribute| is_text(&attribute.value)) && is_text(&self.body);
        if !is_allowed {
            return Err(Error::InvalidContents);
        }
        if self.attributes.len() > ATTRIBUTES_MAX {
            return invalid(format!("the message has more than {ATTRIBUTES_MAX} attributes"));
        }
        if let Some(delay) = self.delay.filter(|delay| *delay > 900) {
            return invalid(format!("`DelaySeconds` must be between 0 and 900, not {delay}"));
        }
        let is_id = |id: &String| {
            !id.is_empty() && id.len() <= ID_MAX && id.chars().all(|c| c.is_ascii_graphic())
        };
        let ids =
            [("MessageGroupId", &self.group), ("MessageDeduplicationId", &self.deduplication_id)];
        for (name, id) in ids {
            if id.as_ref().is_some_and(|id| !is_id(id)) {
                return invalid(format!("`{name}` must have 1 to 128 printable characters"));
            }
        }
        match (queue.is_fifo, &self.group, &self.deduplication_id) {
            (true, None, _) => Err(Error::Missing { name: "MessageGroupId" }),
            (true, _, None) if !queue.deduplicates_content => invalid(
                "the queue requires `MessageDeduplicationId` or `ContentBasedDeduplication`"
                    .to_owned(),
            ),
            (true, ..) if self.delay.is_some_and(|delay| delay > 0) => {
                invalid("FIFO queues do not support `DelaySeconds` of a message".to_owned())
            }
            (false, _, Some(_)) => {
                invalid("`MessageDeduplicationId` is only for FIFO queues".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Returns the deduplication id, or else the hash of the body; `None` if the queue is not a
    /// FIFO queue.
    pub(crate) fn deduplication(&self, queue: &QueueAttributes) -> Option<String> {
        if !queue.is_fifo {
            return None;
        }
        let of_content = || hex::encode(Sha256::digest(&self.body));
        Some(self.deduplication_id.clone().unwrap_or_else(of_content))
    }
}

/// Returns the MD5 of a body, as hexadecimal digits.
pub fn body_md5(body: &str) -> String {
    hex::encode(Md5::digest(body))
}

impl MessageAttribute {
    /// Returns true if the value is base64.
    pub fn is_binary(&self) -> bool {
        self.kind.starts_with("Binary")
    }

    /// Returns the size of the value in bytes. Counts a binary value by its bytes, not by its text
    /// in base64.
    fn bytes(&self) -> usize {
        if self.is_binary() {
            return self.value.trim_end_matches('=').len() * 3 / 4;
        }
        self.value.len()
    }
}

impl StoredMessage {
    /// Returns the size of the body and attributes as they are stored, with binary values in
    /// base64, in bytes.
    pub fn bytes(&self) -> usize {
        size(&self.body, &self.attributes, |attribute| attribute.value.len())
    }

    /// Returns the MD5 of the body, as hexadecimal digits.
    pub fn body_md5(&self) -> String {
        body_md5(&self.body)
    }
}

impl ReceivedMessage {
    /// Returns the system attributes of the message, with the names of SQS.
    pub fn system_attributes(&self) -> BTreeMap<&'static str, String> {
        let milliseconds = |time: Timestamp| time.timestamp_millis().to_string();
        let message = &self.message;
        let mut attributes = BTreeMap::from([
            ("SenderId", message.sender.clone()),
            ("SentTimestamp", milliseconds(message.sent)),
            ("ApproximateReceiveCount", self.received.to_string()),
            ("ApproximateFirstReceiveTimestamp", milliseconds(self.first_received)),
        ]);
        if let Some(group) = &message.group {
            attributes.insert("MessageGroupId", group.clone());
        }
        if let Some(id) = &message.deduplication_id {
            attributes.insert("MessageDeduplicationId", id.clone());
            attributes.insert("SequenceNumber", sequence_text(self.sequence));
        }
        attributes
    }
}

/// Returns the size of a body and attributes. `value_bytes` returns the size of an attribute's
/// value.
fn size(
    body: &str,
    attributes: &BTreeMap<String, MessageAttribute>,
    value_bytes: impl Fn(&MessageAttribute) -> usize,
) -> usize {
    let attributes = attributes.iter();
    let attributes = attributes.map(|(name, one)| name.len() + one.kind.len() + value_bytes(one));
    body.len() + attributes.sum::<usize>()
}

/// Returns a sequence number as digits of fixed length.
pub(crate) fn sequence_text(sequence: u64) -> String {
    format!("{sequence:020}")
}

/// Returns true if a string has only characters that XML allows.
fn is_text(text: &str) -> bool {
    let is_allowed = |c: char| match c {
        '\t' | '\n' | '\r' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        c => c >= ' ',
    };
    text.chars().all(is_allowed)
}

/// Returns the MD5 of typed attributes as SQS defines it, as hexadecimal digits.
pub fn attributes_md5(attributes: &BTreeMap<String, MessageAttribute>) -> String {
    let mut bytes = Vec::new();
    let add = |bytes: &mut Vec<u8>, part: &[u8]| {
        bytes.extend((part.len() as u32).to_be_bytes());
        bytes.extend(part);
    };
    for (name, attribute) in attributes {
        add(&mut bytes, name.as_bytes());
        add(&mut bytes, attribute.kind.as_bytes());
        if attribute.is_binary() {
            bytes.push(2);
            add(&mut bytes, &STANDARD.decode(&attribute.value).unwrap_or_default());
        } else {
            bytes.push(1);
            add(&mut bytes, attribute.value.as_bytes());
        }
    }
    hex::encode(Md5::digest(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(is_fifo: bool) -> QueueAttributes {
        QueueAttributes { is_fifo, message_bytes_max: 1_024, ..QueueAttributes::default() }
    }

    #[test]
    fn messages_are_checked() {
        let text = |text: &str| Some(text.to_owned());
        let message = NewMessage { body: "a\té\n".into(), ..NewMessage::default() };
        message.check(&queue(false)).expect("a message");
        let of_group =
            NewMessage { group: text("g"), deduplication_id: text("d"), ..message.clone() };
        of_group.check(&queue(true)).expect("a message of a group");
        of_group.check(&queue(false)).expect_err("a deduplication id");
        message.check(&queue(true)).expect_err("no group");
        let kind = "String".to_owned();
        let attribute = |value: &str| MessageAttribute { kind: kind.clone(), value: value.into() };
        for wrong in [
            NewMessage::default(),
            NewMessage { body: "a\0".into(), ..NewMessage::default() },
            NewMessage { body: "x".repeat(1_025), ..NewMessage::default() },
            NewMessage { delay: Some(901), ..message.clone() },
            NewMessage { group: text("a b"), ..message.clone() },
            NewMessage {
                attributes: (0..11).map(|n| (n.to_string(), attribute("a"))).collect(),
                ..message.clone()
            },
        ] {
            wrong.check(&queue(false)).expect_err("wrong");
        }
    }

    #[test]
    fn a_binary_attribute_counts_by_its_bytes() {
        let file = |bytes: usize| {
            let (kind, value) = ("Binary".to_owned(), STANDARD.encode(vec![0_u8; bytes]));
            let attributes = BTreeMap::from([("f".to_owned(), MessageAttribute { kind, value })]);
            NewMessage { body: "x".to_owned(), attributes, ..NewMessage::default() }
        };
        // The limit is 1,024 bytes, of which the body, the name and the type need 8.
        for bytes in 1_014..=1_016 {
            file(bytes).check(&queue(false)).expect("a message");
        }
        file(1_017).check(&queue(false)).expect_err("too large");
    }

    #[test]
    fn the_hash_of_attributes_is_that_of_sqs() {
        // The hash that SQS returns for this attribute.
        let attribute =
            |kind: &str, value: &str| MessageAttribute { kind: kind.into(), value: value.into() };
        let attributes =
            BTreeMap::from([("timestamp".to_owned(), attribute("Number", "1493147359900"))]);
        assert_eq!(attributes_md5(&attributes), "235c5c510d26fb653d073faed50ae77c");
    }
}
