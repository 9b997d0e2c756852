//! Records of topics of Apache Kafka.
//!
//! This module has its own client for the five requests that a reader of partitions needs. The
//! published clients were not sufficient. `rskafka` fails at records of transactions and at headers
//! without a value, and does not return the type of timestamps. `kafka-protocol` allocates memory
//! for every length that a server declares. Both connect to any address that a server names.
//!
//! - `wire` reads and writes primitive values, and `messages` the requests and responses.
//! - `records` decodes batches of records, which `codec` decompresses.
//! - `connection` is a connection to one server, with TLS and a login (`login`).
//! - `cluster` describes the cluster of a trigger. `receiver` follows it, and `leader` reads the
//!   partitions of one server.
//! - `source` records the events, with the position of each partition (`position`).

mod cluster;
mod codec;
mod connection;
mod leader;
mod login;
mod messages;
mod position;
mod receiver;
mod records;
mod source;
mod wire;

pub(crate) use source::{KafkaEvents, KafkaSource, POSITIONS};
