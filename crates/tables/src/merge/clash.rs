//! What two sides of a merge cannot both have.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::paired::ChangedRow;
use crate::DataFile;

/// A side of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What is merged into.
    Ours,
    /// What is merged.
    Theirs,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Ours => Side::Theirs,
            Side::Theirs => Side::Ours,
        }
    }
}

/// One thing about a table that both sides changed, and cannot both have.
#[derive(Debug, Clone)]
pub struct Clash {
    /// What it is about.
    pub cause: Cause,
    /// The data files that it is about.
    pub files: Vec<Arc<DataFile>>,
    /// Some of the rows that it is about.
    pub rows: Vec<RecordBatch>,
    /// The same rows with what both sides have in their place, where both changed rows.
    pub changed: Vec<ChangedRow>,
    /// How many rows it is about, where they were counted.
    pub rows_total: Option<u64>,
}

/// What a clash is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// One side made the table anew, or both made it.
    Identity,
    /// Both changed a column, or made one of the same name, differently.
    Column {
        /// The column, with the columns it lies in.
        column: String,
        /// What it is with us, in words.
        ours: String,
        /// What it is with them.
        theirs: String,
    },
    /// One side dropped columns in which the other changed values.
    Dropped {
        /// The columns, with those that they lie in.
        columns: Vec<String>,
        /// Who dropped them.
        side: Side,
    },
    /// Both gave one field id to different new columns, so that their files cannot be told apart.
    FieldId {
        /// The id.
        id: i32,
        /// Our column.
        ours: String,
        /// Their column.
        theirs: String,
    },
    /// Rows of one side have no value for a column that the other lets have no nulls.
    Nulls {
        /// The column.
        column: String,
        /// Who wants a value.
        side: Side,
    },
    /// Both changed the table so that it would be none with both changes.
    Shape {
        /// Why not.
        reason: String,
    },
    /// Both changed how the table is partitioned.
    Partitioning,
    /// Both changed how the table is sorted.
    Order,
    /// Both changed which columns identify a row.
    Identifier,
    /// Both set a property differently.
    Property {
        /// Its key.
        key: String,
        /// What we set; none where we removed it.
        ours: Option<String>,
        /// What they set.
        theirs: Option<String>,
    },
    /// One side put all rows, or all rows of some partitions, in place of others; the other changed
    /// rows among them.
    Replaced {
        /// Who replaced.
        side: Side,
        /// The partitions that both changed; none where all rows were replaced.
        partitions: Option<Vec<String>>,
    },
    /// Both changed the same rows.
    Rows,
    /// Both changed the same files, which have more rows than are compared.
    TooManyRows {
        /// How many are compared at most.
        limit: u64,
    },
    /// Both changed the same files, whose rows cannot be compared.
    Incomparable {
        /// Why not.
        reason: String,
    },
    /// Both have the change of a commit that was picked, and what it changed cannot be told from the rest.
    Picked,
}

impl Clash {
    pub(crate) fn new(cause: Cause) -> Self {
        Clash { cause, files: Vec::new(), rows: Vec::new(), changed: Vec::new(), rows_total: None }
    }

    pub(crate) fn about(cause: Cause, files: Vec<Arc<DataFile>>) -> Self {
        Clash { files, ..Clash::new(cause) }
    }
}

impl fmt::Display for Cause {
    /// A phrase, in which `ours` is the target of the merge and `theirs` the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |side: &Side| match side {
            Side::Ours => ("the target", "the source"),
            Side::Theirs => ("the source", "the target"),
        };
        match self {
            Cause::Identity => f.write_str("the table was made anew"),
            Cause::Column { column, ours, theirs } => {
                write!(f, "column `{column}` is {ours} in the target and {theirs} in the source")
            }
            Cause::Dropped { columns, side } => {
                let (dropped, changed) = who(side);
                let named: Vec<String> = columns.iter().map(|one| format!("`{one}`")).collect();
                let (word, where_) = match named.len() {
                    1 => ("column", "it"),
                    _ => ("columns", "them"),
                };
                let named = named.join(", ");
                write!(
                    f,
                    "{dropped} dropped {word} {named}, and {changed} changed values in {where_}"
                )
            }
            Cause::FieldId { id, ours, theirs } => write!(
                f,
                "the new columns `{ours}` of the target and `{theirs}` of the source have the same \
                 field id {id}"
            ),
            Cause::Nulls { column, side } => {
                let (wants, lacks) = who(side);
                write!(
                    f,
                    "{wants} wants a value in column `{column}`, and {lacks} has rows without"
                )
            }
            Cause::Shape { reason } => write!(f, "both changes together make no table: {reason}"),
            Cause::Partitioning => f.write_str("both changed the partitioning"),
            Cause::Order => f.write_str("both changed the sort order"),
            Cause::Identifier => f.write_str("both changed the columns that identify a row"),
            Cause::Property { key, ours, theirs } => {
                let value = |value: &Option<String>| match value {
                    Some(value) => format!("`{value}`"),
                    None => "removed".to_owned(),
                };
                let (ours, theirs) = (value(ours), value(theirs));
                write!(f, "property `{key}` is {ours} in the target and {theirs} in the source")
            }
            Cause::Replaced { side, partitions: None } => {
                let (replaced, changed) = who(side);
                write!(f, "{replaced} replaced all rows, and {changed} changed some")
            }
            Cause::Replaced { side, partitions: Some(partitions) } => {
                let (replaced, changed) = who(side);
                let named: Vec<String> =
                    partitions.iter().take(5).map(|one| format!("`{one}`")).collect();
                let more = if partitions.len() > 5 { " and others" } else { "" };
                let named = named.join(", ");
                write!(
                    f,
                    "{replaced} replaced partition {named}{more}, and {changed} changed rows there"
                )
            }
            Cause::Rows => f.write_str("both changed the same rows"),
            Cause::TooManyRows { limit } => write!(
                f,
                "both changed the same files, which have more than the {limit} rows that are compared"
            ),
            Cause::Incomparable { reason } => {
                write!(f, "both changed the same files, and {reason}")
            }
            Cause::Picked => f.write_str(
                "both have the change of a commit that was picked, and which rows are its is not \
                 known any more",
            ),
        }
    }
}
