//! The record of a message in an event of SQS, which functions receive.

use serde_json::{Value, json};

use crate::{ReceivedMessage, attributes_md5};

impl ReceivedMessage {
    /// Returns the record of the message. `queue` is the name of its queue.
    pub fn record(&self, queue: &str) -> Value {
        let message = &self.message;
        let mut attributes = serde_json::Map::new();
        for (name, attribute) in &message.attributes {
            let mut value = json!({"stringListValues": [], "binaryListValues": [],
                "dataType": attribute.kind});
            let key = if attribute.is_binary() { "binaryValue" } else { "stringValue" };
            value[key] = json!(attribute.value);
            attributes.insert(name.clone(), value);
        }
        let mut record = json!({
            "messageId": message.id,
            "receiptHandle": self.receipt,
            "body": message.body,
            "attributes": self.system_attributes(),
            "messageAttributes": attributes,
            "md5OfBody": message.body_md5(),
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:us-east-1:000000000000:{queue}"),
            "awsRegion": "us-east-1",
        });
        if !message.attributes.is_empty() {
            record["md5OfMessageAttributes"] = json!(attributes_md5(&message.attributes));
        }
        record
    }
}
