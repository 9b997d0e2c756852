//! Writes the deletion vectors of a commit to one Puffin file.
//!
//! A data file has at most one vector, which contains all positions of its deleted rows. A new
//! vector includes the positions of the older vector and of position delete files. It replaces the
//! delete files that apply only to this data file.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};
use serde_json::{Value, json};
use uuid::Uuid;

use super::vector::encode;
use super::write::staged;
use crate::manifest::off_thread;
use crate::staged_files::StagedDelete;
use crate::storage::CleanupGuard;
use crate::{DataFile, DeleteKey, Error, Positions, Result, StagedFiles, Table, Tables};

/// The first bytes of a Puffin file, and the first and last bytes of its footer.
const MAGIC: [u8; 4] = *b"PFA1";

/// The reserved field id of a row's position.
const POSITION_ID: i32 = 2_147_483_645;

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
        off_thread(&location.clone(), move || encode_file(&location, all)).await?
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

/// Encodes the file and its manifest entries.
fn encode_file(location: &str, all: Vec<DataFileDeletes>) -> Result<(Bytes, Vec<StagedDelete>)> {
    let mut content = BytesMut::new();
    content.put_slice(&MAGIC);
    let mut blobs: Vec<Value> = Vec::with_capacity(all.len());
    let mut vectors = Vec::with_capacity(all.len());
    for (of, positions, replaced) in all {
        let (offset, blob) = (content.len(), encode(&positions));
        content.put_slice(&blob);
        blobs.push(json!({
            "type": "deletion-vector-v1",
            "fields": [POSITION_ID],
            "snapshot-id": -1,
            "sequence-number": -1,
            "offset": offset,
            "length": blob.len(),
            "properties": {
                "referenced-data-file": of.location,
                "cardinality": positions.len().to_string(),
            },
        }));
        vectors.push((of, replaced, positions.len(), offset, blob.len()));
    }
    let created_by = concat!("headwater ", env!("CARGO_PKG_VERSION"));
    let footer = json!({"blobs": blobs, "properties": {"created-by": created_by}}).to_string();
    content.put_slice(&MAGIC);
    content.put_slice(footer.as_bytes());
    content.put_u32_le(footer.len() as u32);
    content.put_u32_le(0);
    content.put_slice(&MAGIC);
    let bytes = content.len();
    let deletes = vectors.into_iter().map(|(of, replaced, rows, offset, length)| {
        let built = DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(location.to_owned())
            .file_format(DataFileFormat::Puffin)
            .partition(of.entry.data_file.partition().clone())
            .partition_spec_id(of.spec_id)
            .record_count(rows)
            .file_size_in_bytes(bytes as u64)
            .referenced_data_file(Some(of.location.clone()))
            .content_offset(Some(offset as i64))
            .content_size_in_bytes(Some(length as i64))
            .build();
        let file = built.map_err(|error| Error::internal("written", error))?;
        Ok(StagedDelete { file, of, replaced })
    });
    let deletes = deletes.collect::<Result<Vec<_>>>()?;
    Ok((content.freeze(), deletes))
}
