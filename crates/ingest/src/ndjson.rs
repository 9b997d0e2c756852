//! JSON: one object per line, or an array of objects; each field maps to its column.
//!
//! Values keep their text form. A text column preserves the digits of a number and the text of an
//! object. Decimals are not converted to floating point. Objects become structs, and arrays become
//! lists.

use super::bad_row::RowError;
use super::csv_header::ColumnIndex;
use super::json_array::json_lines;
use super::json_value::{JsonValueError, put, read_object};
use super::line_reader::{LineReader, NextLine, too_long};
use super::progress::{CountingReader, StageProgress};
use super::row_builder::{RowBuilder, RowSink};
use super::source::SourceFile;
use super::text_file::{ErrorContext, open_text};
use crate::error::Result;

/// Returns the trimmed text of a line, or a fault if it is not valid text.
pub(crate) fn line_text<'a>(
    line: &'a [u8],
    number: u64,
    trouble: &ErrorContext<'_>,
) -> Result<&'a str, RowError> {
    std::str::from_utf8(line).map(str::trim_ascii).map_err(|_| {
        let mut fault = RowError::new(number, trouble.invalid(), line);
        fault.encoding = true;
        fault
    })
}

/// Reads the rows of a file into the table's columns.
pub(crate) fn read_rows(
    source: &SourceFile,
    tap: &mut CountingReader,
    encoding: Option<&'static encoding_rs::Encoding>,
    rows: &mut RowBuilder,
    output: &mut RowSink,
    meter: &StageProgress,
) -> Result<()> {
    let text = open_text(source, tap, encoding)?;
    let trouble = text.trouble;
    let reader = json_lines(text.reader).map_err(|error| trouble.read(error))?;
    let mut lines = LineReader::new(reader);
    let schema = rows.schema().clone();
    let index = ColumnIndex::new(schema.fields().iter().map(|field| field.name().as_str()));
    loop {
        let fault = match lines.advance().map_err(|error| trouble.read(error))? {
            NextLine::End => return Ok(()),
            NextLine::TooLong => Some(RowError::new(lines.number, too_long(), b"")),
            NextLine::Line => match line_text(lines.line(), lines.number, &trouble) {
                Err(fault) => Some(fault),
                Ok("") => None,
                Ok(text) => append_row(text, rows, &index).err().map(|fault| {
                    rows.end_bad_row();
                    to_row_fault(fault, lines.number, lines.line())
                }),
            },
        };
        if let Some(fault) = fault {
            output.reject(&source.name, fault)?;
        }
        if rows.is_full() {
            meter.check()?;
            output.send(rows.take()?)?;
        }
    }
}

fn append_row(
    text: &str,
    rows: &mut RowBuilder,
    index: &ColumnIndex,
) -> Result<(), JsonValueError> {
    if !text.starts_with('{') {
        let reason = "the line is not a JSON object".to_owned();
        return Err(JsonValueError { path: String::new(), value: None, reason });
    }
    let row = rows.len();
    let schema = rows.schema().clone();
    let mut guess = 0;
    read_object(text, |key, value| {
        let place = match schema.fields().get(guess) {
            Some(field) if field.name() == key => Some(guess),
            _ => index.get(key),
        };
        guess = place.map_or(guess, |place| place + 1);
        put(place, &mut rows.columns, row, key, value)
    })?;
    for (column, field) in rows.columns.iter_mut().zip(schema.fields()) {
        if !field.is_nullable() && column.len() <= row {
            let (path, reason) =
                (field.name().clone(), "the column is required and the value is null".to_owned());
            return Err(JsonValueError { path, value: None, reason });
        }
        column.repair(row + 1);
    }
    rows.end_row(text.len());
    Ok(())
}

