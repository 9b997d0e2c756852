//! Results for readers that may not see all rows of a table, because of row filters or column
//! masks.

use headwater_model::{
    ChangeKind, CommitId, ComparisonMethod, ErrorCode, Problem, RefSpec, RowsDiff, TableDiff,
    TableName,
};

/// Returns the two refs at which a merge conflict's tables are read: the target and the merge base.
pub fn sides(target: &str, base: Option<CommitId>) -> impl Iterator<Item = RefSpec> {
    let base = base.map(|base| RefSpec::Commit(base.to_string()));
    std::iter::once(RefSpec::Name(target.to_owned())).chain(base)
}

/// Removes rows and row counts from a diff, because the reader may not see all rows of the table.
pub fn without_rows(diff: TableDiff) -> TableDiff {
    let kind = match diff.kind {
        ChangeKind::Same => ChangeKind::Changed,
        kind => kind,
    };
    let reason = "a row filter or column mask applies to the reader";
    let rows = RowsDiff {
        how: ComparisonMethod::NotCompared,
        reason: Some(reason.to_owned()),
        key: Vec::new(),
        changed_columns: Vec::new(),
        duplicate_keys: 0,
        null_keys: 0,
        not_compared: Vec::new(),
        rows: Vec::new(),
        next_page_token: None,
    };
    TableDiff {
        kind,
        files_added: 0,
        files_removed: 0,
        bytes_added: 0,
        bytes_removed: 0,
        rows_before: None,
        rows_after: None,
        rows_removed: None,
        rows_added: None,
        rows_changed: None,
        rows_in_files_added: 0,
        rows_in_files_removed: 0,
        rows: Some(rows),
        statistics: Vec::new(),
        ..diff
    }
}

/// Returns the error for an operation that would show rows or columns of a table that are hidden
/// from the principal.
pub fn part_only(table: &TableName) -> Problem {
    let message =
        format!("`{table}` cannot be compared: a row filter or column mask applies to the reader");
    Problem::new(ErrorCode::Forbidden, message)
        .with_hint("Compare the visible rows in SQL: `SELECT … EXCEPT SELECT … AT BRANCH dev`.")
}
