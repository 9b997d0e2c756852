//! Compares the expected rows with the rows that a model returned, in any order.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater_project::unit_test::TestRow;

use super::given_rows;

/// Maximum number of differing rows to show for each side.
const SHOWN_MAX: usize = 20;

/// Returns the differences, one line each; empty if there are none. Only the columns of the
/// expected rows are compared. Fails if an expected value does not fit its column.
pub(super) fn differences(
    expected: &[TestRow],
    actual: &[RecordBatch],
) -> Result<Vec<String>, String> {
    let got: usize = actual.iter().map(RecordBatch::num_rows).sum();
    if expected.is_empty() {
        let text = format!("expected no rows, got {got}");
        return Ok(if got == 0 { Vec::new() } else { vec![text] });
    }
    let expected = given_rows::untyped(expected, &BTreeMap::new())?;
    let Some(first) = actual.first() else {
        return Ok(vec![format!("expected {} rows, got none", expected.num_rows())]);
    };
    let names: Vec<String> =
        expected.schema().fields().iter().map(|field| field.name().clone()).collect();
    let has = |name: &&String| first.schema().index_of(name).is_err();
    let missing: Vec<String> =
        names.iter().filter(has).map(|name| format!("column `{name}` is missing")).collect();
    if !missing.is_empty() {
        return Ok(missing);
    }
    let mut counts: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    let mut columns = Vec::new();
    for name in &names {
        let kind = first.column_by_name(name).map(|column| column.data_type().clone());
        columns.push(converted(&expected, name, &kind.unwrap_or(DataType::Utf8))?);
    }
    for row in texts(&columns)? {
        *counts.entry(row).or_default() += 1;
    }
    for batch in actual {
        let columns: Vec<ArrayRef> =
            names.iter().filter_map(|name| batch.column_by_name(name).cloned()).collect();
        for row in texts(&columns)? {
            *counts.entry(row).or_default() -= 1;
        }
    }
    Ok(lines(&names, &counts))
}

/// Returns a column of the expected rows, cast to the type of the returned column.
fn converted(expected: &RecordBatch, name: &str, kind: &DataType) -> Result<ArrayRef, String> {
    let column =
        expected.column_by_name(name).ok_or_else(|| format!("column `{name}` is missing"))?;
    let cast = cast(column, kind).map_err(|error| format!("column `{name}`: {error}"))?;
    if cast.null_count() > column.null_count() {
        return Err(format!("a value of column `{name}` is not a {kind}"));
    }
    Ok(cast)
}

/// Returns the rows as text, with floats rounded to 12 digits.
fn texts(columns: &[ArrayRef]) -> Result<Vec<Vec<String>>, String> {
    let options = FormatOptions::default().with_null("null");
    let mut formatters = Vec::new();
    for column in columns {
        let formatter = ArrayFormatter::try_new(column, &options);
        formatters.push((formatter.map_err(|error| error.to_string())?, column));
    }
    let count = columns.first().map_or(0, Array::len);
    let text = |row: usize, (formatter, column): &(ArrayFormatter<'_>, &ArrayRef)| {
        let text = formatter.value(row).to_string();
        let is_float = column.data_type().is_floating() && !column.is_null(row);
        match text.parse::<f64>().ok().filter(|_| is_float) {
            Some(number) => rounded(number),
            None => text,
        }
    };
    Ok((0..count).map(|row| formatters.iter().map(|one| text(row, one)).collect()).collect())
}

fn rounded(number: f64) -> String {
    let rounded: f64 = format!("{number:.11e}").parse().unwrap_or(number);
    rounded.to_string()
}

fn lines(names: &[String], counts: &BTreeMap<Vec<String>, i64>) -> Vec<String> {
    let side = |sign: char, wanted: fn(i64) -> i64| {
        let rows = counts.iter().filter(move |(_, count)| wanted(**count) > 0);
        let rows = rows.flat_map(move |(row, count)| {
            std::iter::repeat_n(row, usize::try_from(wanted(*count)).unwrap_or_default())
        });
        let line = |row: &Vec<String>| {
            let cells = names.iter().zip(row).map(|(name, cell)| format!("{name}={cell}"));
            format!("{sign} {}", cells.collect::<Vec<_>>().join(", "))
        };
        let mut lines: Vec<String> = rows.map(line).collect();
        let more = lines.len().saturating_sub(SHOWN_MAX);
        lines.truncate(SHOWN_MAX);
        if more > 0 {
            lines.push(format!("{sign} and {more} more rows"));
        }
        lines
    };
    let (missing, unexpected) = (side('-', |count| count), side('+', |count| -count));
    if missing.is_empty() && unexpected.is_empty() {
        return Vec::new();
    }
    let head = "rows differ: `-` is expected and missing, `+` is returned and not expected";
    std::iter::once(head.to_owned()).chain(missing).chain(unexpected).collect()
}
