//! Encodes several record batches as one Arrow IPC message. The encoder writes each byte once,
//! directly to the memory that a function reads.
//!
//! Queries return small batches, which fit into processor caches. A function needs large batches,
//! because each of its operations has a fixed cost per batch. Only types with a fixed number of
//! buffers are supported.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::ipc::{
    Buffer as Place, FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder,
};
use arrow::util::bit_util::ceil;
use flatbuffers::FlatBufferBuilder;

/// Alignment of buffers in bytes. Some libraries copy buffers with a smaller alignment.
const GRAIN: usize = 64;

/// A message to write: its head as bytes, and the sources of the parts of its body.
#[derive(Debug)]
pub struct IpcMessage {
    head: Vec<u8>,
    parts: Vec<BodySource>,
    body: usize,
}

/// A part of a message's body: its position `at` in the body, and the source of its bytes.
#[derive(Debug)]
enum BodySource {
    /// Bytes that are copied unchanged.
    Bytes { at: usize, from: Buffer },
    /// `count` bits from bit `start` of `from`, which are copied to bit `bit` of the part.
    Bits { at: usize, bit: usize, from: Buffer, start: usize, count: usize },
    /// `count` bits that are set to 1.
    Ones { at: usize, bit: usize, count: usize },
    /// Bytes that are set to zero before other parts set bits in them.
    Cleared { at: usize, bytes: usize },
    /// Offsets of the texts or lists in one batch, each of `width` bytes. Adding `later` to an
    /// offset results in the offset in the whole message.
    Ends { at: usize, from: Buffer, width: usize, later: i64 },
}

/// Returns true if batches with these columns can be encoded as one message.
pub fn is_encodable(schema: &Schema) -> bool {
    schema.fields().iter().all(|field| is_plain(field.data_type()))
}

fn is_plain(kind: &DataType) -> bool {
    match kind {
        DataType::Null
        | DataType::Boolean
        | DataType::FixedSizeBinary(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::Map(item, _)
        | DataType::FixedSizeList(item, _) => is_plain(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_plain(field.data_type())),
        other => other.primitive_width().is_some(),
    }
}

/// Returns the approximate number of bytes that a batch takes in a message.
pub fn bytes_of(batch: &RecordBatch) -> Result<usize, ArrowError> {
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    sizes.sum()
}

impl IpcMessage {
    /// Combines batches of the same schema to one message. Their bytes are copied only by
    /// [`IpcMessage::write`].
    pub fn new(batches: &[RecordBatch]) -> Result<IpcMessage, ArrowError> {
        let mut plan = BodyLayout::default();
        let columns = batches.first().map_or(0, RecordBatch::num_columns);
        for column in 0..columns {
            let arrays = batches.iter().map(|batch| batch.column(column).clone());
            plan.add(&arrays.collect::<Vec<_>>())?;
        }
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let head = plan.head(rows as i64);
        Ok(IpcMessage { head, parts: plan.parts, body: plan.end })
    }

    /// Returns the size of the message in bytes.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body
    }

    /// Writes the message to memory of at least [`IpcMessage::bytes`] bytes. The padding between
    /// buffers is left unchanged.
    pub fn write(&self, to: &mut [u8]) {
        let (head, body) = to.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        for part in &self.parts {
            part.write(body);
        }
    }
}

impl BodySource {
    fn write(&self, body: &mut [u8]) {
        match self {
            BodySource::Bytes { at, from } => body[*at..*at + from.len()].copy_from_slice(from),
            BodySource::Bits { at, bit, from, start, count } => {
                let bytes = ceil(bit + count, 8);
                let to = &mut body[*at..*at + bytes];
                arrow::util::bit_mask::set_bits(to, from, *bit, *start, *count);
            }
            BodySource::Ones { at, bit, count } => {
                set(&mut body[*at..*at + ceil(bit + count, 8)], *bit, *count);
            }
            BodySource::Cleared { at, bytes } => body[*at..*at + bytes].fill(0),
            BodySource::Ends { at, from, width, later } => {
                let to = &mut body[*at..*at + from.len()];
                let pairs = to.chunks_exact_mut(*width).zip(from.chunks_exact(*width));
                for (to, from) in pairs {
                    match *width {
                        4 => to.copy_from_slice(&(read::<4>(from) + later).to_le_bytes()[..4]),
                        _ => to.copy_from_slice(&(read::<8>(from) + later).to_le_bytes()),
                    }
                }
            }
        }
    }
}

