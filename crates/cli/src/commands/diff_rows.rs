//! The rows of a diff, with old and new values side by side, or as CSV.

use headwater_model::{ChangeKind, ComparisonMethod, RowDiff, RowsDiff};
use serde_json::Value;

use crate::commands::diff::signed;
use crate::output::{self, Cell, Grid};
use crate::query_rows::cell;
use crate::terminal::{OutputStyle, Tone};

/// The text shown for a null value.
const NULL: &str = "∅";

/// Prints the changed rows, and the notes about the comparison.
pub fn print_rows(style: OutputStyle, rows: &RowsDiff) {
    let remark = |text: String| output::line(format!("    {}", style.paint(Tone::Faint, text)));
    if rows.how == ComparisonMethod::NotCompared {
        let reason = rows.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        remark(format!("rows were not compared{reason}"));
    } else if let Some(reason) = &rows.reason {
        remark(format!("rows are not shown: {reason}"));
    }
    if !rows.changed_columns.is_empty() {
        let columns = rows.changed_columns.iter();
        let columns: Vec<String> = columns
            .map(|one| format!("{} in {}", one.column, output::plural(one.rows, "row")))
            .collect();
        remark(format!("changed values by key {}: {}", rows.key.join(", "), columns.join(", ")));
    }
    if !rows.not_compared.is_empty() && rows.how == ComparisonMethod::Compared {
        remark(format!("columns not compared: {}", rows.not_compared.join(", ")));
    }
    if rows.duplicate_keys > 0 {
        let keys = output::plural(rows.duplicate_keys, "key");
        remark(format!("{keys} with several rows: their rows are shown as removed and added"));
    }
    if rows.null_keys > 0 {
        let count = output::plural(rows.null_keys, "row");
        remark(format!("{count} with a null key: shown as removed and added"));
    }
    if let Some(grid) = grid(style, &rows.rows) {
        output::line(grid.indented(4).text());
    }
}

/// Creates a table of the rows with old and new values side by side.
fn grid(style: OutputStyle, rows: &[RowDiff]) -> Option<Grid> {
    let columns = columns(rows);
    let repeated = rows.iter().any(|row| row.times > 1);
    let mut headings = vec![""];
    headings.extend(columns.iter().map(String::as_str));
    headings.extend(repeated.then_some("TIMES"));
    // If the table is too wide, hide unchanged columns first.
    let same = columns.iter().rev().filter(|column| !is_changed(rows, column));
    let same: Vec<&str> = same.map(String::as_str).collect();
    let any_changed = same.len() < columns.len();
    let mut grid = Grid::new(style, &headings);
    if any_changed {
        grid = grid.hide_first(&same);
    }
    for row in rows {
        let (sign, tone) = signed(row.kind);
        let value = |column: &String| {
            let of = |side: &Option<Value>| {
                side.as_ref().map(|side| format_value(&side[column.as_str()]))
            };
            match (of(&row.before), of(&row.after)) {
                (Some(before), Some(after)) if row.changed.contains(column) => {
                    Cell::toned(Tone::Bad, before).then(" → ").then(Cell::toned(Tone::Good, after))
                }
                (Some(value), Some(_)) => value.into(),
                (Some(value), None) | (None, Some(value)) => Cell::toned(tone, value),
                (None, None) => Cell::default(),
            }
        };
        let mut cells = vec![Cell::toned(tone, sign)];
        cells.extend(columns.iter().map(value));
        cells.extend(repeated.then(|| output::count(row.times).into()));
        grid.row(cells);
    }
    (!rows.is_empty()).then_some(grid)
}

/// Returns true if a column's values changed.
fn is_changed(rows: &[RowDiff], column: &str) -> bool {
    let values = |side: fn(&RowDiff) -> Option<&Value>| {
        let mut values: Vec<String> =
            rows.iter().filter_map(side).map(|row| row[column].to_string()).collect();
        values.sort_unstable();
        values
    };
    let (before, after) = (values(|row| row.before.as_ref()), values(|row| row.after.as_ref()));
    !before.is_empty() && !after.is_empty() && before != after
}

/// Lists the columns of the rows, in order.
fn columns(rows: &[RowDiff]) -> Vec<String> {
    let sides = rows.iter().find_map(|row| row.after.as_ref().or(row.before.as_ref()));
    let object = sides.and_then(Value::as_object);
    object.map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// Formats a value.
pub fn format_value(value: &Value) -> String {
    match value {
        Value::Null => NULL.to_owned(),
        Value::String(text) => cell(text),
        other => cell(&other.to_string()),
    }
}

/// Formats the rows as CSV: the change, and the values of both sides.
pub fn csv(rows: &[RowDiff]) -> String {
    let columns = columns(rows);
    let mut headings = vec!["change".to_owned(), "times".to_owned()];
    for side in ["from", "to"] {
        headings.extend(columns.iter().map(|column| format!("{side}_{column}")));
    }
    let mut text = csv_line(headings);
    for row in rows {
        let kind = match row.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
            ChangeKind::Same => "same",
        };
        let mut cells = vec![kind.to_owned(), row.times.to_string()];
        for side in [&row.before, &row.after] {
            cells.extend(columns.iter().map(
                |column| match side.as_ref().map(|row| &row[column]) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                },
            ));
        }
        text.push_str(&csv_line(cells));
    }
    text
}

fn csv_line(cells: Vec<String>) -> String {
    let quoted = cells.into_iter().map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    });
    format!("{}\n", quoted.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_that_changed_are_kept_in_a_narrow_terminal() {
        let row = |n: usize, delay: i64| {
            let mut row: serde_json::Map<_, _> =
                (0..n).map(|at| (format!("column_{at:02}"), json!(1))).collect();
            row.insert("column_05".to_owned(), json!(delay));
            Some(Value::Object(row))
        };
        let diff =
            |before, after, kind| RowDiff { kind, before, after, changed: Vec::new(), times: 1 };
        let rows = [
            diff(row(12, 7), None, ChangeKind::Removed),
            diff(None, row(12, 8), ChangeKind::Added),
        ];
        let text = grid(OutputStyle::plain().with_width(60), &rows).expect("rows").text();
        assert!(
            text.starts_with("   column_00  column_01  column_02  column_03  column_05\n"),
            "{text}"
        );
        assert!(text.ends_with("12 columns (5 shown); `--expanded` shows all"), "{text}");
    }

    #[test]
    fn rows_as_csv_have_both_sides() {
        let changed = RowDiff {
            kind: ChangeKind::Changed,
            before: Some(json!({"id": 1, "name": "a,b"})),
            after: Some(json!({"id": 1, "name": null})),
            changed: vec!["name".to_owned()],
            times: 1,
        };
        let expected = "change,times,from_id,from_name,to_id,to_name\nchanged,1,1,\"a,b\",1,\n";
        assert_eq!(csv(&[changed]), expected);
    }
}
