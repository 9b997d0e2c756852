//! Validates Arrow messages from another process before Arrow decodes them. Arrow's decoder panics
//! if a schema has an unknown type, or if a buffer is shorter than its rows require.
//! [`ExpectedTypes::of`] validates a schema, and [`ExpectedTypes::check`] the head of a message
//! against this schema (`batch_validation.rs`). Arrow's own code validates the buffers' contents:
//! offsets, texts, keys.

use std::collections::HashMap;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::{
    DateUnit, DictionaryBatch, Endianness, Field, IntervalUnit, Message, MetadataVersion,
    Precision, TimeUnit, Type, UnionMode,
};

use crate::batch_validation::check_batch;

/// Maximum nesting depth of types.
const DEPTH_MAX: usize = 64;

/// The types of a table: the types of its columns, and the value types of its dictionaries by id.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedTypes {
    pub(crate) schema: SchemaRef,
    dictionaries: HashMap<i64, DataType>,
}

impl ExpectedTypes {
    /// Decodes a schema. Fails if a type is not supported.
    pub(crate) fn of(schema: arrow::ipc::Schema<'_>) -> Result<ExpectedTypes, ArrowError> {
        let fields = schema.fields().ok_or_else(|| malformed("the schema has no columns"))?;
        if schema.endianness() != Endianness::Little {
            return Err(malformed("numbers are big-endian"));
        }
        let mut ids = Vec::new();
        fields.iter().try_for_each(|field| check_field(field, 0, &mut ids))?;
        let schema = fb_to_schema(schema);
        let mut kinds = Vec::new();
        schema.fields().iter().try_for_each(|field| collect(field.data_type(), &mut kinds))?;
        if ids.len() != kinds.len() {
            return Err(malformed("the numbers of dictionary ids and types differ"));
        }
        let mut dictionaries = HashMap::new();
        for (id, kind) in ids.into_iter().zip(kinds) {
            if dictionaries.insert(id, kind.clone()).is_some_and(|before| before != kind) {
                return Err(malformed("two types share a dictionary"));
            }
        }
        Ok(ExpectedTypes { schema: schema.into(), dictionaries })
    }

    /// Checks the head of a message with a record batch or a dictionary.
    pub(crate) fn check(&self, message: &Message<'_>) -> Result<(), ArrowError> {
        if let Some(batch) = message.header_as_record_batch() {
            let columns = self.schema.fields().iter().map(|field| field.data_type());
            return check_batch(&batch, message.version(), columns);
        }
        let dictionary = message.header_as_dictionary_batch();
        dictionary.map_or(Ok(()), |batch| self.check_dictionary(&batch, message.version()))
    }

    fn check_dictionary(
        &self,
        dictionary: &DictionaryBatch<'_>,
        version: MetadataVersion,
    ) -> Result<(), ArrowError> {
        let kind = self.dictionaries.get(&dictionary.id());
        let kind = kind.ok_or_else(|| malformed("a dictionary has no column"))?;
        let values = dictionary.data().ok_or_else(|| malformed("a dictionary has no values"))?;
        check_batch(&values, version, std::iter::once(kind))
    }
}

/// Adds the value types of all dictionaries in a type, in the order in which their ids occur.
fn collect(kind: &DataType, into: &mut Vec<DataType>) -> Result<(), ArrowError> {
    match kind {
        DataType::Dictionary(_, values) => {
            into.push((**values).clone());
            collect(values, into)
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => collect(entries.data_type(), into),
            _ => Err(malformed("the entries of a map do not consist of a key and a value")),
        },
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => collect(item.data_type(), into),
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|field| collect(field.data_type(), into))
        }
        DataType::Union(fields, _) => {
            fields.iter().try_for_each(|(_, field)| collect(field.data_type(), into))
        }
        DataType::RunEndEncoded(ends, values) => match ends.data_type() {
            DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                collect(values.data_type(), into)
            }
            _ => Err(malformed("the run ends are not integers")),
        },
        _ => Ok(()),
    }
}

/// Rejects a field whose type Arrow does not support. Adds the ids of the field's dictionaries.
fn check_field(field: Field<'_>, depth: usize, ids: &mut Vec<i64>) -> Result<(), ArrowError> {
    if depth > DEPTH_MAX {
        return Err(malformed("the types are nested too deeply"));
    }
    if let Some(dictionary) = field.dictionary() {
        let keys = dictionary.indexType().map(|keys| keys.bitWidth());
        if !matches!(keys, Some(8 | 16 | 32 | 64)) {
            return Err(malformed("the keys of a dictionary are not integers"));
        }
        ids.push(dictionary.id());
    }
    let children = field.children().map_or(0, |children| children.len());
    let wanted = match field.type_type() {
        Type::List
        | Type::LargeList
        | Type::ListView
        | Type::LargeListView
        | Type::FixedSizeList
        | Type::Map => Some(1),
        Type::RunEndEncoded => Some(2),
        _ => None,
    };
    if !is_known(field) || wanted.is_some_and(|wanted| wanted != children) {
        let name = field.name().unwrap_or_default();
        return Err(malformed(&format!("the type of column `{name}` does not exist")));
    }
    let all = field.children().into_iter().flatten();
    all.into_iter().try_for_each(|child| check_field(child, depth + 1, ids))
}

