//! Events in the format of AWS, for handlers that were written for AWS Lambda.

use std::net::{IpAddr, Ipv4Addr};

use chrono::SecondsFormat;
use headwater_model::{ChangedObject, Event, EventData, EventFormat, Timestamp, Trigger};
use serde_json::{Value, json};

/// The principal id in S3 notifications for the owner of a bucket, and for changes by functions of
/// this server. AWS writes an account id.
const PRINCIPAL: &str = "headwater";
const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";

/// The client address in S3 notifications for changes by functions of this server.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Returns the AWS resource name (ARN) of a version of a function.
pub fn function_arn(name: &str, version: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:{version}")
}

/// Returns the event as a function receives it. Unless the trigger requests CloudEvents, the event
/// has the format of AWS: a notification of S3 for objects, an event of EventBridge for scheduled
/// times, of SQS for queues, and of a self-managed Kafka cluster for topics. Events of all other
/// sources are CloudEvents.
pub fn function_argument(trigger: &Trigger, event: &Event) -> Value {
    let of_bucket = trigger.bucket.as_ref().map(|bucket| bucket.format);
    let of_queue = trigger.queue.as_ref().map(|queue| queue.format);
    let of_schedule = trigger.schedule.as_ref().map(|schedule| schedule.format);
    match (&event.data, event.object(), of_bucket.or(of_queue).or(of_schedule)) {
        (_, Some(object), Some(EventFormat::Aws)) => notification(trigger, event, object),
        (EventData::QueueReceived { messages, .. }, _, Some(EventFormat::Aws)) => {
            json!({"Records": messages.iter().map(|message| &message.record).collect::<Vec<_>>()})
        }
        (EventData::ScheduleFired { scheduled }, _, Some(EventFormat::Aws)) => {
            scheduled_event(trigger, event, *scheduled)
        }
        (EventData::KafkaReceived { topic, partition, records }, ..) => match &trigger.kafka {
            Some(kafka) if kafka.format == EventFormat::Aws => json!({
                "eventSource": "aws:SelfManagedKafka",
                "bootstrapServers": kafka.servers,
                "records": {
                    format!("{topic}-{partition}"):
                        records.iter().map(|record| &record.record).collect::<Vec<_>>(),
                },
            }),
            _ => json!(event),
        },
        _ => json!(event),
    }
}

/// Returns a scheduled event of EventBridge.
fn scheduled_event(trigger: &Trigger, event: &Event, scheduled: Timestamp) -> Value {
    json!({
        "version": "0",
        "id": event.id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": scheduled.to_rfc3339_opts(SecondsFormat::Secs, true),
        "region": REGION,
        "resources": [format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{}", trigger.name)],
        "detail": {},
    })
}

/// Returns an S3 notification with one record.
fn notification(trigger: &Trigger, event: &Event, changed: &ChangedObject) -> Value {
    let ChangedObject { bucket, key, operation, size, etag, sequencer, requester, .. } = changed;
    let principal = requester.as_ref().map_or(PRINCIPAL, |requester| &requester.principal);
    let address = requester.as_ref().map_or(Some(LOCAL), |requester| requester.address);
    // The trigger of a bucket notification has the name `BUCKET/ID`.
    let id = trigger.name.strip_prefix(bucket.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let mut object = json!({"key": url_encoded(key), "sequencer": sequencer});
    if operation.creates() {
        object["size"] = json!(size);
        object["eTag"] = json!(etag);
    }
    json!({"Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": event.time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "eventName": operation.aws_name(),
        "userIdentity": {"principalId": principal},
        "requestParameters": {"sourceIPAddress": address.unwrap_or(LOCAL)},
        "responseElements": {"x-amz-request-id": event.id, "x-amz-id-2": event.id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": id.unwrap_or(&trigger.name),
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": PRINCIPAL},
                "arn": format!("arn:aws:s3:::{bucket}"),
            },
            "object": object,
        },
    }]})
}

