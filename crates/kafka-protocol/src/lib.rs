//! The protocol of Apache Kafka, as far as a reader of partitions needs it. No I/O.
//!
//! - [`Request`] is a request with its response, and [`encode`] and [`decode`] convert their bytes.
//! - [`RecordBatch`] is a batch of records, and [`AbortedTransactions`] skips the records of
//!   aborted transactions.
//!
//! Memory is allocated only for bytes that were received. Decompression and the number of records
//! are limited.
//!
//! The published clients were not sufficient. `rskafka` fails at records of transactions and at
//! headers without a value, and does not return the type of timestamps. `kafka-protocol` allocates
//! memory for every length that a server declares.

mod codec;
mod messages;
mod records;
mod wire;

pub use messages::{
    AuthenticateRequest, Authenticated, EARLIEST, FetchRequest, Fetched, FetchedPartition,
    Handshake, HandshakeRequest, LATEST, Metadata, MetadataRequest, OFFSET_OUT_OF_RANGE,
    OffsetsRequest, PartitionMetadata, PartitionOffset, Request, ServerMetadata, UNKNOWN_TOPIC,
    decode, encode, error_text,
};
pub use records::{AbortedTransactions, Record, RecordBatch, RecordError, Records};
pub use wire::Malformed;
