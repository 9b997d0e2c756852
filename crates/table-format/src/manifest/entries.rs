//! Decodes manifests.

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, ManifestEntry, ManifestStatus, Schema, SchemaRef,
    StructType,
};

use super::bounds::{BoundKind, decode_bounds};
use super::partition::PartitionFields;
use crate::avro::{AvroError, AvroField, AvroFile, Kind, Record, Result, Value};
use crate::foreign_types;

/// The field id and name of the data file record.
const DATA_FILE: (i32, &str) = (2, "data_file");

/// The field id and name of the partition record.
const PARTITION: (i32, &str) = (102, "partition");

/// A decoded manifest. Its entries lack the values that they inherit from the manifest list.
#[derive(Debug)]
pub(super) struct ParsedManifest {
    /// Entries of existing and added files, without the entries of deleted files.
    pub(super) live: Vec<ManifestEntry>,
    pub(super) schema: SchemaRef,
    /// The types of the partition values.
    pub(super) partition_type: StructType,
}

/// Decodes a manifest.
pub(super) fn parse(content: &[u8]) -> Result<ParsedManifest> {
    let file = AvroFile::open(content)?;
    let schema = schema_of(&file)?;
    let header = |key: &str| file.metadata(key).map(String::from_utf8_lossy);
    let first_version = header("format-version").is_none_or(|version| version == "1");
    let spec_id = header("partition-spec-id").and_then(|id| id.parse().ok()).unwrap_or_default();
    let spec = file.metadata("partition-spec").unwrap_or(b"[]");
    let partitions = PartitionFields::new(spec, &schema, partition_fields(&file)?)?;
    let decoder = EntryDecoder { schema: &schema, partitions: &partitions, spec_id, first_version };
    let mut live = Vec::new();
    file.for_each::<AvroError>(|record| {
        live.extend(decoder.entry(record)?);
        Ok(())
    })?;
    let partition_type = partitions.types;
    Ok(ParsedManifest { live, schema, partition_type })
}

fn schema_of(file: &AvroFile<'_>) -> Result<SchemaRef> {
    let Some(written) = file.metadata("schema") else {
        return Err(AvroError::Invalid("the header has no table schema".to_owned()));
    };
    let broken = |error: &dyn std::fmt::Display| {
        AvroError::Invalid(format!("the table schema in the header cannot be read: {error}"))
    };
    let read: Schema = if foreign_types::may_contain_foreign_type(written) {
        let mut value = serde_json::from_slice(written).map_err(|error| broken(&error))?;
        foreign_types::hide(&mut value).map_err(|reason| broken(&reason))?;
        serde_json::from_value(value).map_err(|error| broken(&error))?
    } else {
        serde_json::from_slice(written).map_err(|error| broken(&error))?
    };
    Ok(read.into())
}

/// Returns the fields of the partition record.
fn partition_fields<'a>(file: &'a AvroFile<'_>) -> Result<&'a [AvroField]> {
    let entry = file.fields()?;
    let within = find(entry, DATA_FILE.0, DATA_FILE.1)
        .and_then(|fields| find(fields, PARTITION.0, PARTITION.1));
    Ok(within.unwrap_or_default())
}

fn find<'a>(fields: &'a [AvroField], id: i32, name: &str) -> Option<&'a [AvroField]> {
    let matches = |field: &&AvroField| field.id.map_or(field.name == name, |known| known == id);
    match &fields.iter().find(matches)?.schema.not_null().kind {
        Kind::Record(fields) => Some(fields),
        _ => None,
    }
}

/// The context that is needed to decode the entries of a manifest.
struct EntryDecoder<'a> {
    schema: &'a Schema,
    partitions: &'a PartitionFields,
    spec_id: i32,
    first_version: bool,
}

