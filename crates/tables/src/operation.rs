//! What can be asked of a table: to be made, and to be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use headwater_model::{PartitionField, TableName};

use crate::{Alteration, DataFile, ScanPlan, Staged, TableCommit};

/// Data files that go, and what comes in their place.
pub type Beside = (Vec<Arc<DataFile>>, Staged);

/// Asks for a new table.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// Its name; only the folder's name comes from it, the catalog holds the name itself.
    pub name: TableName,
    /// Its columns, as [`crate::normalise_schema`] makes them.
    pub schema: SchemaRef,
    /// Its partition fields, in order.
    pub partition: Vec<PartitionField>,
    /// Iceberg's table properties.
    pub properties: BTreeMap<String, String>,
}

/// One change of one table. Each makes one new metadata file.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Adds rows.
    Append(Staged),
    /// Replaces all rows.
    Overwrite(Staged),
    /// Replaces the rows of every partition that the new rows fall into; all rows of a table
    /// without partitions.
    OverwritePartitions {
        /// The new rows.
        staged: Staged,
        /// Files of earlier partition specs with rows of those partitions among others, and the others
        /// anew; see [`crate::Tables::beside_partitions`].
        beside: Option<Beside>,
    },
    /// Puts data files in place of others, because some of their rows changed.
    Rewrite(Rewrite),
    /// Puts data files in place of others that hold the same rows, arranged otherwise.
    Compact {
        /// The files that go. One that is gone already is a conflict.
        removed: Vec<Arc<DataFile>>,
        /// The files that come, with as many rows.
        staged: Staged,
    },
    /// Puts what many manifests say into few.
    ArrangeManifests,
    /// No longer lists snapshots, none of which is the current one. Their files stay.
    ExpireSnapshots(Vec<i64>),
    /// Replaces columns, partition fields and all rows. The rows are written for the table that
    /// [`crate::Tables::replacement`] gives.
    Replace {
        /// The new columns.
        schema: SchemaRef,
        /// The new partition fields.
        partition: Vec<PartitionField>,
        /// As with [`Operation::AddColumns`].
        after: Option<i32>,
        /// The new rows.
        staged: Staged,
    },
    /// Adds columns that may be null, after the last.
    AddColumns {
        /// The columns.
        columns: Vec<Field>,
        /// Their field ids follow this; those that the table ever had where none is given. Ids that two
        /// changes of a table give away, on whatever branches, must differ, or their rows could not be
        /// brought together.
        after: Option<i32>,
    },
    /// Changes columns and properties, one after the other. New columns have the ids that follow `after`,
    /// or those that the table never had.
    Alter {
        /// The changes, in order.
        alterations: Vec<Alteration>,
        /// The id after which those of new columns come.
        after: Option<i32>,
    },
    /// Sets table properties; others stay.
    SetProperties(BTreeMap<String, String>),
    /// Makes a change that another engine asks for. Fails with `commit_conflict` where one of its
    /// requirements does not hold.
    Apply(Arc<TableCommit>),
}

impl Operation {
    /// Adds columns to a table that has no other branches.
    pub fn add_columns(columns: Vec<Field>) -> Self {
        Operation::AddColumns { columns, after: None }
    }
}

/// Data files in place of others, because some of their rows changed.
#[derive(Clone)]
pub struct Rewrite {
    /// What the table held when the change was made up. A table that holds other files when it is
    /// committed is one that another commit changed in the meantime.
    pub seen: ScanPlan,
    /// The files that go, all of them among those seen. One that is gone already is a conflict.
    pub removed: Vec<Arc<DataFile>>,
    /// The files that come.
    pub staged: Staged,
    /// What rows that others added in the meantime mean: at serializable isolation, whether any of
    /// those files may hold a row that the change would have concerned, which is a conflict. None at
    /// snapshot isolation, where rows that were not seen are left alone.
    pub unseen: Option<Unseen>,
}

/// Whether any of some files may hold a row that a change concerns.
pub type Unseen = Arc<dyn Fn(&ScanPlan) -> bool + Send + Sync>;

impl std::fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rewrite")
            .field("removed", &self.removed.len())
            .field("staged", &self.staged)
            .field("serializable", &self.unseen.is_some())
            .finish_non_exhaustive()
    }
}
