//! Conversion of merge conflicts into errors, with causes and a hint.

use headwater_model::{
    Commit, ConflictCause, ErrorCode, MergeConflict, MergeReport, Problem, RowConflict, TableName,
};
use serde_json::json;

/// Maximum number of data files that a conflict message lists.
const FILES_NAMED: usize = 3;

/// Maximum number of rows in a conflict message, and of unchanged columns that are shown for each
/// row.
const ROWS_SHOWN: usize = 3;
const COLUMNS_SHOWN: usize = 4;

/// Returns the error for a merge with conflicts. Its context contains the report. `source` is the
/// name of a ref, or a description in words.
pub fn conflict_problem(target: &str, source: &str, report: &MergeReport) -> Problem {
    let tables: Vec<_> =
        report.conflicts.iter().map(|conflict| format!("`{}`", conflict.table)).collect();
    let shown = if source.contains(' ') { source.to_owned() } else { format!("`{source}`") };
    let message = format!("`{target}` and {shown} both changed {}", tables.join(", "));
    let base = report.base.map(|base| base.short());
    let look = base.as_ref().map_or_else(String::new, |base| {
        format!(" `headwater branch diff @{base} {target}` shows the changes of `{target}`.")
    });
    let hidden = report.conflicts.iter().filter(|conflict| conflict.is_hidden()).count();
    let ask = "Ask a user that may read the hidden tables to merge";
    let choose = "Choose a side with `--ours TABLE` or `--theirs TABLE`. Or change one side to \
                  match the other, then merge again.";
    let mut problem = Problem::new(ErrorCode::MergeConflict, message).with_hint(match hidden {
        0 => format!("{choose}{look}"),
        // If all tables in conflict are hidden, the hint cannot suggest `--ours TABLE` or `--theirs
        // TABLE`.
        hidden if hidden == report.conflicts.len() => format!("{ask}."),
        _ => format!("{ask}, or resolve the other conflicts. {choose}"),
    });
    for conflict in &report.conflicts {
        problem.causes.push(describe(target, source, conflict));
        for cause in &conflict.causes {
            problem.causes.push(describe_cause(&conflict.table, cause));
            let rows = cause.changed.iter().take(ROWS_SHOWN);
            problem.causes.extend(rows.map(|row| changed(target, source, &conflict.table, row)));
        }
    }
    problem.causes.extend(base.map(|base| format!("the merge base is @{base}")));
    problem.context.insert("report".to_owned(), json!(report));
    problem
}

/// Adds the command with `--rerun` to the hint, if models of a project write tables in conflict.
/// `unchecked` is true if the user merged with `--unchecked`. The hint then repeats this option.
#[must_use]
pub fn with_rerun_hint(
    problem: Problem,
    target: &str,
    source: &str,
    report: &MergeReport,
    unchecked: bool,
) -> Problem {
    let derived = report.conflicts.iter().filter(|conflict| conflict.project.is_some());
    let names: Vec<String> = derived.clone().map(|one| format!("`{}`", one.table)).collect();
    let Some(project) = derived.clone().find_map(|one| one.project.as_deref()) else {
        return problem;
    };
    let unchecked = if unchecked { " --unchecked" } else { "" };
    let command = format!("headwater branch merge {source} --into {target} --rerun{unchecked}");
    let names = names.join(", ");
    let hint = if derived.count() == report.conflicts.len() {
        format!(
            "`{command}` merges the other tables and recomputes {names} with the models of \
             project `{project}`."
        )
    } else {
        let others = problem.hint.clone().unwrap_or_default();
        format!(
            "{others} Models of project `{project}` produce {names}: `{command}` recomputes them."
        )
    };
    problem.with_hint(hint)
}

