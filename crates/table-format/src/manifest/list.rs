//! Decodes manifest lists.

use iceberg::spec::{FieldSummary, ManifestContentType, ManifestFile};

use crate::avro::{AvroError, AvroFile, Record, Result, Value};

/// Decodes a manifest list of any format version.
pub(super) fn parse(content: &[u8]) -> Result<Vec<ManifestFile>> {
    let mut listed = Vec::new();
    AvroFile::open(content)?.for_each::<AvroError>(|record| {
        listed.push(manifest(record)?);
        Ok(())
    })?;
    Ok(listed)
}

fn manifest(record: &Record<'_>) -> Result<ManifestFile> {
    let path = record.text(500, "manifest_path")?;
    let path = path.ok_or_else(|| AvroError::Invalid("a manifest has no path".to_owned()))?;
    let content = record.number::<i32>(517, "content")?.unwrap_or_default();
    let content = ManifestContentType::try_from(content)
        .map_err(|error| AvroError::Invalid(error.message().to_owned()))?;
    Ok(ManifestFile {
        manifest_path: path.to_owned(),
        manifest_length: record.required(501, "manifest_length")?,
        partition_spec_id: record.required(502, "partition_spec_id")?,
        content,
        sequence_number: record.long(515, "sequence_number")?.unwrap_or_default(),
        min_sequence_number: record.long(516, "min_sequence_number")?.unwrap_or_default(),
        added_snapshot_id: record.required(503, "added_snapshot_id")?,
        added_files_count: record.number(504, "added_files_count")?,
        existing_files_count: record.number(505, "existing_files_count")?,
        deleted_files_count: record.number(506, "deleted_files_count")?,
        added_rows_count: record.number(512, "added_rows_count")?,
        existing_rows_count: record.number(513, "existing_rows_count")?,
        deleted_rows_count: record.number(514, "deleted_rows_count")?,
        partitions: partitions(record.list(507, "partitions")?)?,
        key_metadata: record.bytes(519, "key_metadata")?.map(<[u8]>::to_vec),
        first_row_id: record.number(520, "first_row_id")?,
    })
}

/// Decodes the summaries of partition fields.
fn partitions(items: Option<&[Value<'_>]>) -> Result<Option<Vec<FieldSummary>>> {
    let summary = |item: &Value<'_>| {
        let Value::Record(record) = item else {
            return Err(AvroError::Invalid("a partition summary is not a record".to_owned()));
        };
        let boolean = |id, name| match record.get(id, name) {
            Some(Value::Boolean(value)) => Some(*value),
            _ => None,
        };
        Ok(FieldSummary {
            contains_null: boolean(509, "contains_null").unwrap_or(true),
            contains_nan: boolean(518, "contains_nan"),
            lower_bound: record.bytes(510, "lower_bound")?.map(|bytes| bytes.to_vec().into()),
            upper_bound: record.bytes(511, "upper_bound")?.map(|bytes| bytes.to_vec().into()),
        })
    };
    items.map(|items| items.iter().map(summary).collect()).transpose()
}
