//! Operations on messages.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_service::{MessageAttribute, NewMessage, ReceiveOptions, ReceivedMessage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Result, SqsError};
use super::protocol::SqsRequest;
use super::queue::name_of;

/// Maximum number of entries in a batch, and of messages in a response.
const BATCH_MAX: usize = 10;

/// Maximum total size of the messages of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SendMessageRequest {
    id: String,
    queue_url: Option<String>,
    message_body: Option<String>,
    delay_seconds: Option<u32>,
    message_attributes: BTreeMap<String, TypedValue>,
    message_system_attributes: BTreeMap<String, Value>,
    message_deduplication_id: Option<String>,
    message_group_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TypedValue {
    data_type: String,
    string_value: Option<String>,
    binary_value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchRequest<T> {
    queue_url: Option<String>,
    #[serde(default = "Vec::new")]
    entries: Vec<T>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ReceiveMessageRequest {
    queue_url: Option<String>,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<u32>,
    wait_time_seconds: Option<u32>,
    attribute_names: Vec<String>,
    message_system_attribute_names: Vec<String>,
    message_attribute_names: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ReceiptRequest {
    id: String,
    queue_url: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<u32>,
}

impl TypedValue {
    /// Returns the size of the type and value, in bytes.
    fn bytes(&self) -> usize {
        let text = self.string_value.as_ref().map_or(0, String::len);
        // Count a binary value by its bytes, not by its text in base64.
        let binary = self.binary_value.as_ref();
        let binary = binary.map_or(0, |value| value.trim_end_matches('=').len() * 3 / 4);
        self.data_type.len() + text + binary
    }
}

impl SendMessageRequest {
    /// Returns the size of the body and of the names, types and values of the attributes, in bytes.
    fn bytes(&self) -> usize {
        let attributes = self.message_attributes.iter();
        let attributes = attributes.map(|(name, value)| name.len() + value.bytes());
        self.message_body.as_ref().map_or(0, String::len) + attributes.sum::<usize>()
    }

    fn message(self) -> Result<NewMessage> {
        let attribute = |(name, value): (String, TypedValue)| {
            let is_binary = value.data_type.starts_with("Binary");
            let text = if is_binary { value.binary_value } else { value.string_value };
            let kinds = ["String", "Number", "Binary"];
            let kind = value.data_type.split('.').next().unwrap_or_default();
            let is_valid = |text: &String| !is_binary || STANDARD.decode(text).is_ok();
            let text = text.filter(|text| !text.is_empty() && is_valid(text));
            match text.filter(|_| kinds.contains(&kind)) {
                Some(value_text) => {
                    let attribute = MessageAttribute { kind: value.data_type, value: value_text };
                    Ok((name, attribute))
                }
                None => Err(SqsError::invalid(format!(
                    "The message attribute {name} has no value of a known type."
                ))),
            }
        };
        if let Some(name) = self.message_system_attributes.keys().next() {
            let message = format!("The message system attribute {name} is not supported.");
            return Err(SqsError::new("UnsupportedOperation", message));
        }
        Ok(NewMessage {
            body: self.message_body.ok_or_else(|| SqsError::missing("MessageBody"))?,
            attributes: self
                .message_attributes
                .into_iter()
                .map(attribute)
                .collect::<Result<_>>()?,
            delay: self.delay_seconds,
            group: self.message_group_id,
            deduplication_id: self.message_deduplication_id,
            caused_by: Vec::new(),
        })
    }
}

pub(super) async fn send(request: &SqsRequest) -> Result<Value> {
    let sent: SendMessageRequest = request.parse()?;
    let name = name_of(sent.queue_url.as_deref())?;
    let message = sent.message()?;
    let hash = attributes_md5(&message.attributes);
    let outcomes = request.queues.send(&request.principal, &name, vec![message]).await?;
    let outcome = outcomes.into_iter().next();
    let sent = outcome.ok_or_else(|| SqsError::new("InternalFailure", "no outcome"))??;
    Ok(send_response(&sent, hash))
}

fn send_response(sent: &headwater_service::SentMessage, attributes: Option<String>) -> Value {
    let mut answer = json!({"MessageId": sent.id, "MD5OfMessageBody": sent.body_md5});
    if let Some(hash) = attributes {
        answer["MD5OfMessageAttributes"] = json!(hash);
    }
    if let Some(sequence) = &sent.sequence {
        answer["SequenceNumber"] = json!(sequence);
    }
    answer
}

pub(super) async fn send_batch(request: &SqsRequest) -> Result<Value> {
    let BatchRequest::<SendMessageRequest> { queue_url, entries } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    check_entries(entries.iter().map(|entry| entry.id.as_str()))?;
    check_bytes(&entries)?;
    let (mut answer, mut messages, mut sent) = (BatchResponse::default(), Vec::new(), Vec::new());
    for entry in entries {
        let id = entry.id.clone();
        match entry.message() {
            Ok(message) => {
                sent.push((id, attributes_md5(&message.attributes)));
                messages.push(message);
            }
            Err(error) => answer.fail(&id, &error),
        }
    }
    let outcomes = request.queues.send(&request.principal, &name, messages).await?;
    for ((id, hash), outcome) in sent.into_iter().zip(outcomes) {
        match outcome {
            Ok(sent) => answer.succeed(&id, send_response(&sent, hash)),
            Err(error) => answer.fail(&id, &error.into()),
        }
    }
    Ok(answer.into_json())
}

pub(super) async fn receive(request: &SqsRequest) -> Result<Value> {
    let received: ReceiveMessageRequest = request.parse()?;
    let name = name_of(received.queue_url.as_deref())?;
    let limit = received.max_number_of_messages.unwrap_or(1);
    if !(1..=BATCH_MAX).contains(&limit) {
        let message = "MaxNumberOfMessages must be between 1 and 10.";
        return Err(SqsError::invalid(message));
    }
    check_range("VisibilityTimeout", received.visibility_timeout, 43_200)?;
    check_range("WaitTimeSeconds", received.wait_time_seconds, 20)?;
    let options = ReceiveOptions {
        limit,
        visibility: received.visibility_timeout,
        wait: received.wait_time_seconds,
    };
    let messages = request.queues.receive(&request.principal, &name, options).await?;
    if messages.is_empty() {
        return Ok(Value::Null);
    }
    let answers: Vec<Value> = messages.iter().map(|one| message_response(one, &received)).collect();
    Ok(json!({"Messages": answers}))
}

fn message_response(received: &ReceivedMessage, wanted: &ReceiveMessageRequest) -> Value {
    let message = &received.message;
    let mut answer = json!({
        "MessageId": message.id,
        "ReceiptHandle": received.receipt,
        "MD5OfBody": message.body_md5(),
        "Body": message.body,
    });
    let names = || wanted.attribute_names.iter().chain(&wanted.message_system_attribute_names);
    let is_wanted = |name: &str| names().any(|one| one == name || one == "All");
    let system = received.system_attributes();
    let system: BTreeMap<_, _> = system.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    if !system.is_empty() {
        answer["Attributes"] = json!(system);
    }
    let is_selected = |name: &str| {
        wanted.message_attribute_names.iter().any(|pattern| match pattern.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name || pattern == "All",
        })
    };
    let selected = message.attributes.iter().filter(|(name, _)| is_selected(name));
    let selected: BTreeMap<String, MessageAttribute> =
        selected.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !selected.is_empty() {
        let typed = |attribute: &MessageAttribute| {
            let key = if attribute.is_binary() { "BinaryValue" } else { "StringValue" };
            json!({"DataType": attribute.kind, key: attribute.value})
        };
        let values: BTreeMap<&String, Value> =
            selected.iter().map(|(name, value)| (name, typed(value))).collect();
        answer["MessageAttributes"] = json!(values);
        answer["MD5OfMessageAttributes"] = json!(attributes_md5(&selected));
    }
    answer
}

pub(super) async fn delete(request: &SqsRequest) -> Result<Value> {
    let ReceiptRequest { queue_url, receipt_handle, .. } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    let receipt = receipt_handle.ok_or_else(|| SqsError::missing("ReceiptHandle"))?;
    let outcomes = request.queues.delete_messages(&request.principal, &name, &[receipt]).await?;
    outcomes.into_iter().collect::<Result<(), _>>()?;
    Ok(Value::Null)
}

pub(super) async fn delete_batch(request: &SqsRequest) -> Result<Value> {
    let BatchRequest::<ReceiptRequest> { queue_url, entries } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    check_entries(entries.iter().map(|entry| entry.id.as_str()))?;
    let receipts: Vec<String> =
        entries.iter().map(|one| one.receipt_handle.clone().unwrap_or_default()).collect();
    let outcomes = request.queues.delete_messages(&request.principal, &name, &receipts).await?;
    let mut answer = BatchResponse::default();
    for (entry, outcome) in entries.iter().zip(outcomes) {
        match outcome {
            Ok(()) => answer.succeed(&entry.id, json!({})),
            Err(error) => answer.fail(&entry.id, &error.into()),
        }
    }
    Ok(answer.into_json())
}

pub(super) async fn change_visibility(request: &SqsRequest) -> Result<Value> {
    let change: ReceiptRequest = request.parse()?;
    let name = name_of(change.queue_url.as_deref())?;
    change_one(request, &name, &change).await??;
    Ok(Value::Null)
}

pub(super) async fn change_visibility_batch(request: &SqsRequest) -> Result<Value> {
    let BatchRequest::<ReceiptRequest> { queue_url, entries } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    check_entries(entries.iter().map(|entry| entry.id.as_str()))?;
    let mut answer = BatchResponse::default();
    for entry in &entries {
        match change_one(request, &name, entry).await? {
            Ok(()) => answer.succeed(&entry.id, json!({})),
            Err(error) => answer.fail(&entry.id, &error),
        }
    }
    Ok(answer.into_json())
}

/// Changes the visibility timeout of one message. The inner result is the outcome for this message.
/// An outer error fails the whole request.
async fn change_one(
    request: &SqsRequest,
    name: &str,
    change: &ReceiptRequest,
) -> Result<Result<()>> {
    let (receipt, seconds) = match checked(change) {
        Ok(checked) => checked,
        Err(error) => return Ok(Err(error)),
    };
    let changed = request.queues.change_visibility(&request.principal, name, receipt, seconds);
    Ok(changed.await?.map_err(SqsError::from))
}

/// Returns the receipt handle and the new visibility timeout in seconds.
fn checked(change: &ReceiptRequest) -> Result<(&str, u32)> {
    let receipt = change.receipt_handle.as_deref();
    let receipt = receipt.ok_or_else(|| SqsError::missing("ReceiptHandle"))?;
    let seconds = change.visibility_timeout;
    let seconds = seconds.ok_or_else(|| SqsError::missing("VisibilityTimeout"))?;
    check_range("VisibilityTimeout", Some(seconds), 43_200)?;
    Ok((receipt, seconds))
}

/// The outcomes of the entries of a batch.
#[derive(Debug, Default)]
struct BatchResponse {
    successful: Vec<Value>,
    failed: Vec<Value>,
}

impl BatchResponse {
    fn succeed(&mut self, id: &str, answer: Value) {
        let mut answer = answer;
        answer["Id"] = json!(id);
        self.successful.push(answer);
    }

    fn fail(&mut self, id: &str, error: &SqsError) {
        self.failed.push(json!({"Id": id, "Code": error.code(), "Message": error.message,
            "SenderFault": error.is_sender_fault()}));
    }

    fn into_json(self) -> Value {
        json!({"Successful": self.successful, "Failed": self.failed})
    }
}

fn check_range(name: &str, value: Option<u32>, max: u32) -> Result<()> {
    if value.is_some_and(|value| value > max) {
        return Err(SqsError::invalid(format!("{name} must be between 0 and {max}.")));
    }
    Ok(())
}

fn check_entries<'a>(ids: impl Iterator<Item = &'a str>) -> Result<()> {
    let ids: Vec<&str> = ids.collect();
    let is_id = |id: &&str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !id.is_empty() && id.len() <= 80 && id.chars().all(is_allowed)
    };
    match ids.len() {
        0 => Err(SqsError::new("EmptyBatchRequest", "The batch has no entries.")),
        1..=BATCH_MAX if !ids.iter().all(is_id) => {
            let message = "The Id of an entry must have 1 to 80 letters, digits, - and _.";
            Err(SqsError::new("InvalidBatchEntryId", message))
        }
        1..=BATCH_MAX if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() => {
            Err(SqsError::new("BatchEntryIdsNotDistinct", "Two entries have the same Id."))
        }
        1..=BATCH_MAX => Ok(()),
        count => {
            let message = format!("The batch has {count} entries, more than {BATCH_MAX}.");
            Err(SqsError::new("TooManyEntriesInBatchRequest", message))
        }
    }
}

