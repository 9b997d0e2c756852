//! Events: occurrences that triggers deliver, with the fields of
//! [CloudEvents 1.0](https://github.com/cloudevents/spec).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{CommitId, EndedJob, Identity, Principal, Timestamp};

/// An event. An event is recorded before it is delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Version of the CloudEvents specification.
    #[serde(default)]
    pub specversion: SpecVersion,
    /// Id, unique in the lake. The commits that the event causes contain this id.
    pub id: String,
    /// Origin as a URI reference: the folder, the bucket, the scheduled trigger, the branch, the
    /// job, the database or the stream.
    pub source: String,
    /// The one object that the event is about: the file, object, table, channel or subject; for a
    /// merge the merged ref, for an ended job its name. Absent if there is not exactly one. A file
    /// is named by its path in the folder, an object by its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// For schedules, the scheduled time; for NATS and Kafka, the time of the first message; for
    /// merges and ended jobs, the time of the merge or the end; for other events, the time of
    /// detection.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Type and data.
    #[serde(flatten)]
    pub data: EventData,
    /// Names of the triggers, function queues and event source mappings that led to this event.
    /// None of these triggers fires for this event, which prevents loops.
    #[serde(default)]
    pub caused_by: Vec<String>,
}

impl Event {
    /// Returns the files that arrived; empty for other events.
    pub fn files(&self) -> &[ArrivedFile] {
        match &self.data {
            EventData::FileArrived { files } => files,
            _ => &[],
        }
    }

    /// Returns the object that was created or removed; `None` for other events.
    pub fn object(&self) -> Option<&ChangedObject> {
        match &self.data {
            EventData::ObjectCreated { object } | EventData::ObjectRemoved { object } => {
                Some(object)
            }
            _ => None,
        }
    }

    /// Returns the tables that a commit or a merge changed; empty for other events.
    pub fn tables(&self) -> &[String] {
        match &self.data {
            EventData::TableChanged { tables, .. } | EventData::BranchMerged { tables, .. } => {
                tables
            }
            _ => &[],
        }
    }

    /// Returns the branch that changed or into which a ref was merged; `None` for other events.
    pub fn branch(&self) -> Option<&str> {
        match &self.data {
            EventData::TableChanged { branch, .. } | EventData::BranchMerged { branch, .. } => {
                Some(branch)
            }
            _ => None,
        }
    }

    /// Returns the job that ended; `None` for other events.
    pub fn job(&self) -> Option<&EndedJob> {
        match &self.data {
            EventData::JobEnded { job } => Some(job),
            _ => None,
        }
    }

