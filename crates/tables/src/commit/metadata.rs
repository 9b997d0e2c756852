//! Changes of a table's metadata that affect no rows.

use iceberg::spec::{TableMetadata, TableMetadataBuilder};

use super::create_and_evolve::{self, rejected};
use super::durable_write::{PendingFiles, store};
use crate::{Result, Table, Tables, metadata_log, time_transforms};

/// Returns a builder of the table's next metadata.
pub fn metadata_builder(table: &Table) -> Result<TableMetadataBuilder> {
    let metadata = time_transforms::hidden_metadata(table.metadata())?.into_owned();
    Ok(metadata.into_builder(Some(table.metadata_location().to_owned())))
}

/// Returns a table's metadata after `edit` changed it, without its snapshot and metadata logs.
pub fn edited_metadata(
    table: &Table,
    edit: impl FnOnce(TableMetadataBuilder) -> Result<TableMetadataBuilder>,
) -> Result<TableMetadata> {
    let (bare, _) = metadata_log::detach_logs(table.metadata())?;
    build(edit(bare.into_builder(None))?)
}

/// Commits a metadata change that affects no rows.
pub async fn commit_metadata(
    tables: &Tables,
    table: &Table,
    change: impl FnOnce(TableMetadataBuilder) -> Result<TableMetadataBuilder>,
) -> Result<Table> {
    let (base, logs) = metadata_log::detach_logs(table.metadata())?;
    let built = build(change(base.into_builder(None))?)?;
    let now = tables.options().clock.now().timestamp_millis();
    let metadata = metadata_log::attach_logs(&built, logs, table.metadata_location(), now)?;
    store(tables, table, metadata, table.totals(), PendingFiles::default()).await
}

pub(crate) fn build(builder: TableMetadataBuilder) -> Result<TableMetadata> {
    let built = builder.build().map_err(|error| rejected("committed", &error))?.metadata;
    let built = time_transforms::restored(built)?;
    create_and_evolve::check_table(&built)?;
    Ok(built)
}
