//! Writes the deletion vectors of a commit to one Puffin file.
//!
//! A data file has at most one vector, which contains the positions of all its deleted rows. So a
//! new vector includes the positions of the existing vector and of position delete files. The new
//! vector replaces the existing vector and the delete files that apply only to this data file.

use std::sync::Arc;

use bytes::Bytes;
use headwater_table_format::PuffinWriter;
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};
use uuid::Uuid;

use super::position_delete_writer::staged;
use crate::manifest::run_blocking;
use crate::staged_files::StagedDelete;
use crate::storage::CleanupGuard;
use crate::{DataFile, DeleteKey, Error, Positions, Result, StagedFiles, Table, Tables};

/// A data file, the positions of its deleted rows, and the delete files that its new vector
/// replaces.
type DataFileDeletes = (Arc<DataFile>, Positions, Vec<DeleteKey>);

/// Writes a deletion vector for each data file.
pub(super) async fn write_vectors(
    tables: &Tables,
    table: &Table,
    rows: Vec<(Arc<DataFile>, Positions)>,
) -> Result<StagedFiles> {
    let mut all: Vec<DataFileDeletes> = Vec::with_capacity(rows.len());
    for (of, mut positions) in rows {
        let replaced = tables.deletes().all_positions(&of, &mut positions).await?;
        all.push((of, positions, replaced));
    }
    if all.is_empty() {
        return Ok(staged(tables, table, Vec::new()));
    }
    let location =
        format!("{}/data/{}-deletes.puffin", table.metadata().location(), Uuid::now_v7());
    let encoded = {
        let location = location.clone();
        run_blocking(&location.clone(), move || encode_file(&location, all)).await?
    };
    let (content, deletes) = encoded;
    let mut undo = CleanupGuard::new(tables.storage().clone());
    undo.add(location.clone());
    let written = tables.storage().write_all(&[(location, content)], std::iter::empty()).await;
    if let Err(error) = written {
        undo.run().await;
        return Err(error);
    }
    undo.keep();
    Ok(staged(tables, table, deletes))
}

/// Encodes the Puffin file and the manifest entries of its vectors.
fn encode_file(location: &str, all: Vec<DataFileDeletes>) -> Result<(Bytes, Vec<StagedDelete>)> {
    let mut puffin = PuffinWriter::default();
    let vectors: Vec<_> = all
        .into_iter()
        .map(|(of, positions, replaced)| {
            let blob = puffin.add(&of.location, &positions);
            (of, replaced, positions.len(), blob)
        })
        .collect();
    let content = puffin.finish();
    let bytes = content.len();
    let deletes = vectors.into_iter().map(|(of, replaced, rows, blob)| {
        let built = DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(location.to_owned())
            .file_format(DataFileFormat::Puffin)
            .partition(of.entry.data_file.partition().clone())
            .partition_spec_id(of.spec_id)
            .record_count(rows)
            .file_size_in_bytes(bytes as u64)
            .referenced_data_file(Some(of.location.clone()))
            .content_offset(Some(blob.start as i64))
            .content_size_in_bytes(Some(blob.len() as i64))
            .build();
        let file = built.map_err(|error| Error::internal("written", error))?;
        Ok(StagedDelete { file, of, replaced })
    });
    let deletes = deletes.collect::<Result<Vec<_>>>()?;
    Ok((content, deletes))
}