/// Checks the total size of the messages of a batch.
fn check_bytes(entries: &[SendMessageRequest]) -> Result<()> {
    let bytes: usize = entries.iter().map(SendMessageRequest::bytes).sum();
    if bytes > BATCH_BYTES_MAX {
        let message = format!("The batch has {bytes} bytes, more than {BATCH_BYTES_MAX}.");
        return Err(SqsError::new("BatchRequestTooLong", message));
    }
    Ok(())
}

/// Returns the MD5 of message attributes, as hexadecimal digits; `None` without
/// attributes.
fn attributes_md5(attributes: &BTreeMap<String, MessageAttribute>) -> Option<String> {
    (!attributes.is_empty()).then(|| headwater_service::attributes_md5(attributes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: usize, attributes: &Value) -> SendMessageRequest {
        let entry = json!({"MessageBody": "x".repeat(body), "MessageAttributes": attributes});
        serde_json::from_value(entry).expect("an entry")
    }

    #[test]
    fn the_attributes_of_messages_count_towards_the_size_of_a_batch() {
        let typed = |kind: &str, value: &str| json!({"DataType": kind, "StringValue": value});
        // 1,000 bytes in base64.
        let binary = format!("{}AA==", "AAAA".repeat(333));
        let attributes = json!({
            "city": typed("String", "Bern"),
            "file": {"DataType": "Binary", "BinaryValue": binary},
        });
        let message = entry(10, &attributes);
        assert_eq!(message.bytes(), 10 + (4 + 6 + 4) + (4 + 6 + 1_000));
        assert!(check_bytes(&[message, entry(500_000, &json!({}))]).is_ok());
        let half = || entry(BATCH_BYTES_MAX / 2, &json!({}));
        assert!(check_bytes(&[half(), half()]).is_ok());
        let attributes = json!({"n": typed("Number", "1")});
        let larger = entry(BATCH_BYTES_MAX / 2, &attributes);
        let error = check_bytes(&[half(), larger]).expect_err("too large");
        assert_eq!(error.code(), "BatchRequestTooLong");
    }
}
