//! Conflicts as they are told: what two changes cannot have together, with files and rows.

use arrow::array::RecordBatch;
use headwater_catalog::Contested;
use headwater_model::{ColumnConflict, ConflictCause, ConflictKind, RowConflict};
use headwater_tables::{Cause, ChangedRow, Clash};
use serde_json::Value;

use super::view::concerns_view;
use crate::error::Result;
use crate::sample::json_rows;

/// How many files of a conflict are named.
const FILES_NAMED: usize = 20;

/// How many rows of a conflict are shown.
const ROWS_SHOWN: usize = 10;

/// A clash within a table.
pub(super) fn of(clash: &Clash) -> Result<ConflictCause> {
    let files = clash.files.iter().take(FILES_NAMED);
    let mut rows = json_rows(&clash.rows)?;
    rows.truncate(ROWS_SHOWN);
    Ok(ConflictCause {
        kind: kind(&clash.cause),
        message: clash.cause.to_string(),
        files: files.map(|file| file.location.clone()).collect(),
        files_total: clash.files.len() as u64,
        rows,
        rows_total: clash.rows_total,
        changed: clash.changed.iter().take(ROWS_SHOWN).map(row).collect::<Result<_>>()?,
    })
}

/// A row that both sides changed, column by column.
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
        Cause::Identity => ConflictKind::Identity,
        Cause::Column { .. } | Cause::Dropped { .. } => ConflictKind::Column,
        Cause::FieldId { .. } => ConflictKind::FieldId,
        Cause::Nulls { .. } => ConflictKind::Nulls,
        Cause::Shape { .. } => ConflictKind::Shape,
        Cause::Partitioning => ConflictKind::Partitioning,
        Cause::Order => ConflictKind::Order,
        Cause::Identifier => ConflictKind::Identifier,
        Cause::Property { .. } => ConflictKind::Property,
        Cause::Replaced { .. } => ConflictKind::Replaced,
        Cause::Rows => ConflictKind::Rows,
        Cause::TooManyRows { .. } => ConflictKind::TooManyRows,
        Cause::Incomparable { .. } => ConflictKind::Incomparable,
        Cause::Picked => ConflictKind::Picked,
    }
}

/// One side dropped the table, or view, that the other changed or renamed.
pub(super) fn dropped(contested: &Contested) -> ConflictCause {
    let sides = ["target", "source"];
    let [drops, other] = if contested.ours.is_none() { sides } else { [sides[1], sides[0]] };
    let what = if concerns_view(contested) { "view" } else { "table" };
    let did = match &contested.renamed {
        Some(renamed) => format!("renamed `{}` to this", renamed.from),
        None => "changed it".to_owned(),
    };
    let message = format!("the {drops} dropped the {what}, and the {other} {did}");
    plain(ConflictKind::Dropped, message)
}

/// One side made a view of a name that the other gave a table.
pub(super) fn view_and_table(ours_is_view: bool) -> ConflictCause {
    let message = if ours_is_view {
        "the target has a view of that name, and the source a table"
    } else {
        "the target has a table of that name, and the source a view"
    };
    plain(ConflictKind::Identity, message.to_owned())
}

/// Both sides made the table.
pub(super) fn identity() -> ConflictCause {
    plain(ConflictKind::Identity, "both made a table of that name".to_owned())
}

/// Crosswise merges settled the table differently.
pub(super) fn bases() -> ConflictCause {
    let message = "both took changes of each other before, and settled them differently";
    plain(ConflictKind::Bases, message.to_owned())
}

/// Rows may have come already with a commit that was picked.
pub(super) fn picked() -> ConflictCause {
    plain(ConflictKind::Picked, Cause::Picked.to_string())
}

/// The table is only merged whole.
pub(super) fn checked() -> ConflictCause {
    let message = "both changed the table, and what was checked is the source's rows alone";
    plain(ConflictKind::Checked, message.to_owned())
}

/// Both sides imported the same files.
pub(super) fn imports(files: &[String]) -> ConflictCause {
    let first = files.first().map(String::as_str).unwrap_or_default();
    let message = match files.len() {
        1 => format!("both imported `{first}`, whose rows would be there twice"),
        count => format!(
            "both imported `{first}` and {} more, whose rows would be there twice",
            count - 1
        ),
    };
    let named = files.iter().take(FILES_NAMED).cloned().collect();
    let files_total = files.len() as u64;
    ConflictCause { files: named, files_total, ..plain(ConflictKind::Imports, message) }
}

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