/// Returns true if Arrow supports the type of a field, without checking its children.
fn is_known(field: Field<'_>) -> bool {
    match field.type_type() {
        Type::Null
        | Type::Bool
        | Type::Binary
        | Type::BinaryView
        | Type::LargeBinary
        | Type::Utf8
        | Type::Utf8View
        | Type::LargeUtf8
        | Type::List
        | Type::LargeList
        | Type::ListView
        | Type::LargeListView
        | Type::Struct_
        | Type::RunEndEncoded => true,
        Type::Map => field.type_as_map().is_some(),
        Type::FixedSizeList => {
            field.type_as_fixed_size_list().is_some_and(|list| list.listSize() >= 0)
        }
        Type::FixedSizeBinary => {
            field.type_as_fixed_size_binary().is_some_and(|kind| kind.byteWidth() >= 0)
        }
        Type::Int => {
            let bits = field.type_as_int().map(|number| number.bitWidth());
            matches!(bits, Some(8 | 16 | 32 | 64))
        }
        Type::FloatingPoint => {
            let known = [Precision::HALF, Precision::SINGLE, Precision::DOUBLE];
            field.type_as_floating_point().is_some_and(|kind| known.contains(&kind.precision()))
        }
        Type::Decimal => field.type_as_decimal().is_some_and(|kind| {
            let most = match kind.bitWidth() {
                32 => 9,
                64 => 18,
                128 => 38,
                256 => 76,
                _ => 0,
            };
            (1..=most).contains(&kind.precision()) && (-most..=most).contains(&kind.scale())
        }),
        Type::Union => field.type_as_union().is_some_and(|kind| is_known_union(&field, &kind)),
        _ => is_supported_time(field),
    }
}

fn is_known_union(field: &Field<'_>, kind: &arrow::ipc::Union<'_>) -> bool {
    let children = field.children().map_or(0, |children| children.len());
    let ids: Option<Vec<i32>> = kind.typeIds().map(|ids| ids.iter().collect());
    let are_ids = |ids: Vec<i32>| {
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        ids.len() == children
            && distinct.len() == children
            && ids.iter().all(|id| (0..128).contains(id))
    };
    matches!(kind.mode(), UnionMode::Dense | UnionMode::Sparse)
        && children <= 128
        && ids.is_none_or(are_ids)
}

fn is_supported_time(field: Field<'_>) -> bool {
    let units =
        [TimeUnit::SECOND, TimeUnit::MILLISECOND, TimeUnit::MICROSECOND, TimeUnit::NANOSECOND];
    match field.type_type() {
        Type::Date => field
            .type_as_date()
            .is_some_and(|kind| matches!(kind.unit(), DateUnit::DAY | DateUnit::MILLISECOND)),
        Type::Time => field.type_as_time().is_some_and(|kind| {
            let units = if kind.bitWidth() == 32 { &units[..2] } else { &units[2..] };
            matches!(kind.bitWidth(), 32 | 64) && units.contains(&kind.unit())
        }),
        Type::Timestamp => {
            field.type_as_timestamp().is_some_and(|kind| units.contains(&kind.unit()))
        }
        Type::Duration => field.type_as_duration().is_some_and(|kind| units.contains(&kind.unit())),
        Type::Interval => field.type_as_interval().is_some_and(|kind| {
            let known =
                [IntervalUnit::YEAR_MONTH, IntervalUnit::DAY_TIME, IntervalUnit::MONTH_DAY_NANO];
            known.contains(&kind.unit())
        }),
        _ => false,
    }
}