/// Formats a cause: `planes: both changed the same rows: 3 rows in 2 files (a.parquet, b.parquet),
/// such as {"id":1}`.
fn describe_cause(table: &TableName, cause: &ConflictCause) -> String {
    let count = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let names = cause.files.iter().take(FILES_NAMED);
    let mut names: Vec<_> = names.map(|file| file.rsplit('/').next().unwrap_or(file)).collect();
    if cause.files_total > names.len() as u64 {
        names.push("…");
    }
    let files = (cause.files_total > 0)
        .then(|| format!("{} ({})", count(cause.files_total, "file"), names.join(", ")));
    let about = match (cause.rows_total, files) {
        (Some(rows), Some(files)) => format!(": {} in {files}", count(rows, "row")),
        (None, Some(files)) => format!(": {files}"),
        (Some(rows), None) => format!(": {}", count(rows, "row")),
        (None, None) => String::new(),
    };
    let first = cause.rows.first().filter(|_| cause.changed.is_empty());
    let row = first.map(|row| format!(", such as {row}")).unwrap_or_default();
    format!("{table}: {}{about}{row}", cause.message)
}

/// Formats a changed row: `planes: row {"id":1}: seats 4 before, 5 on main, 6 on dev`.
fn changed(target: &str, source: &str, table: &TableName, row: &RowConflict) -> String {
    let same = row.columns.iter().filter(|column| !column.changed).take(COLUMNS_SHOWN);
    let same: serde_json::Map<_, _> =
        same.map(|column| (column.column.clone(), column.base.clone())).collect();
    let mut parts = Vec::new();
    let removed = [(row.target_removed, target), (row.source_removed, source)];
    parts
        .extend(removed.iter().filter(|(is, _)| *is).map(|(_, side)| format!("removed on {side}")));
    for column in row.columns.iter().filter(|column| column.changed) {
        let mut values = vec![format!("{} before", column.base)];
        if !row.target_removed {
            values.push(format!("{} on {target}", column.target));
        }
        if !row.source_removed {
            values.push(format!("{} on {source}", column.source));
        }
        parts.push(format!("{} {}", column.column, values.join(", ")));
    }
    format!("{table}: row {}: {}", serde_json::Value::Object(same), parts.join("; "))
}

/// Formats a conflict: `planes: appended on main by @3fa9c1d2abcd (ada: INSERT INTO planes),
/// dropped on dev by …`.
fn describe(target: &str, source: &str, conflict: &MergeConflict) -> String {
    let ours = by(conflict.target.as_ref(), conflict.target_after.as_ref());
    let theirs = by(conflict.source.as_ref(), conflict.source_after.as_ref());
    let ours = format!("{} on {target}{ours}", conflict.target_change);
    let theirs = format!("{} on {source}{theirs}", conflict.source_change);
    format!("{}: {ours}, {theirs}", conflict.table)
}

/// Formats the commit that made a change: ` by @3fa9c1d2abcd (ada: INSERT INTO planes)`, or `
/// between @1c0f77aa90e1 and @3fa9c1d2abcd (ada: …)`.
fn by(commit: Option<&Commit>, after: Option<&Commit>) -> String {
    let Some(commit) = commit else { return String::new() };
    let subject: String =
        commit.message.lines().next().unwrap_or_default().chars().take(60).collect();
    let which = match after {
        Some(after) => format!("between @{} and @{}", after.id.short(), commit.id.short()),
        None => format!("by @{}", commit.id.short()),
    };
    format!(" {which} ({}: {subject})", commit.author)
}

#[cfg(test)]
mod tests {
    use headwater_model::ConflictKind;

    use super::*;

    #[test]
    fn a_conflict_message_has_files_and_a_row() {
        let files = ["a", "b", "c", "d"].map(|name| format!("file:///lake/t/data/{name}.parquet"));
        let mut cause = ConflictCause {
            kind: ConflictKind::Rows,
            message: "both sides changed the same rows".to_owned(),
            files: files[..1].to_vec(),
            files_total: 1,
            rows: vec![json!({"id": 7})],
            rows_total: Some(1),
            changed: Vec::new(),
        };
        let table = TableName::new("public", "t").unwrap();
        assert_eq!(
            describe_cause(&table, &cause),
            "t: both sides changed the same rows: 1 row in 1 file (a.parquet), such as {\"id\":7}"
        );
        (cause.files, cause.files_total) = (files.to_vec(), 9);
        assert!(
            describe_cause(&table, &cause).contains("9 files (a.parquet, b.parquet, c.parquet, …)")
        );
    }
}
