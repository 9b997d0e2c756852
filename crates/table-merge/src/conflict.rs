//! Conflicts between the two sides of a merge.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;

use headwater_tables::DataFile;

use crate::changed_rows::ChangedRow;

/// A side of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MergeSide {
    /// The target of the merge, which is called our side.
    Ours,
    /// The source of the merge, which is called their side.
    Theirs,
}

impl MergeSide {
    /// Returns the other side.
    #[must_use]
    pub fn other(self) -> MergeSide {
        match self {
            MergeSide::Ours => MergeSide::Theirs,
            MergeSide::Theirs => MergeSide::Ours,
        }
    }
}

/// A conflict: the changes of both sides to a part of the table are not compatible.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// The reason why the changes conflict.
    pub cause: Cause,
    /// The affected data files.
    pub files: Vec<Arc<DataFile>>,
    /// A sample of the affected rows.
    pub rows: Vec<RecordBatch>,
    /// The rows that both sides changed, in the base and on both sides.
    pub changed: Vec<ChangedRow>,
    /// The number of affected rows, if known.
    pub rows_total: Option<u64>,
}

/// The cause of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// One side, or each side, dropped the table and created it again.
    Recreated,
    /// Both sides changed or added a column with the same name in different ways.
    Column {
        /// The path of the column.
        column: String,
        /// Our change of the column or its type, as text.
        ours: String,
        /// Their change of the column or its type, as text.
        theirs: String,
    },
    /// One side dropped columns in which the other side changed values.
    Dropped {
        /// The paths of the columns.
        columns: Vec<String>,
        /// The side that dropped the columns.
        side: MergeSide,
    },
    /// Both sides assigned the same field id to different new columns, so the id does not determine
    /// to which column a value in their files belongs.
    FieldId {
        /// The field id.
        id: i32,
        /// Name of our column with this id.
        ours: String,
        /// Name of their column with this id.
        theirs: String,
    },
    /// One side has nulls in a column that the other side made required.
    Nulls {
        /// Name of the column.
        column: String,
        /// The side that made the column required.
        side: MergeSide,
    },
    /// The combination of both changes is not a valid table.
    Schema {
        /// Reason why the table is not valid.
        reason: String,
    },
    /// Both sides changed the partition fields.
    Partitioning,
    /// Both sides changed the sort order.
    SortOrder,
    /// Both sides changed the identifier fields.
    Identifier,
    /// Both sides set a property to different values.
    Property {
        /// The name of the property.
        key: String,
        /// Our value; `None` if we removed the property.
        ours: Option<String>,
        /// Their value; `None` if they removed the property.
        theirs: Option<String>,
    },
    /// One side replaced all rows, or all rows of some partitions, and the other side changed some
    /// of these rows.
    Replaced {
        /// The side that replaced rows.
        side: MergeSide,
        /// The partitions that one side replaced and in which the other side changed rows; `None`
        /// if one side replaced all rows.
        partitions: Option<Vec<String>>,
    },
    /// Both sides changed the same rows.
    Rows,
    /// Both sides added or changed rows with the same keys.
    Keys {
        /// The first key as text; `None` if the source deleted all rows with the keys.
        key: Option<String>,
        /// Number of keys.
        total: u64,
    },
    /// The changed files of both sides have too many rows to compare.
    TooManyRows {
        /// Maximum number of rows that a merge compares.
        limit: u64,
    },
    /// Both sides changed the same files, whose rows cannot be compared.
    Incomparable {
        /// Reason why the rows cannot be compared.
        reason: String,
    },
    /// Both sides contain the same cherry-picked commit, and it is not known which rows this commit
    /// changed.
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

/// Writes the text of [`Cause::Keys`].
fn write_keys(f: &mut fmt::Formatter<'_>, key: Option<&str>, total: u64) -> fmt::Result {
    match (key, total) {
        (Some(key), 1) => write!(f, "both sides added or changed a row with the key {key}"),
        (Some(key), _) => {
            write!(f, "both sides added or changed rows with {total} keys, such as {key}")
        }
        (None, _) => write!(f, "both sides added or changed rows with {total} equal keys"),
    }
}

impl fmt::Display for Cause {
    /// Formats the cause. The text calls our side the target, and their side the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |side: &MergeSide| match side {
            MergeSide::Ours => ("the target", "the source"),
            MergeSide::Theirs => ("the source", "the target"),
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
                write!(f, "column `{column}` is required in {wants}, but has nulls in {lacks}")
            }
            Cause::Schema { reason } => {
                write!(f, "the combination of both changes is invalid: {reason}")
            }
            Cause::Partitioning => f.write_str("both sides changed the partitioning"),
            Cause::SortOrder => f.write_str("both sides changed the sort order"),
            Cause::Identifier => f.write_str("both sides changed the identifier fields"),
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
                write!(f, "{replaced} replaced all rows, and {changed} changed some of the rows")
            }
            Cause::Replaced { side, partitions: Some(partitions) } => {
                let (replaced, changed) = names(side);
                let named: Vec<String> =
                    partitions.iter().take(5).map(|one| format!("`{one}`")).collect();
                let more = if partitions.len() > 5 { " and others" } else { "" };
                let named = named.join(", ");
                write!(
                    f,
                    "{replaced} replaced partition {named}{more}, and {changed} changed rows of \
                     these partitions"
                )
            }
            Cause::Rows => f.write_str("both sides changed the same rows"),
            Cause::Keys { key, total } => write_keys(f, key.as_deref(), *total),
            Cause::TooManyRows { limit } => {
                write!(f, "the changed files of both sides have more than {limit} rows to compare")
            }
            Cause::Incomparable { reason } => {
                write!(f, "both sides changed the same files, and {reason}")
            }
            Cause::DuplicateCherryPick => f.write_str(
                "both sides contain a cherry-picked commit, but its rows can no longer be \
                 identified",
            ),
        }
    }
}