/// Reads a non-negative offset of four or eight bytes.
fn read<const WIDTH: usize>(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[..WIDTH].copy_from_slice(&bytes[..WIDTH]);
    i64::from_le_bytes(wide)
}

/// Sets a range of bits, which must all be zero before the call.
fn set(to: &mut [u8], bit: usize, count: usize) {
    let end = bit + count;
    let (first, last) = (bit.next_multiple_of(8).min(end), end / 8 * 8);
    for one in (bit..first).chain(last.max(first)..end) {
        to[one / 8] |= 1 << (one % 8);
    }
    to[first / 8..(last / 8).max(first / 8)].fill(0xff);
}

/// The layout of a message's buffers, to which columns are added.
#[derive(Default)]
struct BodyLayout {
    nodes: Vec<FieldNode>,
    places: Vec<Place>,
    parts: Vec<BodySource>,
    end: usize,
}

impl BodyLayout {
    /// Adds a buffer of this size to the layout, and returns its position in the body.
    fn add_buffer(&mut self, bytes: usize) -> usize {
        let at = self.end;
        self.places.push(Place::new(at as i64, bytes as i64));
        self.end = (at + bytes).next_multiple_of(GRAIN);
        at
    }

    /// Adds a column, given by the arrays of all batches.
    fn add(&mut self, arrays: &[ArrayRef]) -> Result<(), ArrowError> {
        let Some(kind) = arrays.first().map(|array| array.data_type().clone()) else {
            return Ok(());
        };
        let rows = arrays.iter().map(Array::len).sum::<usize>();
        let nulls = arrays.iter().map(Array::logical_null_count).sum::<usize>();
        self.nodes.push(FieldNode::new(rows as i64, nulls as i64));
        if kind == DataType::Null {
            return Ok(());
        }
        self.validity(arrays, rows, nulls);
        if let Some(width) = width(&kind) {
            self.fixed(arrays, rows, width);
            return Ok(());
        }
        match kind {
            DataType::Boolean => {
                let bits = |array: &ArrayRef| Some(bits(array.as_boolean().values()));
                self.bits(arrays, rows, bits);
            }
            DataType::Utf8 | DataType::Binary => self.texts(arrays, rows, 4)?,
            DataType::LargeUtf8 | DataType::LargeBinary => self.texts(arrays, rows, 8)?,
            DataType::List(_) => {
                let spans = self.add_offsets(arrays, rows, 4)?;
                let items = |array: &ArrayRef| array.as_list::<i32>().values().clone();
                self.add(&sliced(arrays, items, &spans))?;
            }
            DataType::LargeList(_) => {
                let spans = self.add_offsets(arrays, rows, 8)?;
                let items = |array: &ArrayRef| array.as_list::<i64>().values().clone();
                self.add(&sliced(arrays, items, &spans))?;
            }
            DataType::Map(_, _) => {
                let spans = self.add_offsets(arrays, rows, 4)?;
                let items =
                    |array: &ArrayRef| Arc::new(array.as_map().entries().clone()) as ArrayRef;
                self.add(&sliced(arrays, items, &spans))?;
            }
            DataType::FixedSizeList(_, size) => {
                let span = |array: &ArrayRef| (0, array.len() * size as usize);
                let spans: Vec<_> = arrays.iter().map(span).collect();
                let items = |array: &ArrayRef| array.as_fixed_size_list().values().clone();
                self.add(&sliced(arrays, items, &spans))?;
            }
            DataType::Struct(fields) => {
                for field in 0..fields.len() {
                    let child = |array: &ArrayRef| array.as_struct().column(field).clone();
                    self.add(&arrays.iter().map(child).collect::<Vec<_>>())?;
                }
            }
            other => {
                let message = format!("rows of type {other} cannot be combined");
                return Err(ArrowError::NotYetImplemented(message));
            }
        }
        Ok(())
    }

    fn validity(&mut self, arrays: &[ArrayRef], rows: usize, nulls: usize) {
        if nulls == 0 {
            self.add_buffer(0);
            return;
        }
        self.bits(arrays, rows, |array| Some(bits(array.nulls()?.inner())));
    }

