//! Records of topics of Apache Kafka.
//!
//! The crate `headwater-kafka-protocol` has the requests and the format of the records.
//!
//! - `connection` is a connection to one server, with TLS and a login (`login`).
//! - `cluster` describes the cluster of a trigger. `receiver` follows it in rounds (`round_end`),
//!   and `leader` reads the partitions of one server.
//! - `source` records the events, with the position of each partition (`position`).

mod cluster;
mod connection;
mod leader;
mod login;
mod position;
mod receiver;
mod round_end;
mod source;

pub(crate) use source::{KafkaEvents, KafkaSource, POSITIONS};
