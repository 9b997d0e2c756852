//! The text of the error of a run that ends with a conflict.

use headwater_model::{CHANGE_READ, MergeConflict};

/// Returns the names of the tables in conflict.
pub fn conflict_names(conflicts: &[MergeConflict]) -> Vec<String> {
    conflicts.iter().map(|conflict| conflict.table.to_string()).collect()
}

/// Returns a description of the tables in conflict: tables that the run only read, or tables that
/// the run changed.
pub fn changed_text(conflicts: &[MergeConflict]) -> &'static str {
    if conflicts.iter().all(|conflict| conflict.source_change == CHANGE_READ) {
        "tables that the run read"
    } else {
        "the same tables"
    }
}

/// Returns the causes of the conflicts, each with its table.
pub fn conflict_causes(conflicts: &[MergeConflict]) -> Vec<String> {
    let causes = conflicts.iter().flat_map(|conflict| {
        conflict.causes.iter().map(|cause| format!("`{}`: {}", conflict.table, cause.message))
    });
    causes.collect()
}
