//! A client of Apache Kafka that reads the partitions of topics.
//!
//! - [`Cluster`] has the settings of a cluster, and [`ClusterClient`] connects to its servers, with
//!   TLS and a login.
//! - [`Connection`] sends a [`Request`] to one server and receives its response.
//! - [`RecordBatch`] is a batch of records, and [`AbortedTransactions`] skips the records of
//!   aborted transactions.
//! - [`Position`] has the offset of the next record of each partition.
//! - [`RoundDeadline`] is the time at which concurrent tasks, one for each server, stop reading.
//!
//! Memory is allocated only for bytes that were received. Decompression and the number of records
//! are limited.
//!
//! Published clients were not sufficient: `rskafka` fails at records of transactions and at headers
//! without a value, and does not return the type of timestamps. `kafka-protocol` allocates memory
//! for every length that a server declares.

mod cluster;
mod connection;
mod decompression;
mod event_record;
mod login;
mod messages;
mod position;
mod records;
mod round_deadline;
mod wire;

pub use cluster::{Cluster, ClusterClient, InvalidSetting, problem_at, server_name};
pub use connection::{BrokerFailure, Connection, FETCH_MAX, REQUEST_MAX};
pub use messages::{
    BrokerMetadata, EARLIEST, FetchRequest, FetchResponse, FetchedPartition, LATEST,
    MetadataRequest, MetadataResponse, OFFSET_OUT_OF_RANGE, PartitionMetadata, PartitionOffset,
    Request, UNKNOWN_TOPIC, error_text,
};
pub use position::{Position, PositionUpdate, PositionUpdateContent, TopicIdentity};
pub use records::{AbortedTransactions, Record, RecordBatch, RecordError, Records};
pub use round_deadline::{RoundDeadline, RoundParticipant};
pub use wire::MalformedMessage;
