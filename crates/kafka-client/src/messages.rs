//! Requests to servers of Kafka, and their responses. Does no I/O.
//!
//! Each request has one version, which Kafka 1.0 to 4.x and compatible servers support.

use bytes::Bytes;

use crate::wire::{MalformedMessage, Reader, Writer};

/// The isolation level `read_committed`.
const READ_COMMITTED: i8 = 1;
/// The replica id in requests of consumers, which are not replicas.
const CONSUMER: i32 = -1;

/// Maximum number of servers in a cluster, and of partitions in a topic.
const SERVERS_MAX: usize = 1_000;
const PARTITIONS_MAX: usize = 10_000;
/// Maximum length of the id of a cluster, in bytes.
const CLUSTER_BYTES_MAX: usize = 255;

/// The timestamp that selects the first offset of a partition.
pub const EARLIEST: i64 = -2;
/// The timestamp that selects the offset after the last record.
pub const LATEST: i64 = -1;

/// A request to a server, with the type of its response.
pub trait Request {
    /// The API key, which identifies the operation in the protocol.
    const KEY: i16;
    /// The version of the request.
    const VERSION: i16;
    /// Maximum size of the response, in bytes.
    const RESPONSE_BYTES_MAX: usize = 1 << 20;
    /// The response.
    type Response;

    /// Writes the body of the request.
    fn write(&self, writer: &mut Writer);

    /// Reads the body of the response.
    fn read(reader: &mut Reader) -> Result<Self::Response, MalformedMessage>;
}

/// Returns the bytes of a request, without the length prefix. `number` identifies its response.
pub fn encode<R: Request>(request: &R, number: i32, client: &str) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.i16(R::KEY).i16(R::VERSION).i32(number).text(client);
    request.write(&mut writer);
    writer.0
}

/// Reads the response to the request with this number.
pub fn decode<R: Request>(response: Bytes, number: i32) -> Result<R::Response, MalformedMessage> {
    let mut reader = Reader(response);
    if reader.i32()? != number {
        return Err(MalformedMessage("it has the correlation id of another request"));
    }
    R::read(&mut reader)
}

/// Requests the servers of the cluster and the partitions of a topic.
#[derive(Debug)]
pub struct MetadataRequest<'a> {
    /// The topic. The request does not create the topic.
    pub topic: &'a str,
}

/// The response to a [`MetadataRequest`].
#[derive(Debug)]
pub struct MetadataResponse {
    /// The servers.
    pub servers: Vec<BrokerMetadata>,
    /// The id of the cluster.
    pub cluster: Option<String>,
    /// The error code of the topic; 0 if there is no error.
    pub error: i16,
    /// The partitions of the topic.
    pub partitions: Vec<PartitionMetadata>,
}

/// A server of the cluster.
#[derive(Debug)]
pub struct BrokerMetadata {
    /// Number of the server.
    pub id: i32,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: i32,
}

/// A partition of the topic.
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    /// Number of the partition.
    pub number: i32,
    /// Number of the server that is the leader of the partition; -1 if there is no leader.
    pub leader: i32,
}

impl Request for MetadataRequest<'_> {
    const KEY: i16 = 3;
    const VERSION: i16 = 4;
    const RESPONSE_BYTES_MAX: usize = 16 << 20;
    type Response = MetadataResponse;

    fn write(&self, writer: &mut Writer) {
        // The last value prevents the creation of a missing topic.
        writer.count(1).text(self.topic).i8(0);
    }

    fn read(reader: &mut Reader) -> Result<MetadataResponse, MalformedMessage> {
        let _throttle = reader.i32()?;
        let servers = reader.list(|reader| {
            let server =
                BrokerMetadata { id: reader.i32()?, host: reader.text()?, port: reader.i32()? };
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
        let (error, partitions) = topics.pop().ok_or(MalformedMessage("the topic is missing"))?;
        if cluster.as_ref().is_some_and(|id| id.len() > CLUSTER_BYTES_MAX) {
            return Err(MalformedMessage("the id of the cluster is too long"));
        }
        if servers.len() > SERVERS_MAX || partitions.len() > PARTITIONS_MAX {
            return Err(MalformedMessage("it has too many servers or partitions"));
        }
        Ok(MetadataResponse { servers, cluster, error, partitions })
    }
}

/// Requests an offset of each of these partitions.
#[derive(Debug)]
pub struct ListOffsetsRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// Milliseconds since 1970, [`EARLIEST`] or [`LATEST`].
    pub timestamp: i64,
}

/// The offset of a partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: i32,
    /// The error code; 0 if there is no error.
    pub error: i16,
    /// The offset; -1 if the partition has no record at or after the requested timestamp.
    pub offset: i64,
}

