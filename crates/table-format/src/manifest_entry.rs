//! Copies manifest entries with changes, because the `iceberg` crate can only build new entries.

use iceberg::spec::{DataFile, DataFileBuilder};

use crate::{Error, Result};

/// Returns a builder that has all values of the entry of a data file.
pub fn builder_of(file: &DataFile) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(file.first_row_id())
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(order) = file.sort_order_id() {
        builder.sort_order_id(order);
    }
    builder
}

/// Returns a copy of the entry with another first row id and sort order.
pub fn with_row_id(
    file: &DataFile,
    order: Option<i32>,
    first_row_id: Option<i64>,
) -> Result<DataFile> {
    let mut builder = builder_of(file);
    builder.first_row_id(first_row_id);
    // The builder can set a sort order but cannot remove it. In Iceberg, order 0 means unsorted.
    builder.sort_order_id(order.unwrap_or(0));
    builder.build().map_err(|error| Error::internal("merged", error))
}
