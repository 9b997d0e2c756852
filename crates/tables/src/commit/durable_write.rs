//! Durable writes of a commit's files.

use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::TableMetadata;

use crate::storage::{CleanupGuard, Storage};
use crate::table::Totals;
use crate::{Result, StagedFiles, Table, Tables, metadata};

/// The files of a commit that are not written yet, or are written but may not be durable yet.
#[derive(Debug, Default)]
pub(crate) struct PendingFiles {
    /// Encoded files with their locations.
    pub(super) files: Vec<(String, Bytes)>,
    /// Data files that are written but may not be durable.
    pub(super) staged: Option<StagedFiles>,
}

/// Writes the files of a commit and then the metadata file, and returns the new state.
pub(super) async fn store(
    tables: &Tables,
    table: &Table,
    metadata: TableMetadata,
    totals: Totals,
    unwritten: PendingFiles,
) -> Result<Table> {
    let location = metadata::next_location(metadata.location(), Some(table.metadata_location()));
    store_as(tables, location, metadata, totals, unwritten).await
}

/// Writes the files of a commit, and then the metadata file at this location.
pub(crate) async fn store_as(
    tables: &Tables,
    location: String,
    metadata: TableMetadata,
    totals: Totals,
    unwritten: PendingFiles,
) -> Result<Table> {
    let content = metadata::encode(&metadata)?;
    let encoded_bytes = content.len();
    let PendingFiles { mut files, staged } = unwritten;
    files.push((location.clone(), content));
    let storage = tables.storage();
    let mut undo = CleanupGuard::new(Arc::clone(storage));
    for (location, _) in &files {
        undo.add(location.clone());
    }
    if let Err(error) = write(storage, &files, staged.as_ref()).await {
        undo.run().await;
        return Err(error);
    }
    undo.keep();
    let table = Table::new(location, metadata, totals, encoded_bytes);
    tables.cache_table(&table);
    Ok(table)
}

/// Writes the metadata files of a commit, and makes them and the data files durable.
async fn write(
    storage: &Storage,
    files: &[(String, Bytes)],
    staged: Option<&StagedFiles>,
) -> Result<()> {
    // If the background sync failed, sync again, so that the commit fails with the error.
    let rest = match staged {
        Some(staged) if !staged.durable.wait().await => Some(staged),
        _ => None,
    };
    storage.write_all(files, rest.into_iter().flat_map(StagedFiles::locations)).await
}
