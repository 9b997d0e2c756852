//! Operations on a table: creation and changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use headwater_model::{PartitionField, TableName};

use crate::{Alteration, DataFile, ScanPlan, StagedFiles};

/// Data files to remove, and new files with those of their rows that must be kept.
pub type RetainedRows = (Vec<Arc<DataFile>>, StagedFiles);

/// A request to create a table.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// The table's name, from which the name of the folder is derived. Only the catalog stores the
    /// table's name.
    pub name: TableName,
    /// The columns, as [`crate::normalise_schema`] returns them.
    pub schema: SchemaRef,
    /// The partition fields, in order.
    pub partition: Vec<PartitionField>,
    /// The table properties.
    pub properties: BTreeMap<String, String>,
}

/// A change of one table. Each change creates one new metadata file.
#[derive(Debug, Clone)]
pub enum TableOperation {
    /// Adds rows.
    Append(StagedFiles),
    /// Replaces all rows of the table by the staged rows.
    Overwrite(StagedFiles),
    /// Replaces all rows in the partitions to which the new rows belong. In an unpartitioned table,
    /// replaces all rows.
    OverwritePartitions {
        /// The new rows.
        staged: StagedFiles,
        /// The result of [`crate::RowDeletes::retained_rows`]: files of earlier partition specs
        /// with rows in the replaced partitions, and new files with the other rows of these files.
        retained: Option<RetainedRows>,
    },
    /// Replaces data files with changed rows.
    Rewrite(RowRewrite),
    /// Replaces data files with files that contain the same rows in another layout.
    Compact {
        /// The files to remove. A file that no longer exists is a conflict.
        removed: Vec<Arc<DataFile>>,
        /// The files to add. Together they must have as many rows as the removed files.
        staged: StagedFiles,
    },
    /// Merges small manifests.
    ArrangeManifests,
    /// Removes the snapshots with these ids from the metadata, except the current snapshot. Keeps
    /// their files.
    ExpireSnapshots(Vec<i64>),
    /// Replaces columns, partition fields and all rows. The rows must have been written for the
    /// table returned by [`crate::Tables::replacement`].
    Replace {
        /// The new columns.
        schema: SchemaRef,
        /// The new partition fields.
        partition: Vec<PartitionField>,
        /// The field ids of new columns are greater than this id, as in
        /// [`TableOperation::AddColumns`].
        after: Option<i32>,
        /// The new rows.
        staged: StagedFiles,
    },
    /// Adds nullable columns after the last column.
    AddColumns {
        /// The columns to add.
        columns: Vec<Field>,
        /// The field ids of the new columns are greater than this id; by default the table's last
        /// column id. Concurrent changes of a table, on any branches, must assign different ids.
        /// Otherwise the rows of the branches cannot be merged.
        after: Option<i32>,
    },
    /// Changes columns and properties, in order.
    Alter {
        /// The changes, in order.
        alterations: Vec<Alteration>,
        /// The field ids of new columns are greater than this id, as in
        /// [`TableOperation::AddColumns`].
        after: Option<i32>,
    },
    /// Sets table properties. Other properties are unchanged.
    SetProperties(BTreeMap<String, String>),
}

impl TableOperation {
    /// Adds columns to a table without other branches.
    pub fn add_columns(columns: Vec<Field>) -> Self {
        TableOperation::AddColumns { columns, after: None }
    }
}

/// The replacement of data files with changed rows.
#[derive(Clone)]
pub struct RowRewrite {
    /// The table's files when the change was computed. If the table has other files at the commit,
    /// another commit was made in the meantime.
    pub seen: ScanPlan,
    /// The files to remove, a subset of `seen`. A file that no longer exists is a conflict.
    pub removed: Vec<Arc<DataFile>>,
    /// The files that replace the removed files.
    pub staged: StagedFiles,
    /// The check of concurrently added files, for serializable isolation. The commit fails with a
    /// conflict if a file that was added since `seen` may contain a row that the change affects.
    /// `None` for snapshot isolation, in which added files are not checked.
    pub unseen: Option<FileFilter>,
}

/// A function that returns true if a file of the plan may contain a row that the change affects.
pub type FileFilter = Arc<dyn Fn(&ScanPlan) -> bool + Send + Sync>;

impl std::fmt::Debug for RowRewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowRewrite")
            .field("removed", &self.removed.len())
            .field("staged", &self.staged)
            .field("serializable", &self.unseen.is_some())
            .finish_non_exhaustive()
    }
}
