//! Reads a table from an Arrow IPC stream that a client sent. Every length is checked against the
//! available bytes before memory is allocated.

use std::panic::AssertUnwindSafe;

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use bytes::Bytes;

use crate::decode_limits::DecodeBudget;
use crate::message_validation::ExpectedTypes;
use crate::table_writer::{finish, writer};
use crate::{Result, SharedTable, TableQuota};

/// The prefix of a message, before its length. Old streams have only the length.
const MARKER: [u8; 4] = [0xff; 4];

impl SharedTable {
    /// Reads a complete stream within a quota. Compressed streams are rejected, because a
    /// decompressor allocates the declared size.
    pub fn read_stream(bytes: Bytes, table_quota: &TableQuota) -> Result<SharedTable> {
        let end = walk(&bytes)?;
        let read = || -> Result<SharedTable> {
            let mut rest = Buffer::from(bytes.slice(..end));
            let mut decoder = StreamDecoder::new();
            let (mut open, mut rows) = (None, 0);
            while !rest.is_empty() {
                let batch = decoder.decode(&mut rest)?;
                let Some(batch) = batch else { continue };
                if open.is_none() {
                    open = Some(writer(&batch.schema(), Some(table_quota))?);
                }
                if let Some(writer) = &mut open {
                    writer.write(&batch)?;
                }
                let more = |rows: u64| rows.checked_add(batch.num_rows() as u64);
                rows = more(rows).ok_or_else(|| malformed("has too many rows"))?;
            }
            decoder.finish()?;
            let open = match (open, decoder.schema()) {
                (Some(open), _) => open,
                (None, Some(schema)) => writer(&schema, Some(table_quota))?,
                (None, None) => return Err(malformed("has no schema").into()),
            };
            finish(open, rows)
        };
        // The checks prevent all known panics of Arrow, but an unknown panic must not end the
        // server.
        std::panic::catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(malformed("is malformed").into()))
    }
}

fn malformed(what: &str) -> ArrowError {
    ArrowError::IpcError(format!("the stream {what}"))
}

/// Checks all messages. Returns the end position of the last message.
fn walk(bytes: &[u8]) -> Result<usize, ArrowError> {
    let short = || malformed("ends within a message");
    let number = |at: usize| -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(u32::from_le_bytes(four))
    };
    let (mut at, mut shape) = (0, None);
    let mut budget = DecodeBudget::of(bytes.len() as u64);
    while at < bytes.len() {
        let marked = bytes[at..].starts_with(&MARKER);
        let start = at + if marked { 8 } else { 4 };
        let length = number(start - 4).ok_or_else(short)? as usize;
        if length == 0 {
            return Ok(start);
        }
        let end = start.checked_add(length).ok_or_else(short)?;
        let message = bytes.get(start..end).ok_or_else(short)?;
        let message = root_as_message(message).map_err(|_| malformed("is malformed"))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| short())?;
        at = end.checked_add(body).filter(|end| *end <= bytes.len()).ok_or_else(short)?;
        if let Some(found) = message.header_as_schema() {
            shape = Some(ExpectedTypes::of(found)?);
        }
        let schema = shape.as_ref().map(|shape| &*shape.schema);
        budget.inspect_message(&message, &bytes[end..at], schema)?;
        if let Some(shape) = &shape {
            shape.check(&message)?;
        } else {
            return Err(malformed("has no schema"));
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::writer::StreamWriter;

    use super::*;
    use crate::message_validation::tests::{assert_none, note_panics};

    fn table_quota() -> TableQuota {
        TableQuota::new(1 << 20, std::env::temp_dir(), 0)
    }

    fn sample() -> (RecordBatch, Vec<u8>) {
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["x", "", "zz"])) as ArrayRef),
            ("d", Arc::new(words) as ArrayRef),
        ]);
        let batch = batch.unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        (batch, writer.into_inner().unwrap())
    }

    #[test]
    fn a_stream_is_charged_to_the_quota() {
        let ((batch, bytes), table_quota) = (sample(), table_quota());
        let table = SharedTable::read_stream(bytes.into(), &table_quota).unwrap();
        assert_eq!(table.mapped().unwrap(), vec![batch]);
        assert!(table_quota.memory_bytes() >= table.bytes());
        drop(table);
        assert_eq!(table_quota.memory_bytes(), 0);
        assert!(SharedTable::read_stream(Bytes::new(), &table_quota).is_err());
    }

    #[test]
    fn hostile_bytes_cause_an_error_only() {
        let (_, whole) = sample();
        let panics = note_panics();
        for at in 0..whole.len() {
            for change in [0x01, 0x20, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let _ = SharedTable::read_stream(bytes.into(), &table_quota());
            }
            let _ = SharedTable::read_stream(whole[..at].to_vec().into(), &table_quota());
        }
        assert_none(&panics);
    }

    #[test]
    fn declared_sizes_are_checked() {
        let (_, whole) = sample();
        // Replace each aligned number that can be the length of a message's body by a large number.
        let mut found = 0;
        for at in (0..whole.len() - 8).step_by(8) {
            let number = i64::from_le_bytes(whole[at..at + 8].try_into().unwrap());
            if number > 0 && number < 1 << 16 {
                let mut bytes = whole.clone();
                bytes[at..at + 8].copy_from_slice(&(1_i64 << 45).to_le_bytes());
                found +=
                    usize::from(SharedTable::read_stream(bytes.into(), &table_quota()).is_err());
            }
        }
        assert!(found > 0);
    }
}
