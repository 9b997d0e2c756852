//! The rights to read entries of the catalog, and results without the rows that are hidden from the
//! reader by row filters and column masks.

use headwater_model::{
    Action, ChangeKind, CommitId, ComparisonMethod, ErrorCode, Object, Problem, RefSpec, RowsDiff,
    TableDiff, TableName,
};

/// Returns the right that reading an entry of the catalog requires. The code of a function may be
/// read with the right to call the function.
pub fn reading(name: &TableName, is_view: bool) -> (Action, Object) {
    match name.function() {
        Some(own) if is_view => {
            (Action::Invoke, Object::function(&format!("{}.{own}", name.namespace)))
        }
        _ if is_view => (Action::Select, Object::view(name)),
        _ => (Action::Select, Object::table(name)),
    }
}

/// Returns the two refs at which the tables of a merge conflict are read: the target and the merge
/// base.
pub fn sides(target: &str, base: Option<CommitId>) -> impl Iterator<Item = RefSpec> {
    let base = base.map(|base| RefSpec::Commit(base.to_string()));
    std::iter::once(RefSpec::Name(target.to_owned())).chain(base)
}

/// Removes rows and row counts from the diff of a table with hidden rows.
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
