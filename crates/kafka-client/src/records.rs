//! Batches of records in the format of Kafka 0.11 and later. Does no I/O.
//!
//! Records of aborted transactions and control records are skipped, as for a consumer with the
//! isolation level `read_committed`.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};

use crate::decompression::{BATCH_BYTES_MAX, Codec};
use crate::wire::{MalformedMessage, Reader, text};

/// Bytes from the start of a batch to the end of its length field.
const PREFIX_BYTES: usize = 12;
/// Position of the format's version in a batch, and of the first byte that the checksum covers.
const MAGIC_AT: usize = 16;
const CHECKED_FROM: usize = 21;
/// The version of the format.
const MAGIC: i8 = 2;
/// Type of the control record that aborts a transaction.
const ABORT: i16 = 0;

/// Bits in the attributes of a batch.
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// Approximate memory of a record, and of a header, in bytes, without keys, values and names.
const RECORD_BYTES: usize = 128;
const HEADER_BYTES: usize = 64;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The records do not follow the protocol.
    #[error(transparent)]
    MalformedMessage(#[from] MalformedMessage),
    /// The batch cannot be decompressed.
    #[error("the batch at offset {offset} cannot be decompressed: {cause}")]
    Decompress {
        /// Offset of the batch.
        offset: i64,
        /// The cause.
        cause: std::io::Error,
    },
    /// The checksum of the batch at this offset is wrong.
    #[error("the checksum of the batch at offset {0} is wrong")]
    Checksum(i64),
    /// The batch at this offset has a format that is not supported.
    #[error("the batch at offset {0} has the format of Kafka before 0.11, which is not supported")]
    OldFormat(i64),
    /// The batch at this offset has an unknown compression.
    #[error("the batch at offset {0} has an unknown compression")]
    UnknownCodec(i64),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// True if the server set the timestamp when it received the record.
    pub is_log_append_time: bool,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Record {
    /// Returns the approximate number of bytes.
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + length(value));
        length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }
}

/// The decoded records of one batch.
#[derive(Debug, Default)]
pub struct Records {
    /// The records, which share the memory of the batch.
    pub records: Vec<Record>,
    /// Approximate memory of all records in bytes, which is freed when the last record is dropped.
    pub memory_bytes: usize,
}

/// The memory that the structures of records and headers may still take while a batch is decoded.
struct DecodeBudget {
    bytes: usize,
}

impl DecodeBudget {
    fn take(&mut self, bytes: usize) -> Result<(), MalformedMessage> {
        let rest = self.bytes.checked_sub(bytes);
        self.bytes = rest.ok_or(MalformedMessage("a batch has too many records or headers"))?;
        Ok(())
    }
}

/// A batch whose records are not decoded yet.
#[derive(Debug)]
pub struct RecordBatch {
    base_offset: i64,
    /// Offset of the last record, which may have been removed by compaction.
    pub last_offset: i64,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: i64,
    count: i32,
    /// The records, possibly compressed.
    body: Bytes,
}

impl RecordBatch {
    /// Removes the first batch from fetched bytes; `None` if no complete batch is left. The last
    /// batch of a response may be incomplete, because servers limit its size.
    pub fn next(bytes: &mut Bytes) -> Result<Option<Self>, RecordError> {
        if bytes.len() <= MAGIC_AT {
            return Ok(None);
        }
        let mut prefix = Reader(bytes.slice(..PREFIX_BYTES));
        let (base_offset, length) = (prefix.i64()?, prefix.i32()?);
        if i8::from_be_bytes([bytes[MAGIC_AT]]) != MAGIC {
            return Err(RecordError::OldFormat(base_offset));
        }
        let length =
            usize::try_from(length).map_err(|_| MalformedMessage("a length is negative"))?;
        let end = PREFIX_BYTES.saturating_add(length);
        if end > bytes.len() {
            return Ok(None);
        }
        let batch = bytes.split_to(end);
        if end < CHECKED_FROM {
            return Err(MalformedMessage("a batch is too short").into());
        }
        let checksum = (&batch[CHECKED_FROM - 4..CHECKED_FROM]).get_u32();
        let body = batch.slice(CHECKED_FROM..);
        if checksum != crc32c::crc32c(&body) {
            return Err(RecordError::Checksum(base_offset));
        }
        let mut reader = Reader(body);
        let (attributes, last_delta) = (reader.i16()?, reader.i32()?);
        let (base_timestamp, max_timestamp) = (reader.i64()?, reader.i64()?);
        let (producer, _epoch, _sequence) = (reader.i64()?, reader.i16()?, reader.i32()?);
        let count = reader.i32()?;
        let last_offset = base_offset.saturating_add(last_delta.max(0).into());
        let body = reader.0;
        Ok(Some(RecordBatch {
            base_offset,
            last_offset,
            attributes,
            base_timestamp,
            max_timestamp,
            producer,
            count,
            body,
        }))
    }

    fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Decodes the records.
    pub fn records(self) -> Result<Records, RecordError> {
        self.decode(BATCH_BYTES_MAX)
    }

    /// Decodes the records. The structures of records and headers take at most `structures_max`
    /// bytes.
    fn decode(self, structures_max: usize) -> Result<Records, RecordError> {
        let offset = self.base_offset;
        let codec =
            Codec::of_attributes(self.attributes).ok_or(RecordError::UnknownCodec(offset))?;
        let body = codec
            .decompress(self.body.clone(), BATCH_BYTES_MAX)
            .map_err(|cause| RecordError::Decompress { offset, cause })?;
        let body_bytes = body.len();
        let mut reader = Reader(body);
        let mut budget = DecodeBudget { bytes: structures_max };
        let mut records = Vec::new();
        for _ in 0..self.count {
            budget.take(RECORD_BYTES)?;
            records.push(self.record(&mut reader, &mut budget)?);
        }
        if !reader.0.is_empty() {
            return Err(MalformedMessage("a batch has bytes after its records").into());
        }
        let memory_bytes = body_bytes.saturating_add(structures_max - budget.bytes);
        Ok(Records { records, memory_bytes })
    }

    fn record(
        &self,
        reader: &mut Reader,
        budget: &mut DecodeBudget,
    ) -> Result<Record, MalformedMessage> {
        let length = reader.varint()?;
        let length =
            usize::try_from(length).map_err(|_| MalformedMessage("a length is negative"))?;
        let mut reader = Reader(reader.take(length)?);
        let (_attributes, timestamp_delta) = (reader.i8()?, reader.varint()?);
        let offset_delta = reader.varint()?;
        let key_length = reader.varint()?;
        let key = reader.take_nullable(key_length)?;
        let value_length = reader.varint()?;
        let value = reader.take_nullable(value_length)?;
        let mut headers = Vec::new();
        for _ in 0..reader.varint()? {
            let name_length = reader.varint()?;
            let name = reader.take_nullable(name_length)?.unwrap_or_default();
            budget.take(HEADER_BYTES + name.len())?;
            let value_length = reader.varint()?;
            headers.push((text(name)?, reader.take_nullable(value_length)?));
        }
        let is_log_append_time = self.attributes & LOG_APPEND_TIME != 0;
        Ok(Record {
            offset: self.base_offset.saturating_add(offset_delta),
            timestamp: if is_log_append_time {
                self.max_timestamp
            } else {
                self.base_timestamp.saturating_add(timestamp_delta)
            },
            is_log_append_time,
            key,
            value,
            headers,
        })
    }
}

/// The aborted transactions of a fetched range of offsets.
#[derive(Debug, Default)]
pub struct AbortedTransactions {
    /// First offset and producer id of each aborted transaction that begins in a later batch, in
    /// order.
    upcoming: BTreeSet<(i64, i64)>,
    /// Ids of the producers whose current transaction is aborted.
    producers: BTreeSet<i64>,
}

impl AbortedTransactions {
    /// Creates the set from the first offset and the producer id of each aborted transaction.
    pub fn new(transactions: &[(i64, i64)]) -> Self {
        let upcoming = transactions.iter().copied().collect();
        AbortedTransactions { upcoming, producers: BTreeSet::new() }
    }

    /// Returns the records of the next batch, or no records if the transaction of the batch was
    /// aborted.
    pub fn committed(&mut self, batch: RecordBatch) -> Result<Records, RecordError> {
        while let Some(&(first, producer)) = self.upcoming.first()
            && first <= batch.last_offset
        {
            self.upcoming.pop_first();
            self.producers.insert(producer);
        }
        if batch.is_control() {
            let producer = batch.producer;
            for record in batch.records()?.records {
                let mut key = Reader(record.key.unwrap_or_default());
                let (_version, kind) = (key.i16()?, key.i16()?);
                if kind == ABORT {
                    self.producers.remove(&producer);
                }
            }
            return Ok(Records::default());
        }
        if batch.attributes & TRANSACTIONAL != 0 && self.producers.contains(&batch.producer) {
            return Ok(Records::default());
        }
        batch.records()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    /// Encodes a batch with one record.
    fn batch(base: i64, attributes: i16, producer: i64, record: &[u8]) -> Vec<u8> {
        let mut checked = Writer::default();
        checked.i16(attributes).i32(0).i64(1_000).i64(2_000).i64(producer).i16(0).i32(0).i32(1);
        checked.0.extend(record);
        let mut batch = Writer::default();
        let length = i32::try_from(checked.0.len() + 9).expect("a length");
        let checksum = crc32c::crc32c(&checked.0).cast_signed();
        batch.i64(base).i32(length).i32(0).i8(MAGIC).i32(checksum);
        batch.0.extend(checked.0);
        batch.0
    }

    /// Encodes a record with the key, the value and headers. All lengths are below 64.
    fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
        let part = |bytes: Option<&[u8]>| match bytes {
            None => vec![1],
            Some(bytes) => [&[u8::try_from(bytes.len() * 2).expect("a length")], bytes].concat(),
        };
        let headers = [&[4, 2, b'h', 1][..], &[2, b'h', 4, 0xff, b'x']].concat();
        let body = [vec![0, 14, 0], part(key), part(value), headers].concat();
        [vec![u8::try_from(body.len() * 2).expect("a length")], body].concat()
    }

