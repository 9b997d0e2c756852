//! Rows of partitions in files that were written by another partition spec.
//!
//! A table whose partitioning changed has files of which nobody can tell by their partition what partitions
//! of now their rows fall into. Where all rows of some partitions are replaced, those files are read.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::Struct;

use crate::write::Splitter;
use crate::{BatchStream, DataFile, Error, Result, Staged, Table, Tables};

impl Tables {
    /// The files of earlier partition specs that hold rows of the partitions which new rows fall into, and
    /// their other rows; none where there are no such files.
    pub async fn beside_partitions(
        &self,
        table: &Table,
        staged: &Staged,
    ) -> Result<Option<(Vec<Arc<DataFile>>, BatchStream)>> {
        let spec = table.metadata().default_partition_spec().spec_id();
        let partitions = staged.files.iter().map(|file| file.partition().clone());
        let partitions: Arc<HashSet<Struct>> = Arc::new(partitions.collect());
        if partitions.is_empty() {
            return Ok(None);
        }
        let plan = self.plan(table, None).await?;
        let mut concerned = Vec::new();
        for file in plan.files().iter().filter(|file| file.spec_id != spec) {
            if self.holds_any(table, file, &partitions).await? {
                concerned.push(Arc::clone(file));
            }
        }
        if concerned.is_empty() {
            return Ok(None);
        }
        let rows = self.read_to_rewrite(table, &concerned)?;
        Ok(Some((concerned, others(table, rows, partitions))))
    }

    async fn holds_any(
        &self,
        table: &Table,
        file: &Arc<DataFile>,
        partitions: &HashSet<Struct>,
    ) -> Result<bool> {
        let mut splitter = splitter(table);
        let mut rows = self.read(table, std::slice::from_ref(file), None, None)?;
        while let Some(batch) = rows.try_next().await.map_err(Error::Input)? {
            let parts = splitter.split(batch)?;
            if parts.iter().any(|part| partitions.contains(&part.values)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn splitter(table: &Table) -> Splitter {
    let metadata = table.metadata();
    Splitter::new(metadata.default_partition_spec().clone(), metadata.current_schema().clone())
}

/// The rows that fall into none of some partitions.
fn others(table: &Table, rows: BatchStream, partitions: Arc<HashSet<Struct>>) -> BatchStream {
    let mut splitter = splitter(table);
    let kept = rows.map(move |batch| {
        let parts = splitter.split(batch?).map_err(ArrowError::from)?;
        let others = parts.into_iter().filter(|part| !partitions.contains(&part.values));
        Ok::<Vec<RecordBatch>, ArrowError>(others.map(|part| part.rows).collect())
    });
    kept.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed()
}
