//! The deleted rows of data files, read from their delete files.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::equality_deletes::DeletedKeys;
use super::position_deletes::PositionsByFile;
use super::{
    DeleteFileRange, DeleteKey, Deletes, READS_MAX, deletion_vector_reader, write_deletes,
};
use crate::{DataFile, Positions, Result, StagedFiles, Table, Tables};

/// Operations on the deleted rows of data files. [`Tables::deletes`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct RowDeletes<'a> {
    pub(crate) tables: &'a Tables,
}

impl RowDeletes<'_> {
    /// Counts the live rows of data files, that is, the rows that no delete file deletes.
    pub async fn live_rows(self, files: Vec<Arc<DataFile>>) -> Result<u64> {
        let deleted = self.deleted_of_all(files.clone()).await?;
        let live = files.iter().zip(deleted);
        Ok(live
            .map(|(file, deleted)| {
                file.rows - deleted.map_or(0, |deleted| deleted.before(file.rows))
            })
            .sum())
    }

    /// Writes uncommitted delete files, one for each data file. Each delete file contains the rows
    /// to delete. It also contains the rows that existing delete files for only this data file
    /// delete, because it replaces these. To commit the files, combine them with data files by
    /// [`StagedFiles::and`]. The files are already durable.
    pub async fn write(
        self,
        table: &Table,
        rows: Vec<(Arc<DataFile>, Positions)>,
    ) -> Result<StagedFiles> {
        write_deletes(self.tables, table, rows).await
    }

    /// Returns the deleted rows of a data file; `None` if no delete file applies. Some positions
    /// may be beyond the end of the file.
    ///
    /// Fails if a delete file cannot be read. Results are cached.
    pub async fn deleted(self, file: &DataFile) -> Result<Option<Arc<Positions>>> {
        let Some(deletes) = &file.deletes else { return Ok(None) };
        let key = (file.location.clone(), deletes.fingerprint);
        if let Some(found) = self.tables.caches().deleted.get(&key) {
            return Ok(Some(found));
        }
        let found = Arc::new(self.read_deletes(file, deletes).boxed().await?);
        self.tables.caches().deleted.insert(key, found.clone());
        Ok(Some(found))
    }

    /// Returns the deleted rows of each data file.
    pub async fn deleted_of_all(
        self,
        files: Vec<Arc<DataFile>>,
    ) -> Result<Vec<Option<Arc<Positions>>>> {
        let each = |file: Arc<DataFile>| async move { self.deleted(&file).await };
        stream::iter(files).map(each).buffered(READS_MAX).try_collect().await
    }

    /// Adds to `rows` the rows that are deleted by delete files which apply to this data file only,
    /// and returns these delete files.
    pub(super) async fn own_deletes(
        self,
        file: &DataFile,
        rows: &mut Positions,
    ) -> Result<Vec<DeleteKey>> {
        let Some(deletes) = &file.deletes else { return Ok(Vec::new()) };
        let own = PositionsByFile::read(self.tables.storage(), &deletes.own).await?;
        rows.add_all(&own.of(file, file.sequence_number()));
        Ok(deletes.own.iter().map(|file| file.owned_key()).collect())
    }

    /// Adds all rows that are deleted by position to `rows`. Returns the delete files that apply
    /// only to this data file. If there is a deletion vector, no other position deletes apply.
    pub(super) async fn all_positions(
        self,
        file: &DataFile,
        rows: &mut Positions,
    ) -> Result<Vec<DeleteKey>> {
        let Some(deletes) = &file.deletes else { return Ok(Vec::new()) };
        let mut own = self.own_deletes(file, rows).await?;
        if let Some(vector) = &deletes.vector {
            rows.add_all(&deletion_vector_reader::read(self.tables.storage(), vector).await?);
            own.push(vector.owned_key());
        }
        if let Some(shared) = &deletes.positions {
            rows.add_all(&self.shared_positions(file, shared).await?);
        }
        Ok(own)
    }

    async fn shared_positions(
        self,
        file: &DataFile,
        DeleteFileRange { group, .. }: &DeleteFileRange<PositionsByFile>,
    ) -> Result<Positions> {
        let read = PositionsByFile::read(self.tables.storage(), &group.files);
        let named =
            group.content.get(&self.tables.caches().named, group.fingerprint(), read).await?;
        Ok(named.of(file, file.sequence_number()))
    }

    async fn read_deletes(self, file: &DataFile, deletes: &Deletes) -> Result<Positions> {
        let storage = self.tables.storage();
        let number = file.sequence_number();
        let mut deleted = Positions::new();
        if let Some(vector) = &deletes.vector {
            deleted = deletion_vector_reader::read(storage, vector).await?;
        }
        deleted.add_all(&PositionsByFile::read(storage, &deletes.own).await?.of(file, number));
        if let Some(shared) = &deletes.positions {
            deleted.add_all(&self.shared_positions(file, shared).await?);
        }
        for DeleteFileRange { group, .. } in &deletes.equality {
            let read = DeletedKeys::read(storage, &group.files, &group.columns);
            let keys =
                group.content.get(&self.tables.caches().keys, group.fingerprint(), read).await?;
            deleted.add_all(&keys.find(storage, file, &group.columns).await?);
        }
        Ok(deleted)
    }
}
