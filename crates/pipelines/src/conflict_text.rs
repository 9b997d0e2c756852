//! The text of the conflicts with which a run ends.

use headwater_model::{CHANGE_READ, MergeConflict};

/// Returns the names of the tables in conflict.
pub(crate) fn names(conflicts: &[MergeConflict]) -> Vec<String> {
    conflicts.iter().map(|conflict| conflict.table.to_string()).collect()
}

/// Returns which tables are in conflict. If the run only read them, the conflict is about the order
/// of the runs.
pub(crate) fn changed_text(conflicts: &[MergeConflict]) -> &'static str {
    if conflicts.iter().all(|conflict| conflict.source_change == CHANGE_READ) {
        "tables that the run read"
    } else {
        "the same tables"
    }
}

/// Returns the causes of the conflicts, each with its table.
pub(crate) fn conflict_causes(conflicts: &[MergeConflict]) -> Vec<String> {
    let causes = conflicts.iter().flat_map(|conflict| {
        conflict.causes.iter().map(|cause| format!("`{}`: {}", conflict.table, cause.message))
    });
    causes.collect()
}
