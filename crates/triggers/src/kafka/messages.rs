//! Requests to servers of Kafka, and their responses. Does no I/O.
//!
//! Each request has one version, which Kafka 1.0 to 4.x and compatible servers support.

use bytes::Bytes;

use super::wire::{Malformed, Reader, Writer};

/// The isolation level `read_committed`.
const READ_COMMITTED: i8 = 1;
/// The replica id of consumers.
const CONSUMER: i32 = -1;

/// Timestamps that select the first and the next offset of a partition.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;

/// A request.
pub(super) trait Request {
    const KEY: i16;
    const VERSION: i16;
    type Response;

    fn write(&self, writer: &mut Writer);

    fn read(reader: &mut Reader) -> Result<Self::Response, Malformed>;
}

/// Requests the servers of the cluster and the partitions of a topic.
#[derive(Debug)]
pub(super) struct MetadataRequest<'a> {
    pub topic: &'a str,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Metadata {
    pub servers: Vec<ServerMetadata>,
    pub cluster: Option<String>,
    pub error: i16,
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Debug)]
pub(super) struct ServerMetadata {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

#[derive(Debug, Clone)]
pub(super) struct PartitionMetadata {
    pub number: i32,
    /// The server that has the partition; -1 if there is none.
    pub leader: i32,
}

impl Request for MetadataRequest<'_> {
    const KEY: i16 = 3;
    const VERSION: i16 = 4;
    type Response = Metadata;

    fn write(&self, writer: &mut Writer) {
        // The last value prevents the creation of a missing topic.
        writer.count(1).text(self.topic).i8(0);
    }

    fn read(reader: &mut Reader) -> Result<Metadata, Malformed> {
        let _throttle = reader.i32()?;
        let servers = reader.list(|reader| {
            let server =
                ServerMetadata { id: reader.i32()?, host: reader.text()?, port: reader.i32()? };
            let _rack = reader.nullable_text()?;
            Ok(server)
        })?;
        let (cluster, _controller) = (reader.nullable_text()?, reader.i32()?);
        let mut topics = reader.list(|reader| {
            let (error, _name, _is_internal) = (reader.i16()?, reader.text()?, reader.i8()?);
            let partitions = reader.list(|reader| {
                let (_error, number, leader) = (reader.i16()?, reader.i32()?, reader.i32()?);
                let _replicas = reader.list(Reader::i32)?;
                let _in_sync = reader.list(Reader::i32)?;
                Ok(PartitionMetadata { number, leader })
            })?;
            Ok((error, partitions))
        })?;
        let (error, partitions) = topics.pop().ok_or(Malformed("the topic is missing"))?;
        Ok(Metadata { servers, cluster, error, partitions })
    }
}

/// Requests an offset of partitions.
#[derive(Debug)]
pub(super) struct OffsetsRequest<'a> {
    pub topic: &'a str,
    pub partitions: Vec<i32>,
    /// Milliseconds since 1970, [`EARLIEST`] or [`LATEST`].
    pub timestamp: i64,
}

/// The offset of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionOffset {
    pub partition: i32,
    pub error: i16,
    /// -1 if the partition has no record with this timestamp or a later one.
    pub offset: i64,
}

impl Request for OffsetsRequest<'_> {
    const KEY: i16 = 2;
    const VERSION: i16 = 2;
    type Response = Vec<PartitionOffset>;

    fn write(&self, writer: &mut Writer) {
        writer.i32(CONSUMER).i8(READ_COMMITTED).count(1).text(self.topic);
        writer.count(self.partitions.len());
        for partition in &self.partitions {
            writer.i32(*partition).i64(self.timestamp);
        }
    }

    fn read(reader: &mut Reader) -> Result<Vec<PartitionOffset>, Malformed> {
        let _throttle = reader.i32()?;
        let topics = reader.list(|reader| {
            let _name = reader.text()?;
            reader.list(|reader| {
                let (partition, error) = (reader.i32()?, reader.i16()?);
                let (_timestamp, offset) = (reader.i64()?, reader.i64()?);
                Ok(PartitionOffset { partition, error, offset })
            })
        })?;
        Ok(topics.into_iter().flatten().collect())
    }
}

/// Requests records of partitions, from an offset each.
#[derive(Debug)]
pub(super) struct FetchRequest<'a> {
    pub topic: &'a str,
    pub partitions: Vec<(i32, i64)>,
    /// Maximum time for which the server waits for records.
    pub wait_ms: i32,
    /// Maximum sizes of the response and of a partition in it. The first batch may be larger.
    pub bytes_max: i32,
    pub partition_bytes_max: i32,
}

/// Records of partitions.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Time for which the client should send no request.
    pub throttle_ms: i32,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Debug)]
