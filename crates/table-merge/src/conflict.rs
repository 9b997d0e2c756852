//! Conflicts between the two sides of a merge.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;

use headwater_tables::DataFile;

use crate::changed_rows::ChangedRow;

/// A side of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The target of the merge.
    Ours,
    /// The source of the merge.
    Theirs,
}

impl Side {
    /// Returns the other side.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Ours => Side::Theirs,
            Side::Theirs => Side::Ours,
        }
    }
}

/// A conflict: both sides changed a part of the table incompatibly.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// The cause.
    pub cause: Cause,
    /// The affected data files.
    pub files: Vec<Arc<DataFile>>,
    /// A sample of the affected rows.
    pub rows: Vec<RecordBatch>,
    /// The same rows before the change and on both sides, if both sides changed rows.
    pub changed: Vec<ChangedRow>,
    /// The number of affected rows, if known.
    pub rows_total: Option<u64>,
}

/// The cause of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// One side, or both, recreated the table.
    Recreated,
    /// Both sides changed or added a column with the same name differently.
    Column {
        /// The path of the column.
        column: String,
        /// Our column's change or type, as text.
        ours: String,
        /// Their column's change or type, as text.
        theirs: String,
    },
    /// One side dropped columns in which the other changed values.
    Dropped {
        /// The paths of the columns.
        columns: Vec<String>,
        /// The side that dropped them.
        side: Side,
    },
    /// Both sides assigned the same field id to different new columns, so that their files are
    /// ambiguous.
    FieldId {
        /// The id.
        id: i32,
        /// Our column.
        ours: String,
        /// Their column.
        theirs: String,
    },
    /// One side has nulls in a column that the other made required.
    Nulls {
        /// The column.
        column: String,
        /// The side that requires values.
        side: Side,
    },
    /// The combination of both changes is not a valid table.
    Schema {
        /// The reason.
        reason: String,
    },
    /// Both changed the partition fields.
    Partitioning,
    /// Both changed the sort order.
    SortOrder,
    /// Both changed the identifier fields.
    Identifier,
    /// Both sides set a property to different values.
    Property {
        /// The key.
        key: String,
        /// Our value; none if removed.
        ours: Option<String>,
        /// Their value; none if removed.
        theirs: Option<String>,
    },
    /// One side replaced all rows, or all rows of some partitions, and the other changed some of
    /// them.
    Replaced {
        /// The side that replaced rows.
        side: Side,
        /// The partitions that both changed; none if all rows were replaced.
        partitions: Option<Vec<String>>,
    },
    /// Both changed the same rows.
    Rows,
    /// Both changed the same files, which have too many rows to compare.
    TooManyRows {
        /// The maximum number of rows compared.
        limit: u64,
    },
    /// Both changed the same files, whose rows cannot be compared.
    Incomparable {
        /// The reason.
        reason: String,
    },
    /// Both contain a cherry-picked commit whose rows cannot be distinguished from the others.
    DuplicateCherryPick,
}

impl Conflict {
    pub(crate) fn new(cause: Cause) -> Self {
        Conflict {
            cause,
            files: Vec::new(),
            rows: Vec::new(),
            changed: Vec::new(),
            rows_total: None,
        }
    }

    pub(crate) fn about(cause: Cause, files: Vec<Arc<DataFile>>) -> Self {
        Conflict { files, ..Conflict::new(cause) }
    }
}

impl fmt::Display for Cause {
    /// Formats the cause; `ours` is the target of the merge and `theirs` the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |side: &Side| match side {
            Side::Ours => ("the target", "the source"),
            Side::Theirs => ("the source", "the target"),
        };
        match self {
            Cause::Recreated => f.write_str("the table was recreated"),
            Cause::Column { column, ours, theirs } => {
                write!(f, "column `{column}` is {ours} in the target and {theirs} in the source")
            }
            Cause::Dropped { columns, side } => {
                let (dropped, changed) = names(side);
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
                let (wants, lacks) = names(side);
                write!(f, "{wants} requires column `{column}`, but {lacks} has nulls in it")
            }
            Cause::Schema { reason } => {
                write!(f, "the combination of both changes is invalid: {reason}")
            }
            Cause::Partitioning => f.write_str("both changed the partitioning"),
            Cause::SortOrder => f.write_str("both changed the sort order"),
            Cause::Identifier => f.write_str("both changed the identifier fields"),
            Cause::Property { key, ours, theirs } => {
                let value = |value: &Option<String>| match value {
                    Some(value) => format!("`{value}`"),
                    None => "removed".to_owned(),
                };
                let (ours, theirs) = (value(ours), value(theirs));
                write!(f, "property `{key}` is {ours} in the target and {theirs} in the source")
            }
            Cause::Replaced { side, partitions: None } => {
                let (replaced, changed) = names(side);
                write!(f, "{replaced} replaced all rows, and {changed} changed some")
            }
            Cause::Replaced { side, partitions: Some(partitions) } => {
                let (replaced, changed) = names(side);
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
                "both changed the same files, which have more than {limit} rows to compare"
            ),
            Cause::Incomparable { reason } => {
                write!(f, "both changed the same files, and {reason}")
            }
            Cause::DuplicateCherryPick => f.write_str(
                "both contain a cherry-picked commit, but its rows can no longer be \
                 identified",
            ),
        }
    }
}