    fn read(mut bytes: Bytes, aborted: &[(i64, i64)]) -> Result<Vec<Record>, RecordError> {
        let mut transactions = AbortedTransactions::new(aborted);
        let mut records = Vec::new();
        while let Some(batch) = RecordBatch::next(&mut bytes)? {
            records.extend(transactions.committed(batch)?.records);
        }
        Ok(records)
    }

    #[test]
    fn records_have_keys_values_headers_and_timestamps() {
        let mut bytes = batch(7, 0, -1, &record(Some(b"k"), None));
        bytes.extend(batch(8, LOG_APPEND_TIME, -1, &record(None, Some(b"v"))));
        // The server cuts the last batch off.
        bytes.extend(&batch(9, 0, -1, &record(None, None))[..40]);
        let records = read(bytes.into(), &[]).expect("records");
        assert_eq!(records.len(), 2);
        let headers =
            vec![("h".to_owned(), None), ("h".to_owned(), Some(Bytes::from_static(b"\xffx")))];
        let first = Record {
            offset: 7,
            timestamp: 1_007,
            is_log_append_time: false,
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers,
        };
        assert_eq!(records[0], first);
        assert_eq!((records[1].timestamp, records[1].is_log_append_time), (2_000, true));
    }

    #[test]
    fn the_memory_of_records_and_headers_is_limited() {
        let record = record(None, Some(b"v"));
        let decode = |structures_max| {
            let mut bytes = Bytes::from(batch(0, 0, -1, &record));
            let batch = RecordBatch::next(&mut bytes).expect("a batch").expect("a batch");
            batch.decode(structures_max)
        };
        // The record has two headers with names of one byte.
        let structures = RECORD_BYTES + 2 * (HEADER_BYTES + 1);
        let decoded = decode(structures).expect("records");
        assert_eq!(decoded.memory_bytes, record.len() + structures);
        let error = decode(structures - 1).expect_err("too many headers");
        assert!(error.to_string().contains("too many records or headers"), "{error}");
    }

    #[test]
    fn records_of_aborted_transactions_are_skipped() {
        let value = |value: &[u8]| record(None, Some(value));
        let control = |kind: u8| record(Some(&[0, 0, 0, kind]), Some(&[0; 6]));
        let marker = TRANSACTIONAL | CONTROL;
        let batches = [
            batch(0, TRANSACTIONAL, 5, &value(b"aborted")),
            batch(1, TRANSACTIONAL, 6, &value(b"committed")),
            batch(2, 0, -1, &value(b"plain")),
            batch(3, marker, 5, &control(0)),
            batch(4, marker, 6, &control(1)),
            batch(5, TRANSACTIONAL, 5, &value(b"later")),
            batch(6, marker, 5, &control(1)),
        ];
        let records = read(batches.concat().into(), &[(0, 5)]).expect("records");
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [1, 2, 5]);
    }

    #[test]
    fn unreadable_batches_are_errors() {
        let whole = batch(3, 0, -1, &record(None, Some(b"v")));
        let mut damaged = whole.clone();
        *damaged.last_mut().expect("a byte") ^= 1;
        let mut old = whole.clone();
        old[MAGIC_AT] = 1;
        for (bytes, expected) in [
            (damaged, "checksum of the batch at offset 3"),
            (old, "before 0.11"),
            (batch(3, 7, -1, b"x"), "unknown compression"),
            (batch(3, 4, -1, b"x"), "cannot be decompressed"),
            (batch(3, 0, -1, &[0xfe, 0xff, 0xff, 0x7f]), "ends too early"),
            (batch(3, 0, -1, &[record(None, None), vec![0]].concat()), "bytes after its records"),
        ] {
            let error = read(bytes.into(), &[]).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
        // Decoding any incomplete part of the batch causes no panic.
        for length in 0..whole.len() {
            let _ = read(Bytes::copy_from_slice(&whole[..length]), &[]);
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[length] ^= 1 << bit;
                let _ = read(changed.into(), &[]);
            }
        }
    }
}