impl EntryDecoder<'_> {
    /// Decodes an entry; `None` for a deleted file.
    fn entry(&self, record: &Record<'_>) -> Result<Option<ManifestEntry>> {
        let status = record.required::<i32>(0, "status")?;
        let status = ManifestStatus::try_from(status).map_err(rejected)?;
        if status == ManifestStatus::Deleted {
            return Ok(None);
        }
        let (id, name) = DATA_FILE;
        let Some(Value::Record(file)) = record.get(id, name) else {
            return Err(AvroError::Invalid("an entry has no data file".to_owned()));
        };
        let numbers =
            |id, name| if self.first_version { Ok(Some(0)) } else { record.long(id, name) };
        Ok(Some(ManifestEntry {
            status,
            snapshot_id: record.long(1, "snapshot_id")?,
            sequence_number: numbers(3, "sequence_number")?,
            file_sequence_number: numbers(4, "file_sequence_number")?,
            data_file: self.data_file(file)?,
        }))
    }

    fn data_file(&self, file: &Record<'_>) -> Result<DataFile> {
        let missing = |name: &str| AvroError::Invalid(format!("a file has no `{name}`"));
        let content = file.number::<i32>(134, "content")?.unwrap_or_default();
        let content = DataContentType::try_from(content).map_err(rejected)?;
        let path = file.text(100, "file_path")?.ok_or_else(|| missing("file_path"))?;
        let format = file.text(101, "file_format")?.ok_or_else(|| missing("file_format"))?;
        let (id, name) = PARTITION;
        let partition = match file.get(id, name) {
            Some(Value::Record(record)) => Some(record),
            _ => None,
        };
        let mut builder = DataFileBuilder::default();
        builder
            .content(content)
            .file_path(path.to_owned())
            .file_format(format.parse().map_err(rejected)?)
            .partition(self.partitions.decode(partition)?)
            .partition_spec_id(self.spec_id)
            .record_count(file.required(103, "record_count")?)
            .file_size_in_bytes(file.required(104, "file_size_in_bytes")?)
            .key_metadata(file.bytes(131, "key_metadata")?.map(<[u8]>::to_vec))
            .split_offsets(numbers("split_offsets", file.list(132, "split_offsets")?)?)
            .equality_ids(numbers("equality_ids", file.list(135, "equality_ids")?)?)
            .first_row_id(file.long(142, "first_row_id")?)
            .referenced_data_file(file.text(143, "referenced_data_file")?.map(str::to_owned))
            .content_offset(file.long(144, "content_offset")?)
            .content_size_in_bytes(file.long(145, "content_size_in_bytes")?);
        if let Some(order) = file.number(140, "sort_order_id")? {
            builder.sort_order_id(order);
        }
        self.metrics(file, &mut builder)?;
        builder.build().map_err(|error| AvroError::Invalid(error.to_string()))
    }

    /// Decodes the column metrics of a file.
    fn metrics(&self, file: &Record<'_>, builder: &mut DataFileBuilder) -> Result<()> {
        let counts = |id, name| counts(file.list(id, name)?.unwrap_or_default());
        let lower = file.list(125, "lower_bounds")?.unwrap_or_default();
        let upper = file.list(128, "upper_bounds")?.unwrap_or_default();
        builder
            .column_sizes(counts(108, "column_sizes")?.into_iter().collect())
            .value_counts(counts(109, "value_counts")?.into_iter().collect())
            .null_value_counts(counts(110, "null_value_counts")?.into_iter().collect())
            .nan_value_counts(counts(137, "nan_value_counts")?.into_iter().collect())
            .lower_bounds(
                decode_bounds(lower, self.schema, BoundKind::Lower)?.into_iter().collect(),
            )
            .upper_bounds(
                decode_bounds(upper, self.schema, BoundKind::Upper)?.into_iter().collect(),
            );
        Ok(())
    }
}

fn rejected(error: iceberg::Error) -> AvroError {
    AvroError::Invalid(error.message().to_owned())
}

/// Returns the pairs of a map from field ids, which Avro stores as a list of records.
pub(super) fn pairs<'v, 'a>(entries: &'v [Value<'a>]) -> Result<Vec<(i32, &'v Value<'a>)>> {
    let pair = |entry: &'v Value<'a>| {
        let Value::Record(record) = entry else {
            return Err(AvroError::Invalid("a map entry is not a pair".to_owned()));
        };
        // Each map has its own field ids for keys and values, so both are found by their order.
        match record.values() {
            [Value::Long(id), value, ..] => match i32::try_from(*id) {
                Ok(id) => Ok((id, value)),
                Err(_) => Err(AvroError::Invalid(format!("{id} is not a field id"))),
            },
            _ => Err(AvroError::Invalid("a map entry is not a pair".to_owned())),
        }
    };
    entries.iter().map(pair).collect()
}

/// Decodes counts by field id; negative counts are ignored.
fn counts(entries: &[Value<'_>]) -> Result<Vec<(i32, u64)>> {
    let count = |(id, value): (i32, &Value<'_>)| match value {
        Value::Long(count) => u64::try_from(*count).ok().map(|count| (id, count)),
        _ => None,
    };
    Ok(pairs(entries)?.into_iter().filter_map(count).collect())
}

/// Decodes the list of integers in the field `name`.
fn numbers<T: TryFrom<i64>>(name: &str, items: Option<&[Value<'_>]>) -> Result<Option<Vec<T>>> {
    let number = |item: &Value<'_>| match item {
        Value::Long(number) => T::try_from(*number).map_err(|_| {
            let message = format!("`{name}` contains the number {number}, which is out of range");
            AvroError::Invalid(message)
        }),
        _ => Err(AvroError::Invalid(format!("`{name}` contains an item that is not a number"))),
    };
    items.map(|items| items.iter().map(number).collect()).transpose()
}
