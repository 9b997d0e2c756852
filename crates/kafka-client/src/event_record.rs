//! The form of a Kafka record in an event: Headwater's fields, and the record as AWS Lambda has it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::DateTime;
use headwater_event_values::message_payload;
use headwater_model::KafkaRecord;
use serde_json::{Value, json};

use crate::Record;

impl Record {
    /// Returns the record in the form in which an event contains it.
    pub fn event_record(&self, topic: &str, partition: i32) -> KafkaRecord {
        let time = DateTime::from_timestamp_millis(self.timestamp).unwrap_or_default();
        let (payload, is_base64) = self
            .value
            .as_ref()
            .map_or((Value::Null, false), |value| message_payload::of_bytes(value));
        let key = self.key.as_ref().map(|key| match std::str::from_utf8(key) {
            Ok(text) => text.to_owned(),
            Err(_) => STANDARD.encode(key),
        });
        let texts = self.headers.iter().filter_map(|(name, value)| {
            let text = std::str::from_utf8(value.as_ref()?).ok()?;
            Some((name.clone(), text.to_owned()))
        });
        KafkaRecord {
            offset: self.offset,
            time,
            key,
            headers: texts.collect(),
            payload,
            is_base64,
            record: of_aws(topic, partition, self),
        }
    }
}

/// Returns the record as AWS Lambda has it, with header bytes as numbers from -128 to 127.
fn of_aws(topic: &str, partition: i32, record: &Record) -> Value {
    let base64 = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
    let signed = |bytes: &Option<Bytes>| -> Vec<i8> {
        bytes.iter().flatten().map(|byte| byte.cast_signed()).collect()
    };
    let headers = record.headers.iter().map(|(name, value)| json!({name: signed(value)}));
    let timestamp_type = if record.is_log_append_time { "LOG_APPEND_TIME" } else { "CREATE_TIME" };
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestampType": timestamp_type,
        "key": base64(&record.key),
        "value": base64(&record.value),
        "headers": headers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn record() -> Record {
        let headers = vec![
            ("h".to_owned(), Some(Bytes::from_static(b"\x80a"))),
            ("h".to_owned(), Some(Bytes::from_static(b"text"))),
            ("none".to_owned(), None),
        ];
        Record {
            offset: 3,
            timestamp: 1_500,
            is_log_append_time: true,
            key: Some(Bytes::from_static(b"\xff")),
            value: None,
            headers,
        }
    }

    #[test]
    fn a_record_has_the_form_of_aws() {
        let converted = record().event_record("t", 2);
        assert_eq!((converted.key.as_deref(), &converted.payload), (Some("/w=="), &Value::Null));
        assert_eq!(converted.headers, BTreeMap::from([("h".to_owned(), "text".to_owned())]));
        let expected = json!({
            "topic": "t", "partition": 2, "offset": 3, "timestamp": 1_500,
            "timestampType": "LOG_APPEND_TIME", "key": "/w==", "value": null,
            "headers": [{"h": [-128, 97]}, {"h": [116, 101, 120, 116]}, {"none": []}],
        });
        assert_eq!(converted.record, expected);
    }
}