    /// Adds a bitmap. For an array without a bitmap, all bits are set.
    fn bits(
        &mut self,
        arrays: &[ArrayRef],
        rows: usize,
        bits: impl Fn(&ArrayRef) -> Option<(Buffer, usize)>,
    ) {
        let bytes = ceil(rows, 8);
        let (at, mut bit) = (self.add_buffer(bytes), 0);
        self.parts.push(BodySource::Cleared { at, bytes });
        for array in arrays {
            let count = array.len();
            self.parts.push(match bits(array) {
                Some((from, start)) => BodySource::Bits { at, bit, from, start, count },
                None => BodySource::Ones { at, bit, count },
            });
            bit += count;
        }
    }

    fn fixed(&mut self, arrays: &[ArrayRef], rows: usize, width: usize) {
        let mut at = self.add_buffer(rows * width);
        for array in arrays {
            let (data, bytes) = (array.to_data(), array.len() * width);
            let from = data.buffers()[0].slice_with_length(data.offset() * width, bytes);
            self.parts.push(BodySource::Bytes { at, from });
            at += bytes;
        }
    }

    /// Adds the offsets of texts or lists. Returns one span per array: the start and length of the
    /// bytes or items to which the array's offsets refer.
    fn add_offsets(
        &mut self,
        arrays: &[ArrayRef],
        rows: usize,
        width: usize,
    ) -> Result<Vec<(usize, usize)>, ArrowError> {
        let (mut at, mut before) = (self.add_buffer((rows + 1) * width), 0);
        self.parts.push(BodySource::Cleared { at, bytes: width });
        at += width;
        let mut spans = Vec::new();
        for array in arrays {
            let (data, bytes) = (array.to_data(), array.len() * width);
            if bytes == 0 {
                spans.push((0, 0));
                continue;
            }
            let ends = data.buffers()[0].slice_with_length(data.offset() * width, bytes + width);
            let number = |at: usize| match width {
                4 => read::<4>(&ends[at..]),
                _ => read::<8>(&ends[at..]),
            };
            let (first, last) = (number(0), number(bytes));
            let from = ends.slice_with_length(width, bytes);
            self.parts.push(BodySource::Ends { at, from, width, later: before - first });
            spans.push((first as usize, (last - first) as usize));
            before += last - first;
            at += bytes;
        }
        if width == 4 && i32::try_from(before).is_err() {
            return Err(ArrowError::OffsetOverflowError(before as usize));
        }
        Ok(spans)
    }

    fn texts(&mut self, arrays: &[ArrayRef], rows: usize, width: usize) -> Result<(), ArrowError> {
        let spans = self.add_offsets(arrays, rows, width)?;
        let mut at = self.add_buffer(spans.iter().map(|(_, bytes)| bytes).sum());
        for (array, (start, bytes)) in arrays.iter().zip(&spans) {
            let from = array.to_data().buffers()[1].slice_with_length(*start, *bytes);
            self.parts.push(BodySource::Bytes { at, from });
            at += bytes;
        }
        Ok(())
    }

    /// Returns the head of the message: the prefix, and the metadata that describe the body.
    fn head(&self, rows: i64) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let nodes = builder.create_vector(&self.nodes);
        let places = builder.create_vector(&self.places);
        let mut batch = RecordBatchBuilder::new(&mut builder);
        batch.add_length(rows);
        batch.add_nodes(nodes);
        batch.add_buffers(places);
        let batch = batch.finish();
        let mut message = MessageBuilder::new(&mut builder);
        message.add_version(MetadataVersion::V5);
        message.add_header_type(MessageHeader::RecordBatch);
        message.add_header(batch.as_union_value());
        message.add_bodyLength(self.end as i64);
        let message = message.finish();
        builder.finish(message, None);
        let said = builder.finished_data();
        let bytes = (8 + said.len()).next_multiple_of(GRAIN);
        let mut head = vec![0xff; 4];
        head.extend(((bytes - 8) as u32).to_le_bytes());
        head.extend(said);
        head.resize(bytes, 0);
        head
    }
}

/// Returns the size in bytes of a value of a fixed-size type.
fn width(kind: &DataType) -> Option<usize> {
    match kind {
        DataType::FixedSizeBinary(bytes) => Some(*bytes as usize),
        other => other.primitive_width(),
    }
}

/// Returns the bytes of a bitmap, and the offset of its first bit.
fn bits(bits: &BooleanBuffer) -> (Buffer, usize) {
    (bits.inner().clone(), bits.offset())
}

