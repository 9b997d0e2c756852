//! Conversion of merge conflicts into reports, with example files and rows.

use arrow::array::RecordBatch;
use headwater_catalog::DivergedTable;
use headwater_model::{ColumnConflict, ConflictCause, ConflictKind, RowConflict};
use headwater_table_merge::{Cause, ChangedRow, Conflict};
use serde_json::Value;

use super::view_merge::concerns_view;
use crate::error::Result;
use crate::json_rows::json_rows;

/// Maximum number of files that are listed for a conflict.
const FILES_MAX: usize = 20;

/// Maximum number of rows that are listed for a conflict.
const ROWS_MAX: usize = 10;

/// Converts a conflict within a table.
pub(super) fn of_conflict(conflict: &Conflict) -> Result<ConflictCause> {
    let files = conflict.files.iter().take(FILES_MAX);
    let mut rows = json_rows(&conflict.rows)?;
    rows.truncate(ROWS_MAX);
    Ok(ConflictCause {
        kind: kind(&conflict.cause),
        message: conflict.cause.to_string(),
        files: files.map(|file| file.location.clone()).collect(),
        files_total: conflict.files.len() as u64,
        rows,
        rows_total: conflict.rows_total,
        changed: conflict.changed.iter().take(ROWS_MAX).map(row).collect::<Result<_>>()?,
    })
}

/// Converts a row that both sides changed to a list of its columns.
fn row(changed: &ChangedRow) -> Result<RowConflict> {
    let object = |row: Option<&RecordBatch>| -> Result<Option<Value>> {
        let Some(row) = row else { return Ok(None) };
        Ok(json_rows(std::slice::from_ref(row))?.pop())
    };
    let base = object(Some(&changed.base))?.unwrap_or_default();
    let target = object(changed.ours.as_ref())?;
    let source = object(changed.theirs.as_ref())?;
    let value = |row: &Option<Value>, column: &str| {
        row.as_ref().and_then(|row| row.get(column)).cloned().unwrap_or_default()
    };
    let differs = |row: &Option<Value>, column: &str| {
        row.as_ref().is_some_and(|row| row.get(column) != base.get(column))
    };
    let columns = base.as_object().into_iter().flatten().map(|(column, base)| ColumnConflict {
        column: column.clone(),
        changed: differs(&target, column) || differs(&source, column),
        base: base.clone(),
        target: value(&target, column),
        source: value(&source, column),
    });
    let mut columns: Vec<ColumnConflict> = columns.collect();
    columns.sort_by_key(|column| !column.changed);
    let (target_removed, source_removed) = (target.is_none(), source.is_none());
    Ok(RowConflict { columns, target_removed, source_removed })
}

fn kind(cause: &Cause) -> ConflictKind {
    match cause {
        Cause::Recreated => ConflictKind::Recreated,
        Cause::Column { .. } | Cause::Dropped { .. } => ConflictKind::Column,
        Cause::FieldId { .. } => ConflictKind::FieldId,
        Cause::Nulls { .. } => ConflictKind::Nulls,
        Cause::Schema { .. } => ConflictKind::Schema,
        Cause::Partitioning => ConflictKind::Partitioning,
        Cause::SortOrder => ConflictKind::SortOrder,
        Cause::Identifier => ConflictKind::Identifier,
        Cause::Property { .. } => ConflictKind::Property,
        Cause::Replaced { .. } => ConflictKind::Replaced,
        Cause::Rows => ConflictKind::Rows,
        Cause::Keys { .. } => ConflictKind::Keys,
        Cause::TooManyRows { .. } => ConflictKind::TooManyRows,
        Cause::Incomparable { .. } => ConflictKind::Incomparable,
        Cause::DuplicateCherryPick => ConflictKind::DuplicateCherryPick,
    }
}

/// Returns the cause: one side dropped the table, view or function, and the other side changed or
/// renamed it.
pub(super) fn dropped(contested: &DivergedTable) -> ConflictCause {
    let sides = ["target", "source"];
    let [dropping_side, other] =
        if contested.ours.is_none() { sides } else { [sides[1], sides[0]] };
    let what = match contested.table.function() {
        Some(_) => "function",
        None if concerns_view(contested) => "view",
        None => "table",
    };
    let action = match &contested.renamed {
        Some(renamed) => format!("renamed `{}` to this name", renamed.from),
        None => "changed it".to_owned(),
    };
    let message = format!("the {dropping_side} dropped the {what}, and the {other} {action}");
    plain(ConflictKind::Dropped, message)
}

/// Returns the cause: the name is a view on one side and a table on the other.
pub(super) fn view_and_table(ours_is_view: bool) -> ConflictCause {
    let message = if ours_is_view {
        "the target has a view of this name, and the source a table"
    } else {
        "the target has a table of this name, and the source a view"
    };
    plain(ConflictKind::Recreated, message.to_owned())
}

/// Returns the cause: both sides created the table.
pub(super) fn both_created() -> ConflictCause {
    plain(ConflictKind::Recreated, "both sides created a table with this name".to_owned())
}

/// Returns the cause: the merge base is ambiguous after criss-cross merges.
pub(super) fn ambiguous_base() -> ConflictCause {
    let message = "earlier merges between the two branches resolved this table differently";
    plain(ConflictKind::AmbiguousMergeBase, message.to_owned())
}

/// Returns the cause: the rows may have been merged before by a cherry-pick.
pub(super) fn duplicate_cherry_pick() -> ConflictCause {
    plain(ConflictKind::DuplicateCherryPick, Cause::DuplicateCherryPick.to_string())
}

/// Returns the cause: a merge by content would combine rows that no expectation has checked
/// together.
pub(super) fn unchecked_merge() -> ConflictCause {
    let message = "both sides changed the table, but the expectations checked only the source's \
                   rows, not the merged rows";
    plain(ConflictKind::Checked, message.to_owned())
}

/// Returns the cause: both sides imported the same files.
pub(super) fn duplicate_imports(files: &[String]) -> ConflictCause {
    let first = files.first().map(String::as_str).unwrap_or_default();
    let message = match files.len() {
        1 => format!("both sides imported `{first}`; its rows would be duplicated"),
        count => format!(
            "both sides imported `{first}` and {} more; their rows would be duplicated",
            count - 1
        ),
    };
    let named = files.iter().take(FILES_MAX).cloned().collect();
    let files_total = files.len() as u64;
    ConflictCause { files: named, files_total, ..plain(ConflictKind::DuplicateImport, message) }
}

/// Returns a cause without example files or rows.
pub(super) fn plain(kind: ConflictKind, message: String) -> ConflictCause {
    ConflictCause {
        kind,
        message,
        files: Vec::new(),
        files_total: 0,
        rows: Vec::new(),
        rows_total: None,
        changed: Vec::new(),
    }
}