/// Encodes a key as S3 notifications do: form-encoded, but with `/` unchanged. Python's
/// `urllib.parse.unquote_plus` decodes it.
fn url_encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use headwater_model::Requester;

    use super::*;

    fn event(operation: &str, kind: &str) -> Event {
        let object = json!({"bucket": "landing", "key": "in/Happy Face+é.csv", "size": 3,
            "uri": "s3://landing/in/Happy Face+é.csv", "operation": operation, "etag": "e1",
            "sequencer": "00000000000000002A"});
        let event = json!({"id": "e", "source": "s3://landing", "subject": "in/Happy Face+é.csv",
            "time": Timestamp::UNIX_EPOCH, "type": kind, "data": {"object": object}});
        serde_json::from_value(event).expect("an event")
    }

    fn trigger(bucket: &Value) -> Trigger {
        let trigger = json!({"name": "clean", "function": "f", "bucket": bucket});
        serde_json::from_value(trigger).expect("a trigger")
    }

    #[test]
    fn a_function_receives_the_notification_of_s3() {
        let created = event("put", "headwater.object.created");
        let argument = function_argument(&trigger(&json!({"name": "landing"})), &created);
        let record = &argument["Records"][0];
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        assert_eq!(record["eventTime"], "1970-01-01T00:00:00.000Z");
        assert_eq!(record["s3"]["configurationId"], "clean");
        assert_eq!(record["s3"]["bucket"]["name"], "landing");
        let object = json!({"key": "in/Happy+Face%2B%C3%A9.csv", "size": 3, "eTag": "e1",
            "sequencer": "00000000000000002A"});
        assert_eq!(record["s3"]["object"], object);

        assert_eq!(record["requestParameters"], json!({"sourceIPAddress": "127.0.0.1"}));
        let mut by_ana = created.clone();
        if let EventData::ObjectCreated { object } = &mut by_ana.data {
            let address = Some("10.0.0.9".parse().expect("an address"));
            object.requester = Some(Requester { principal: "ana".to_owned(), address });
        }
        let argument = function_argument(&trigger(&json!({"name": "landing"})), &by_ana);
        let record = &argument["Records"][0];
        assert_eq!(record["userIdentity"], json!({"principalId": "ana"}));
        assert_eq!(record["requestParameters"], json!({"sourceIPAddress": "10.0.0.9"}));

        let removed = event("delete", "headwater.object.removed");
        let argument = function_argument(&trigger(&json!({"name": "landing"})), &removed);
        let record = &argument["Records"][0];
        assert_eq!(record["eventName"], "ObjectRemoved:Delete");
        assert_eq!(record["s3"]["object"]["size"], Value::Null);
    }

    #[test]
    fn a_function_receives_the_event_of_sqs() {
        let record = json!({"messageId": "m", "body": "{}", "eventSource": "aws:sqs"});
        let message = json!({"id": "m", "sent": Timestamp::UNIX_EPOCH, "sender": "ana",
            "payload": {}, "record": record});
        let event = json!({"id": "e", "source": "/queues/orders", "time": Timestamp::UNIX_EPOCH,
            "type": "headwater.queue.received",
            "data": {"queue": "orders", "messages": [message]}});
        let event: Event = serde_json::from_value(event).expect("an event");
        let trigger = |queue: Value| {
            let trigger = json!({"name": "t", "function": "f", "queue": queue});
            serde_json::from_value::<Trigger>(trigger).expect("a trigger")
        };
        let argument = function_argument(&trigger(json!("orders")), &event);
        assert_eq!(argument, json!({"Records": [record]}));
        let trigger = trigger(json!({"name": "orders", "format": "cloudevents"}));
        assert_eq!(function_argument(&trigger, &event), json!(event));
    }

    #[test]
    fn a_function_receives_the_event_of_event_bridge() {
        let event = json!({"id": "e", "source": "/triggers/nightly", "time": Timestamp::UNIX_EPOCH,
            "type": "headwater.schedule.fired", "data": {"scheduled": Timestamp::UNIX_EPOCH}});
        let event: Event = serde_json::from_value(event).expect("an event");
        let argument = |format: &str| {
            let trigger = json!({"name": "nightly", "function": "f",
                "schedule": {"cron": "0 2 * * *", "format": format}});
            function_argument(&serde_json::from_value(trigger).expect("a trigger"), &event)
        };
        let aws = argument("aws");
        assert_eq!((&aws["id"], &aws["time"]), (&json!("e"), &json!("1970-01-01T00:00:00Z")));
        let rule = "arn:aws:events:us-east-1:000000000000:rule/nightly";
        assert_eq!(aws["resources"], json!([rule]));
        assert_eq!(argument("cloudevents"), json!(event));
    }

    #[test]
    fn a_trigger_may_ask_for_cloud_events() {
        let created = event("complete_multipart_upload", "headwater.object.created");
        let bucket = json!({"name": "landing", "format": "cloudevents"});
        let argument = function_argument(&trigger(&bucket), &created);
        assert_eq!(argument, json!(created));
        assert_eq!(argument["data"]["object"]["operation"], "complete_multipart_upload");
    }
}