impl Request for ListOffsetsRequest<'_> {
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

    fn read(reader: &mut Reader) -> Result<Vec<PartitionOffset>, MalformedMessage> {
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

/// Requests records of partitions, each from its own offset.
#[derive(Debug)]
pub struct FetchRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partitions with the offsets of their next records.
    pub partitions: Vec<(i32, i64)>,
    /// Maximum time for which the server waits for records, in milliseconds.
    pub wait_ms: i32,
    /// Maximum size of the response, in bytes. The first batch may be larger.
    pub bytes_max: i32,
    /// Maximum size of the records of one partition in the response, in bytes.
    pub partition_bytes_max: i32,
}

/// The response to a [`FetchRequest`].
#[derive(Debug)]
pub struct FetchResponse {
    /// Time for which the client should send no request, in milliseconds.
    pub throttle_ms: i32,
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// Records of a partition.
#[derive(Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The error code; 0 if there is no error.
    pub error: i16,
    /// First offset and producer id of each aborted transaction.
    pub aborted: Vec<(i64, i64)>,
    /// Batches of records, the last of which may be cut off.
    pub batches: Bytes,
}

impl Request for FetchRequest<'_> {
    const KEY: i16 = 1;
    const VERSION: i16 = 4;
    const RESPONSE_BYTES_MAX: usize = 128 << 20;
    type Response = FetchResponse;

    fn write(&self, writer: &mut Writer) {
        writer.i32(CONSUMER).i32(self.wait_ms).i32(1).i32(self.bytes_max).i8(READ_COMMITTED);
        writer.count(1).text(self.topic).count(self.partitions.len());
        for (partition, offset) in &self.partitions {
            writer.i32(*partition).i64(*offset).i32(self.partition_bytes_max);
        }
    }

    fn read(reader: &mut Reader) -> Result<FetchResponse, MalformedMessage> {
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
        Ok(FetchResponse { throttle_ms, partitions: topics.into_iter().flatten().collect() })
    }
}

/// Begins a login.
#[derive(Debug)]
pub struct SaslHandshakeRequest<'a> {
    /// The SASL mechanism.
    pub mechanism: &'a str,
}

/// The mechanisms of a server.
#[derive(Debug)]
pub struct SaslHandshakeResponse {
    /// The error code; 0 if there is no error.
    pub error: i16,
    /// The mechanisms that the server supports.
    pub mechanisms: Vec<String>,
}

impl Request for SaslHandshakeRequest<'_> {
    const KEY: i16 = 17;
    const VERSION: i16 = 1;
    type Response = SaslHandshakeResponse;

    fn write(&self, writer: &mut Writer) {
        writer.text(self.mechanism);
    }

    fn read(reader: &mut Reader) -> Result<SaslHandshakeResponse, MalformedMessage> {
        Ok(SaslHandshakeResponse { error: reader.i16()?, mechanisms: reader.list(Reader::text)? })
    }
}

/// Continues a login.
#[derive(Debug)]
pub struct SaslAuthenticateRequest {
    /// The message of the mechanism.
    pub data: Vec<u8>,
}

/// The response of the server.
#[derive(Debug)]
pub struct SaslAuthenticateResponse {
    /// The error code; 0 if there is no error.
    pub error: i16,
    /// The description of the error.
    pub message: Option<String>,
    /// The message of the mechanism.
    pub data: Bytes,
}

impl Request for SaslAuthenticateRequest {
    const KEY: i16 = 36;
    const VERSION: i16 = 0;
    type Response = SaslAuthenticateResponse;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.data);
    }

    fn read(reader: &mut Reader) -> Result<SaslAuthenticateResponse, MalformedMessage> {
        let (error, message) = (reader.i16()?, reader.nullable_text()?);
        Ok(SaslAuthenticateResponse { error, message, data: reader.bytes()?.unwrap_or_default() })
    }
}

/// The error code of an offset that the partition does not have.
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
/// The error code of a topic or partition that does not exist.
pub const UNKNOWN_TOPIC: i16 = 3;

/// Returns the description of an error code.
pub fn error_text(code: i16) -> String {
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
        76 => {
            "topics with `compression.type=zstd` are not supported; use `compression.type=producer`"
        }
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

    #[test]
    fn the_number_of_partitions_is_limited() {
        let read = |count| {
            let mut writer = Writer::default();
            writer.i32(0).count(0).i16(-1).i32(4).count(1).i16(0).text("orders").i8(0).count(count);
            for _ in 0..count {
                writer.i16(0).i32(0).i32(4).count(0).count(0);
            }
            MetadataRequest::read(&mut Reader(Bytes::from(writer.0)))
        };
        assert_eq!(read(PARTITIONS_MAX).expect("metadata").partitions.len(), PARTITIONS_MAX);
        assert!(read(PARTITIONS_MAX + 1).is_err());
    }
}
