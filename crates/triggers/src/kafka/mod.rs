//! Records of topics of Apache Kafka.
//!
//! The crate `headwater-kafka-client` has the connections, the requests, the format of the records
//! and the position of each partition.
//!
//! - `receiver` follows a cluster in rounds, and `leader` reads the partitions of one server.
//! - `source` records the events, with the position of each partition.

mod broker_fetcher;
mod receiver;
mod source;

pub(crate) use source::{KafkaSource, POSITIONS, WatchedTopic};