fn to_row_fault(fault: JsonValueError, line: u64, bytes: &[u8]) -> RowError {
    let row = RowError::new(line, fault.reason, bytes);
    match (fault.path.is_empty(), fault.value) {
        (true, _) => row,
        (false, value) => row.in_column(&fault.path, value.as_deref().unwrap_or("null")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;
    use crate::json_statistics::{JsonPosition, record_object};
    use headwater_lake::json_rows;

    fn rows_of(lines: &[&str]) -> (Vec<serde_json::Value>, Vec<String>) {
        let list = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
        let inner = DataType::Struct(
            vec![Field::new("x", DataType::Int64, true), Field::new("y", list, true)].into(),
        );
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("in", inner, true),
        ]));
        let mut rows = RowBuilder::new(&schema, "f").unwrap();
        let index = ColumnIndex::new(["id", "text", "in"].into_iter());
        let mut faults = Vec::new();
        for line in lines {
            if let Err(fault) = append_row(line, &mut rows, &index) {
                rows.end_bad_row();
                faults.push(format!("{}: {}", fault.path, fault.reason));
            }
        }
        (json_rows(&[rows.take().unwrap()]).unwrap(), faults)
    }

    #[test]
    fn objects_become_rows_with_their_original_text() {
        let (rows, faults) = rows_of(&[
            r#"{"id": 1, "text": "a\nb", "in": {"x": 1, "y": [1, null, 2]}}"#,
            r#"{"text": 12345678901234567890.10, "ID": "7"}"#,
            r#"{"id": 2.0, "text": {"k": [1, 2]}, "in": {"y": []}}"#,
            r#"{"id": null, "in": null}"#,
        ]);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(rows[0]["in"], serde_json::json!({"x": 1, "y": [1, null, 2]}));
        assert_eq!(rows[1]["text"], "12345678901234567890.10");
        assert_eq!((&rows[1]["id"], &rows[2]["id"]), (&7.into(), &2.into()));
        assert_eq!(rows[2]["text"], r#"{"k": [1, 2]}"#);
        assert_eq!(rows[3]["in"], serde_json::Value::Null);
    }

    #[test]
    fn bad_rows_are_skipped_with_their_reason() {
        let (rows, faults) = rows_of(&[
            r#"{"id": 1}"#,
            r#"{"id": 1.5}"#,
            r#"{"id": 1, "id": 2}"#,
            r#"{"in": {"x": 1, "y": [1, "x"]}}"#,
            r#"{"in": {"z": 1}}"#,
            r#"{"id": 1"#,
            r#"{"id": 1} x"#,
            "[1]",
            r#"{"text": "ok"}"#,
        ]);
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(rows[1]["text"], "ok");
        let expected = [
            "id: `1.5` is not a long",
            "id: the field occurs twice",
            "in.y.element: `x` is not a long",
            "in.z: the table does not have this field",
            ": EOF while parsing an object at character 8",
            ": trailing characters at character 11",
            ": the line is not a JSON object",
        ];
        assert_eq!(faults, expected);
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e9..1e9_f64).prop_map(Into::into),
            "[a-c]{0,2}".prop_map(Into::into),
            Just("2013-01-01".into()),
            Just("2013-01-01T00:00:00Z".into()),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
                proptest::collection::btree_map("[xyz]", inner, 0..3).prop_map(|fields| fields
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        /// Types that are inferred from lines must accept all of these lines.
        #[test]
        fn inferred_types_accept_the_values(
            rows in proptest::collection::vec(
                proptest::collection::btree_map("[abc]", any_value(), 1..4),
                1..6,
            ),
        ) {
            let lines: Vec<String> = rows.iter().map(|row| serde_json::json!(row).to_string()).collect();
            let mut fields = crate::type_inference::FieldStatistics::default();
            let file: Arc<str> = Arc::from("f");
            for line in &lines {
                let place = JsonPosition { line: 1, file: &file };
                record_object(line, &mut fields, &|_| false, place).unwrap();
            }
            let fields: Vec<Field> = fields
                .into_vec()
                .into_iter()
                .map(|(name, evidence)| Field::new(name, evidence.resolve().unwrap().data_type, true))
                .collect();
            let index = ColumnIndex::new(fields.iter().map(|field| field.name().as_str()));
            let mut table = RowBuilder::new(&Arc::new(Schema::new(fields.clone())), "f").unwrap();
            for line in &lines {
                if let Err(fault) = append_row(line, &mut table, &index) {
                    return Err(TestCaseError::fail(format!("{fault:?} in {line} of {lines:?}")));
                }
            }
            prop_assert_eq!(table.take().unwrap().num_rows(), rows.len());
        }
    }
}