/// Returns the items of list arrays: for each array, the items in its range.
fn sliced(
    arrays: &[ArrayRef],
    items: impl Fn(&ArrayRef) -> ArrayRef,
    spans: &[(usize, usize)],
) -> Vec<ArrayRef> {
    let spans = arrays.iter().zip(spans);
    spans.map(|(array, (start, count))| items(array).slice(*start, *count)).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Decimal128Array, FixedSizeListArray, Int32Array, Int64Array,
        LargeStringArray, ListArray, MapBuilder, NullArray, StringArray, StringBuilder,
        StructArray, TimestampMicrosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Field, Int32Type, Int64Type};
    use arrow::ipc::reader::StreamReader;
    use arrow::ipc::writer::StreamWriter;

    use super::*;

    /// Decodes a message in the same way as the function that receives it.
    fn read_back(schema: &Arc<Schema>, batches: &[RecordBatch]) -> RecordBatch {
        let gathered = IpcMessage::new(batches).unwrap();
        let mut message = vec![0xa5; gathered.bytes()];
        gathered.write(&mut message);
        let mut stream = StreamWriter::try_new(Vec::new(), schema).unwrap();
        stream.finish().unwrap();
        let mut bytes = stream.into_inner().unwrap();
        bytes.truncate(bytes.len() - 8);
        bytes.extend(message);
        let mut reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        reader.next().unwrap().unwrap()
    }

    fn check(columns: Vec<(&str, ArrayRef)>) {
        let whole = RecordBatch::try_from_iter(columns).unwrap();
        let schema = whole.schema();
        assert!(is_encodable(&schema));
        let rows = whole.num_rows();
        let cuts: [&[(usize, usize)]; 4] = [
            &[(0, rows)],
            &[(0, 3), (3, 9), (12, rows - 12)],
            &[(5, 1), (2, 0), (1, 11), (0, rows)],
            &[(7, 0)],
        ];
        for cut in cuts {
            let parts: Vec<_> = cut.iter().map(|(at, rows)| whole.slice(*at, *rows)).collect();
            let expected = concat_batches(&schema, &parts).unwrap();
            assert_eq!(read_back(&schema, &parts), expected, "{cut:?}");
        }
    }

    #[test]
    fn batches_of_every_supported_type_are_combined() {
        let rows = 40;
        let some = |n: i64| (n % 7 != 3).then_some(n);
        let numbers = || (0..rows).map(some);
        let texts: Vec<Option<String>> =
            numbers().map(|n| n.map(|n| "x".repeat(n as usize))).collect();
        let lists = || numbers().map(|n| n.map(|n| vec![some(n); (n % 4) as usize]));
        let pairs = StructArray::from(vec![
            (
                Arc::new(Field::new("a", DataType::Int64, true)),
                Arc::new(numbers().collect::<Int64Array>()) as ArrayRef,
            ),
            (
                Arc::new(Field::new("b", DataType::Utf8, true)),
                Arc::new(StringArray::from(texts.clone())) as ArrayRef,
            ),
        ]);
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for n in 0..rows {
            for _ in 0..n % 3 {
                maps.keys().append_value("k");
                maps.values().append_option(some(n).map(|n| n.to_string()));
            }
            maps.append(n % 5 != 0).unwrap();
        }
        let triples = numbers().map(|n| n.map(|n| vec![Some(n as i32), None, Some(1)]));
        let times: TimestampMicrosecondArray = numbers().collect();
        let no_null = Int32Array::from_iter_values(0..rows as i32);
        check(vec![
            ("n", Arc::new(numbers().collect::<Int64Array>())),
            ("i", Arc::new(no_null)),
            ("f", Arc::new(numbers().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>())),
            ("s", Arc::new(StringArray::from(texts.clone()))),
            ("l", Arc::new(LargeStringArray::from(texts))),
            ("d", Arc::new(numbers().map(|n| n.map(i128::from)).collect::<Decimal128Array>())),
            ("t", Arc::new(times.with_timezone("UTC"))),
            ("z", Arc::new(NullArray::new(rows as usize))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists()))),
            (
                "three",
                Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(triples, 3)),
            ),
            ("pair", Arc::new(pairs)),
            ("map", Arc::new(maps.finish())),
        ]);
    }

    #[test]
    fn dictionaries_and_views_are_not_supported() {
        let words = DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
        for kind in [words.clone(), DataType::Utf8View, DataType::new_list(words, true)] {
            assert!(!is_encodable(&Schema::new(vec![Field::new("c", kind, true)])));
        }
    }
}