    /// Returns the payloads of the notifications, messages or records, or the rows of the outbox
    /// table; empty for other events.
    pub fn payloads(&self) -> Vec<&Value> {
        match &self.data {
            EventData::PostgresNotified { payloads: values, .. }
            | EventData::PostgresRowsAdded { rows: values, .. } => values.iter().collect(),
            EventData::NatsReceived { messages, .. } => {
                messages.iter().map(|message| &message.payload).collect()
            }
            EventData::QueueReceived { messages, .. } => {
                messages.iter().map(|message| &message.payload).collect()
            }
            EventData::KafkaReceived { records, .. } => {
                records.iter().map(|record| &record.payload).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the message group of a FIFO queue; messages of one group are delivered in order.
    /// `None` for other events.
    pub fn group(&self) -> Option<&str> {
        match &self.data {
            EventData::QueueReceived { messages, .. } => messages.first()?.group.as_deref(),
            _ => None,
        }
    }

    /// Returns the last commit that changed the tables, or the target's commit after a merge;
    /// `None` for other events.
    pub fn commit(&self) -> Option<CommitId> {
        match &self.data {
            EventData::TableChanged { commit, .. } | EventData::BranchMerged { commit, .. } => {
                Some(*commit)
            }
            _ => None,
        }
    }
}

/// Version of the CloudEvents specification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SpecVersion {
    /// CloudEvents 1.0.
    #[default]
    #[serde(rename = "1.0")]
    V1,
}

/// The type of an event and its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
pub enum EventData {
    /// New or changed files in a folder.
    #[serde(rename = "headwater.file.arrived")]
    FileArrived {
        /// The files, oldest first.
        files: Vec<ArrivedFile>,
    },
    /// An object was created in a bucket of the lake, or replaced.
    #[serde(rename = "headwater.object.created")]
    ObjectCreated {
        /// The object.
        object: ChangedObject,
    },
    /// An object was deleted from a bucket of the lake.
    #[serde(rename = "headwater.object.removed")]
    ObjectRemoved {
        /// The object before its deletion.
        object: ChangedObject,
    },
    /// A scheduled time was reached.
    #[serde(rename = "headwater.schedule.fired")]
    ScheduleFired {
        /// The scheduled time.
        #[schema(value_type = String, format = DateTime)]
        scheduled: Timestamp,
    },
    /// Commits of a branch changed tables.
    #[serde(rename = "headwater.table.changed")]
    TableChanged {
        /// The branch.
        branch: String,
        /// The tables, qualified by their namespaces.
        tables: Vec<String>,
        /// The last commit that changed one of the tables.
        #[schema(value_type = String)]
        commit: CommitId,
    },
    /// A branch or tag was merged into a branch.
    #[serde(rename = "headwater.branch.merged")]
    BranchMerged {
        /// The target branch.
        branch: String,
        /// The merged branch or tag.
        source: String,
        /// The target's commit before the merge.
        #[schema(value_type = String)]
        before: CommitId,
        /// The target's commit after the merge.
        #[schema(value_type = String)]
        commit: CommitId,
        /// The merged commit.
        #[schema(value_type = String)]
        source_commit: CommitId,
        /// The changed tables and views that the deployer of the trigger may read, qualified by
        /// their namespaces.
        tables: Vec<String>,
        /// The author of the merge.
        author: String,
    },
    /// A job ended.
    #[serde(rename = "headwater.job.ended")]
    JobEnded {
        /// The job.
        job: Box<EndedJob>,
    },
    /// A PostgreSQL server sent notifications on a channel.
    #[serde(rename = "headwater.postgres.notified")]
    PostgresNotified {
        /// The channel.
        channel: String,
        /// The payload of each notification, in order. JSON objects and arrays are parsed; other
        /// payloads are text.
        payloads: Vec<Value>,
    },
    /// Rows were added to an outbox table in PostgreSQL.
    #[serde(rename = "headwater.postgres.rows_added")]
    PostgresRowsAdded {
        /// The table.
        table: String,
        /// The rows as objects, in the order of their keys.
        rows: Vec<Value>,
    },
    /// Messages were sent to a queue of the lake.
    #[serde(rename = "headwater.queue.received")]
    QueueReceived {
        /// The queue.
        queue: String,
        /// The messages, in the order of the queue.
        messages: Vec<QueueMessage>,
    },
    /// A NATS stream received messages.
    #[serde(rename = "headwater.nats.received")]
    NatsReceived {
        /// The stream.
        stream: String,
        /// The messages, in the order of their delivery.
        messages: Vec<NatsMessage>,
    },
    /// A partition of a Kafka topic received records.
    #[serde(rename = "headwater.kafka.received")]
    KafkaReceived {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The records, in the order of the partition.
        records: Vec<KafkaRecord>,
    },
    /// A client called a function asynchronously.
    #[serde(rename = "headwater.function.invoked")]
    FunctionInvoked {
        /// The function.
        function: String,
        /// Argument values by name.
        arguments: BTreeMap<String, Value>,
    },
}

impl EventData {
    /// Returns the names of the changed files, objects or tables, as one short text.
    pub fn subjects(&self) -> String {
        match self {
            EventData::FileArrived { files } => match files.as_slice() {
                [file] => file.path.rsplit('/').next().unwrap_or(&file.path).to_owned(),
                files => format!("{} files", files.len()),
            },
            EventData::ObjectCreated { object } | EventData::ObjectRemoved { object } => {
                object.uri.clone()
            }
            EventData::ScheduleFired { scheduled } => {
                scheduled.format("%Y-%m-%d %H:%M:%S").to_string()
            }
            EventData::TableChanged { tables, .. } => tables.join(", "),
            EventData::BranchMerged { source, branch, .. } => format!("{source} into {branch}"),
            EventData::JobEnded { job } => job.summary.clone(),
            EventData::PostgresNotified { channel, .. } => channel.clone(),
            EventData::PostgresRowsAdded { table, .. } => table.clone(),
            EventData::QueueReceived { queue, .. } => queue.clone(),
            EventData::NatsReceived { stream, messages } => match messages.as_slice() {
                [message] => message.subject.clone(),
                _ => stream.clone(),
            },
            EventData::KafkaReceived { topic, partition, .. } => format!("{topic}-{partition}"),
            EventData::FunctionInvoked { function, .. } if function.contains("://") => {
                format!("record for {function}")
            }
            EventData::FunctionInvoked { function, .. } => format!("call of {function}"),
        }
    }
}

/// A message of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueMessage {
    /// The id of the message.
    pub id: String,
    /// Time at which the message was sent.
    #[schema(value_type = String, format = DateTime)]
    pub sent: Timestamp,
    /// The sender.
    pub sender: String,
    /// The group, in FIFO queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The body. JSON objects and arrays are parsed; other bodies are text.
    pub payload: Value,
    /// The message as a record of an SQS event, as AWS Lambda passes it to functions.
    pub record: Value,
}

/// A message of a NATS stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NatsMessage {
    /// The subject.
    pub subject: String,
    /// Sequence number in the stream.
    pub sequence: u64,
    /// Time at which the stream received the message.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The headers. If a header occurs several times, its last value is kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The payload. JSON objects and arrays are parsed; other payloads are text, or base64 if they
    /// are not UTF-8.
    pub payload: Value,
    /// True if the payload is base64.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_base64: bool,
}

