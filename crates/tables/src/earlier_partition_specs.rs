//! Supports overwriting partitions whose rows are partly in files of an earlier partition spec.
//!
//! The partition of such a file does not determine the current partitions of its rows. So an
//! overwrite reads these files, and rewrites their rows that are not in an overwritten partition.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::Struct;

use crate::write::PartitionSplitter;
use crate::{BatchStream, DataFile, Error, Result, RowDeletes, StagedFiles, Table};

impl RowDeletes<'_> {
    /// Finds the files of earlier partition specs with rows in the partitions of the new rows.
    /// Returns the found files, and a stream of their rows that are in other partitions; `None` if
    /// no file is found.
    pub async fn retained_rows(
        self,
        table: &Table,
        staged: &StagedFiles,
    ) -> Result<Option<(Vec<Arc<DataFile>>, BatchStream)>> {
        let spec = table.metadata().default_partition_spec().spec_id();
        let partitions = staged.files.iter().map(|file| file.partition().clone());
        let partitions: Arc<HashSet<Struct>> = Arc::new(partitions.collect());
        if partitions.is_empty() {
            return Ok(None);
        }
        let plan = self.tables.plan(table, None).await?;
        let mut affected = Vec::new();
        for file in plan.files().iter().filter(|file| file.spec_id != spec) {
            if self.has_rows_in(table, file, &partitions).await? {
                affected.push(Arc::clone(file));
            }
        }
        if affected.is_empty() {
            return Ok(None);
        }
        let rows = self.tables.rewrites().read(table, &affected)?;
        Ok(Some((affected, rows_outside(table, rows, partitions))))
    }

    async fn has_rows_in(
        self,
        table: &Table,
        file: &Arc<DataFile>,
        partitions: &HashSet<Struct>,
    ) -> Result<bool> {
        let mut splitter = splitter(table);
        let mut rows = self.tables.read(table, std::slice::from_ref(file), None, None)?;
        while let Some(batch) = rows.try_next().await.map_err(Error::Input)? {
            let parts = splitter.split(batch)?;
            if parts.iter().any(|part| partitions.contains(&part.values)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn splitter(table: &Table) -> PartitionSplitter {
    let metadata = table.metadata();
    PartitionSplitter::new(
        metadata.default_partition_spec().clone(),
        metadata.current_schema().clone(),
    )
}

/// Returns the rows outside the given partitions.
fn rows_outside(table: &Table, rows: BatchStream, partitions: Arc<HashSet<Struct>>) -> BatchStream {
    let mut splitter = splitter(table);
    let kept = rows.map(move |batch| {
        let groups = splitter.split(batch?).map_err(ArrowError::from)?;
        let others = groups.into_iter().filter(|part| !partitions.contains(&part.values));
        Ok::<Vec<RecordBatch>, ArrowError>(others.map(|part| part.rows).collect())
    });
    kept.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed()
}
