//! Skeleton.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use headwater_model::PartitionField;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::{
    BatchStream, CreateTable, DataFile, Error, Operation, Result, ScanPlan, Staged, Table,
    TablesOptions,
};

/// The tables of one warehouse; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    object_store: Arc<dyn ObjectStore>,
    options: TablesOptions,
}

fn unbuilt<T>() -> Result<T> {
    Err(Error::Internal { doing: "used", reason: "not built yet".to_owned() })
}

impl Tables {
    /// The tables in an object store.
    pub fn new(object_store: Arc<dyn ObjectStore>, options: TablesOptions) -> Self {
        Tables(Arc::new(Inner { object_store, options }))
    }

    /// The object store that holds everything.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.object_store
    }

    /// The URL of the object store's root.
    pub fn root_url(&self) -> &str {
        &self.0.options.root_url
    }

    /// Where a location lies in the object store.
    pub fn path_of(&self, _location: &str) -> Result<Path> {
        unbuilt()
    }

    /// Makes a table and writes its first metadata file.
    pub async fn create(&self, _request: CreateTable) -> Result<Table> {
        unbuilt()
    }

    /// Opens the state of a table that a metadata file holds.
    pub async fn load(&self, _metadata_location: &str) -> Result<Table> {
        unbuilt()
    }

    /// The table as [`Operation::Replace`] with these columns and partition fields will make it, for
    /// [`Tables::write`]. It is not stored.
    pub fn replacement(
        &self,
        _table: &Table,
        _schema: &SchemaRef,
        _partition: &[PartitionField],
    ) -> Result<Table> {
        unbuilt()
    }

    /// Writes rows to data files that belong to no snapshot yet.
    pub async fn write(&self, _table: &Table, _rows: BatchStream) -> Result<Staged> {
        unbuilt()
    }

    /// Changes a table: writes manifests and a metadata file, and gives the new state.
    ///
    /// `summary` goes into the snapshot's summary. An append of no rows with an empty summary changes
    /// nothing and gives the same state back.
    pub async fn commit(
        &self,
        _table: &Table,
        _operation: Operation,
        _summary: BTreeMap<String, String>,
    ) -> Result<Table> {
        unbuilt()
    }

    /// Removes the files of an attempt that failed.
    pub async fn discard(&self, _staged: Staged) -> Result<()> {
        unbuilt()
    }

    /// The data files of a snapshot, the current one where none is given.
    pub async fn plan(&self, _table: &Table, _snapshot: Option<i64>) -> Result<ScanPlan> {
        unbuilt()
    }

    /// Reads data files by field id, in order.
    pub fn read(
        &self,
        _table: &Table,
        _files: &[Arc<DataFile>],
        _columns: Option<&[String]>,
        _limit: Option<usize>,
    ) -> Result<BatchStream> {
        unbuilt()
    }

    /// Writes a file beside the table's own, durable when this returns.
    pub async fn write_file(&self, _location: &str, _content: Bytes) -> Result<()> {
        unbuilt()
    }

    /// Reads a file that [`Tables::write_file`] wrote.
    pub async fn read_file(&self, _location: &str) -> Result<Bytes> {
        unbuilt()
    }
}