/// A record of a Kafka topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KafkaRecord {
    /// Offset in the partition.
    pub offset: i64,
    /// The timestamp: when the record was created, or when the server received it, as the topic
    /// specifies.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The key as text, or as base64 if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The headers whose values are UTF-8. If a header occurs several times, its last value is
    /// kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The value. JSON objects and arrays are parsed; other values are text, or base64 if they are
    /// not UTF-8. Null if the record has no value.
    pub payload: Value,
    /// True if the payload is base64.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_base64: bool,
    /// The record in the form in which AWS Lambda passes it to functions.
    pub record: Value,
}

/// A change of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The URI `s3://BUCKET/KEY`.
    pub uri: String,
    /// The operation that changed the object.
    pub operation: ObjectOperation,
    /// Size in bytes.
    pub size: u64,
    /// The entity tag, without quotes.
    pub etag: String,
    /// A string that orders the changes of one key: hexadecimal digits, compared as text.
    pub sequencer: String,
    /// The client that changed the object; absent for a change by a function of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
}

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Requester {
    /// Name of the user; `owner` for the owner of the lake.
    pub principal: String,
    /// IP address of the client, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
}

impl Requester {
    /// Returns the requester with the identity of a principal.
    pub fn of(principal: &Principal) -> Self {
        let name = match principal.identity() {
            Identity::Owner => "owner",
            Identity::User(user) => user.name.as_str(),
            Identity::Anonymous => "anonymous",
        };
        Requester { principal: name.to_owned(), address: principal.address() }
    }
}

/// An operation on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectOperation {
    /// The object was written.
    Put,
    /// The object was copied from another object.
    Copy,
    /// The object's multipart upload was completed.
    CompleteMultipartUpload,
    /// The object was deleted.
    Delete,
}

impl ObjectOperation {
    /// Returns true if the object exists after the operation.
    pub const fn creates(self) -> bool {
        !matches!(self, ObjectOperation::Delete)
    }

    /// Returns the name of the operation in S3 event notifications.
    pub const fn aws_name(self) -> &'static str {
        match self {
            ObjectOperation::Put => "ObjectCreated:Put",
            ObjectOperation::Copy => "ObjectCreated:Copy",
            ObjectOperation::CompleteMultipartUpload => "ObjectCreated:CompleteMultipartUpload",
            ObjectOperation::Delete => "ObjectRemoved:Delete",
        }
    }
}

/// One version of a file that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArrivedFile {
    /// Absolute path.
    pub path: String,
    /// The path as a `file` URI.
    pub uri: String,
    /// Identifier of the version, computed from the file's modification time and size.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_serialises_as_a_cloud_event() {
        let event = Event {
            specversion: SpecVersion::V1,
            id: "e1".into(),
            source: "/branches/main".into(),
            subject: Some("public.orders".into()),
            time: Timestamp::UNIX_EPOCH,
            data: EventData::TableChanged {
                branch: "main".into(),
                tables: vec!["public.orders".into()],
                commit: "ab".repeat(32).parse().expect("an id"),
            },
            caused_by: vec!["landing".into()],
        };
        let expected = json!({
            "specversion": "1.0", "id": "e1", "source": "/branches/main",
            "type": "headwater.table.changed", "subject": "public.orders",
            "time": "1970-01-01T00:00:00Z", "caused_by": ["landing"],
            "data": {"branch": "main", "tables": ["public.orders"], "commit": "ab".repeat(32)},
        });
        assert_eq!(serde_json::to_value(&event).expect("JSON"), expected);
        assert_eq!(serde_json::from_value::<Event>(expected).expect("an event"), event);
    }

    #[test]
    fn a_record_for_a_destination_is_not_shown_as_a_call() {
        for (function, expected) in [
            ("charge", "call of charge"),
            ("table://log.charges", "record for table://log.charges"),
        ] {
            let arguments = BTreeMap::new();
            let data = EventData::FunctionInvoked { function: function.into(), arguments };
            assert_eq!(data.subjects(), expected);
        }
    }
}