pub(crate) fn malformed(what: &str) -> ArrowError {
    ArrowError::IpcError(format!("the table is malformed: {what}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;
    use std::sync::{Arc, Mutex};

    use arrow::array::builder::{ListBuilder, MapBuilder, StringBuilder, StringViewBuilder};
    use arrow::array::{
        Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
        FixedSizeListArray, Float64Array, Int32Array, Int64Array, IntervalYearMonthArray,
        NullArray, RunArray, StringArray, StructArray, Time32SecondArray,
        TimestampMicrosecondArray, UnionArray,
    };
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{Int8Type, Int32Type, UnionFields};
    use arrow::ipc::writer::FileWriter;
    use arrow::record_batch::RecordBatch;

    use super::*;
    use crate::{MemoryFile, SharedTable};

    /// Records the panics of this process, until [`assert_none`] is called.
    pub(crate) fn note_panics() -> Arc<Mutex<Vec<String>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let trace = std::backtrace::Backtrace::force_capture();
            noted.lock().unwrap().push(format!("{panic}\n{trace}"));
        }));
        seen
    }

    /// Stops the recording that [`note_panics`] started, and fails if it recorded a panic.
    pub(crate) fn assert_none(panics: &Mutex<Vec<String>>) {
        drop(std::panic::take_hook());
        let panics = panics.lock().unwrap();
        assert!(panics.is_empty(), "{} panics, first {}", panics.len(), panics[0]);
    }

    fn nested() -> Vec<(&'static str, ArrayRef)> {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a"), None]);
        lists.append_null();
        lists.append_value([Some("b")]);
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        maps.keys().append_value("k");
        maps.values().append_value("v");
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        maps.append(true).unwrap();
        let three = || Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as ArrayRef;
        let columns = [("x", three()), ("y", Arc::new(NullArray::new(3)) as ArrayRef)];
        let item = Arc::new(arrow::datatypes::Field::new_list_field(DataType::Int32, true));
        let six = Arc::new(Int32Array::from_iter_values(0..6));
        let kinds = [("i", DataType::Int32), ("f", DataType::Float64)];
        let fields = kinds.map(|(name, kind)| arrow::datatypes::Field::new(name, kind, true));
        let fields = UnionFields::try_new([0, 5], fields).unwrap();
        let ids = ScalarBuffer::from(vec![0_i8, 5, 0]);
        let floats = || Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0])) as ArrayRef;
        let sparse =
            UnionArray::try_new(fields.clone(), ids.clone(), None, vec![three(), floats()]);
        let offsets = ScalarBuffer::from(vec![0, 0, 1]);
        let dense = UnionArray::try_new(fields, ids, Some(offsets), vec![three(), floats()]);
        vec![
            ("list", Arc::new(lists.finish())),
            ("map", Arc::new(maps.finish())),
            ("struct", Arc::new(StructArray::try_from(columns.to_vec()).unwrap())),
            ("pairs", Arc::new(FixedSizeListArray::try_new(item, 2, six, None).unwrap())),
            ("sparse", Arc::new(sparse.unwrap())),
            ("dense", Arc::new(dense.unwrap())),
        ]
    }

    fn plain() -> Vec<(&'static str, ArrayRef)> {
        let mut views = StringViewBuilder::new();
        for text in ["short", "a text that is longer than twelve bytes", ""] {
            views.append_value(text);
        }
        let words: DictionaryArray<Int8Type> = vec!["a", "b", "a"].into_iter().collect();
        let runs: RunArray<Int32Type> = vec![Some("r"), Some("r"), None].into_iter().collect();
        let decimals = Decimal128Array::from(vec![Some(1), None, Some(3)]);
        let times = TimestampMicrosecondArray::from(vec![Some(1), None, None]);
        vec![
            ("long", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("text", Arc::new(StringArray::from(vec![Some("x"), None, Some("zz")]))),
            ("view", Arc::new(views.finish())),
            ("dictionary", Arc::new(words)),
            ("runs", Arc::new(runs)),
            ("decimal", Arc::new(decimals.with_precision_and_scale(10, 2).unwrap())),
            ("timestamp", Arc::new(times.with_timezone("UTC"))),
            ("time", Arc::new(Time32SecondArray::from(vec![1, 2, 3]))),
            ("interval", Arc::new(IntervalYearMonthArray::from(vec![1, 2, 3]))),
            ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter(["ab"; 3].iter()).unwrap())),
        ]
    }

    fn file_of(columns: Vec<(&'static str, ArrayRef)>) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    /// Opens bytes as if a function had returned them. Returns true if they are a valid table.
    fn read(bytes: &[u8]) -> bool {
        let file = MemoryFile::create("another's").unwrap();
        (&file).write_all(bytes).unwrap();
        let Ok(table) = SharedTable::open(file.into()) else { return false };
        for batch in table.mapped().unwrap_or_default() {
            for column in batch.columns() {
                let _ = (column.logical_null_count(), column.get_array_memory_size());
            }
        }
        true
    }

    #[test]
    fn changed_files_cause_an_error_without_a_panic() {
        let files: Vec<Vec<u8>> =
            nested().into_iter().chain(plain()).map(|column| file_of(vec![column])).collect();
        let (mut tried, mut tables, mut random) = (0, 0, 1_u64);
        let panics = note_panics();
        for whole in &files {
            assert!(read(whole), "an unchanged file is a table");
            let mut bytes = whole.clone();
            for at in 0..whole.len() {
                for change in [0x01, 0x10, 0x80, 0xff] {
                    bytes[at] ^= change;
                    tables += usize::from(read(&bytes));
                    bytes[at] = whole[at];
                    tried += 1;
                }
            }
            for _ in 0..400 {
                for _ in 0..3 {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    let at = (random >> 33) as usize % bytes.len();
                    bytes[at] = (random >> 24) as u8;
                }
                tables += usize::from(read(&bytes));
                bytes.clone_from(whole);
                tried += 1;
            }
        }
        assert_none(&panics);
        assert!(tried > 10_000 && tables > 1_000, "{tables} of {tried}");
    }
}