pub(super) struct FetchedPartition {
    pub partition: i32,
    pub error: i16,
    /// First offset and producer of each aborted transaction.
    pub aborted: Vec<(i64, i64)>,
    pub batches: Bytes,
}

impl Request for FetchRequest<'_> {
    const KEY: i16 = 1;
    const VERSION: i16 = 4;
    type Response = Fetched;

    fn write(&self, writer: &mut Writer) {
        writer.i32(CONSUMER).i32(self.wait_ms).i32(1).i32(self.bytes_max).i8(READ_COMMITTED);
        writer.count(1).text(self.topic).count(self.partitions.len());
        for (partition, offset) in &self.partitions {
            writer.i32(*partition).i64(*offset).i32(self.partition_bytes_max);
        }
    }

    fn read(reader: &mut Reader) -> Result<Fetched, Malformed> {
        let throttle_ms = reader.i32()?;
        let topics = reader.list(|reader| {
            let _name = reader.text()?;
            reader.list(|reader| {
                let (partition, error) = (reader.i32()?, reader.i16()?);
                let (_high_watermark, _last_stable) = (reader.i64()?, reader.i64()?);
                let aborted = reader.list(|reader| {
                    let (producer, first) = (reader.i64()?, reader.i64()?);
                    Ok((first, producer))
                })?;
                let batches = reader.bytes()?.unwrap_or_default();
                Ok(FetchedPartition { partition, error, aborted, batches })
            })
        })?;
        Ok(Fetched { throttle_ms, partitions: topics.into_iter().flatten().collect() })
    }
}

/// Begins a login.
#[derive(Debug)]
pub(super) struct HandshakeRequest<'a> {
    pub mechanism: &'a str,
}

/// The mechanisms of a server.
#[derive(Debug)]
pub(super) struct Handshake {
    pub error: i16,
    pub mechanisms: Vec<String>,
}

impl Request for HandshakeRequest<'_> {
    const KEY: i16 = 17;
    const VERSION: i16 = 1;
    type Response = Handshake;

    fn write(&self, writer: &mut Writer) {
        writer.text(self.mechanism);
    }

    fn read(reader: &mut Reader) -> Result<Handshake, Malformed> {
        Ok(Handshake { error: reader.i16()?, mechanisms: reader.list(Reader::text)? })
    }
}

/// Continues a login.
#[derive(Debug)]
pub(super) struct AuthenticateRequest {
    pub data: Vec<u8>,
}

/// The answer of the server.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub error: i16,
    pub message: Option<String>,
    pub data: Bytes,
}

impl Request for AuthenticateRequest {
    const KEY: i16 = 36;
    const VERSION: i16 = 0;
    type Response = Authenticated;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.data);
    }

    fn read(reader: &mut Reader) -> Result<Authenticated, Malformed> {
        let (error, message) = (reader.i16()?, reader.nullable_text()?);
        Ok(Authenticated { error, message, data: reader.bytes()?.unwrap_or_default() })
    }
}

/// Error codes of the protocol that are treated specially.
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const UNKNOWN_TOPIC: i16 = 3;

/// Returns the description of an error code.
pub(super) fn error_text(code: i16) -> String {
    let text = match code {
        2 => "a record is damaged",
        UNKNOWN_TOPIC => "the topic or the partition does not exist",
        5 => "the partition has no leader at present",
        6 => "the server is not the leader of the partition",
        9 => "the replica is unavailable",
        17 => "the name of the topic is invalid",
        29 => "the user may not read the topic",
        31 => "the user may not use the cluster",
        33 => "the server does not support the login mechanism",
        34 => "the server does not expect a login",
        35 => "the server does not support the version of the request",
        56 => "the server cannot access its storage",
        58 => "the user or the password is wrong",
        74 | 75 => "the leader of the partition has changed",
        78 => "the server does not know the offset yet",
        code => return format!("the server returned error {code}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_from_its_bytes() {
        let mut writer = Writer::default();
        writer.i32(0).count(1).i32(4).text("b.example.com").i32(9_092).i16(-1);
        writer.text("cluster").i32(4).count(1).i16(0).text("orders").i8(0).count(1);
        writer.i16(0).i32(2).i32(4).count(1).i32(4).count(1).i32(4);
        let bytes = Bytes::from(writer.0);
        let metadata = MetadataRequest::read(&mut Reader(bytes.clone())).expect("metadata");
        assert_eq!(metadata.cluster.as_deref(), Some("cluster"));
        let server = &metadata.servers[0];
        assert_eq!((server.id, server.host.as_str(), server.port), (4, "b.example.com", 9_092));
        assert_eq!((metadata.partitions[0].number, metadata.partitions[0].leader), (2, 4));
        for length in 0..bytes.len() {
            assert!(MetadataRequest::read(&mut Reader(bytes.slice(..length))).is_err(), "{length}");
        }
    }
}
