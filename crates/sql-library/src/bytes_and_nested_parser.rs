//! Values read from text, where Arrow's casts give other values than PostgreSQL: bytes, lists,
//! structs and maps.
//!
//! Arrow makes a list of one element of any text, and does not decode `'\x00ff'`. Here, a list is
//! read from PostgreSQL's array syntax, a JSON array or DuckDB's list syntax, and a struct or map
//! from a JSON object. The PostgreSQL protocol and casts to text return such texts. Invalid text is
//! an error.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, ListArray, MapArray, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options, concat};
use arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::ColumnarValue;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::array_literal::{self, ArrayItem};
use crate::bytea::{bytes_of, hexadecimal, uuid};

/// Returns true for a cast that [`parse_value`] performs instead of Arrow, from text to bytes or a
/// nested value, or from a list of such texts.
pub fn is_parsed(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::List(from), DataType::List(to)) => is_parsed(from.data_type(), to.data_type()),
        _ => from.is_string() && (to.is_binary() || to.is_nested()),
    }
}

/// Reads a value from text. Null stays null; invalid text is an error.
pub fn parse_value(value: &ColumnarValue, to: &DataType) -> Result<ColumnarValue> {
    parse_with(value, |texts| parse(texts, to))
}

/// Reads a value from text. Invalid text becomes null.
pub(crate) fn try_parse_value(value: &ColumnarValue, to: &DataType) -> Result<ColumnarValue> {
    parse_with(value, |texts| try_parse(texts, to))
}

fn parse_with(
    value: &ColumnarValue,
    parse: impl Fn(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Array(texts) => ColumnarValue::Array(parse(texts)?),
        ColumnarValue::Scalar(text) => {
            let found = parse(&text.to_array()?)?;
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        }
    })
}

/// Reads values from texts, or from lists of texts.
pub fn parse(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if let (DataType::List(_), DataType::List(element)) = (values.data_type(), to) {
        let lists = values.as_list::<i32>();
        // Take only the elements of these rows: after slicing a list array, its array of elements
        // still contains the elements of all rows.
        let (lengths, first) = (lists.offsets().lengths(), place_of(lists.value_offsets()[0]));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let elements = lists.values().slice(first, place_of(offsets[lists.len()]));
        let elements = parse(&elements, element.data_type())?;
        let nulls = lists.nulls().cloned();
        return Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, elements, nulls)?));
    }
    let texts = cast(values, &DataType::Utf8)?;
    let item =
        |text: Option<&str>| text.map_or(ArrayItem::Null, |text| ArrayItem::Text(text.to_owned()));
    build(texts.as_string::<i32>().iter().map(item).collect(), to)
}

/// Converts an offset to an index. Arrow guarantees that offsets are not negative.
fn place_of(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

/// Reads values from texts; null for invalid text.
fn try_parse(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if let Ok(found) = parse(values, to) {
        return Ok(found);
    }
    let row =
        |index: usize| parse(&values.slice(index, 1), to).unwrap_or_else(|_| new_null_array(to, 1));
    let rows: Vec<ArrayRef> = (0..values.len()).map(row).collect();
    let rows: Vec<&dyn Array> = rows.iter().map(Arc::as_ref).collect();
    Ok(concat(&rows)?)
}

fn build(items: Vec<ArrayItem>, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::List(element) => lists(items, element),
        DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            strict_cast(&lists(items, element)?, to)
        }
        DataType::Struct(fields) => structs(items, fields),
        DataType::Map(entries, is_sorted) => maps(items, entries, *is_sorted),
        _ if to.is_binary() => binaries(items, to),
        _ => {
            let texts = items.into_iter().map(text_of).collect::<Result<StringArray>>()?;
            let texts: ArrayRef = Arc::new(texts);
            strict_cast(&texts, to)
        }
    }
}

fn lists(items: Vec<ArrayItem>, element: &FieldRef) -> Result<ArrayRef> {
    let (mut lengths, mut is_valid) = (Vec::new(), Vec::new());
    let mut elements: Vec<ArrayItem> = Vec::new();
    for item in items {
        let found = elements_of(item)?;
        lengths.push(found.as_ref().map_or(0, Vec::len));
        is_valid.push(found.is_some());
        elements.extend(found.into_iter().flatten());
    }
    let elements = build(elements, element.data_type())?;
    let (offsets, nulls) = (OffsetBuffer::from_lengths(lengths), NullBuffer::from(is_valid));
    Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, elements, Some(nulls))?))
}

/// Returns the elements of a list; `None` for null.
fn elements_of(item: ArrayItem) -> Result<Option<Vec<ArrayItem>>> {
    match item {
        ArrayItem::Null => Ok(None),
        ArrayItem::Array(items) => Ok(Some(items)),
        ArrayItem::Json(json) => {
            if let Some(items) = json_array(&json) {
                return Ok(Some(items));
            }
            exec_err!("`{}` is not a JSON array", start(&json))
        }
        ArrayItem::Text(text) => {
            let items = json_array(&text).or_else(|| array_literal::parse(&text));
            if let Some(items) = items.or_else(|| array_literal::parse_list(&text)) {
                return Ok(Some(items));
            }
            exec_err!(
                "`{}` is not a valid array: write the elements in braces, such as \
                 `{{a,NULL,\"b c\"}}`",
                start(&text)
            )
        }
    }
}

/// Parses a JSON array; `None` for any other text.
fn json_array(text: &str) -> Option<Vec<ArrayItem>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    let values: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
    Some(values.iter().map(|value| json_item(value)).collect())
}

/// Parses a JSON object; `None` for any other text. If a key occurs several times, its last value
/// applies.
fn json_object(text: &str) -> Option<Vec<(String, ArrayItem)>> {
    // Parse the text twice. The first result has the keys in the order of the text; the second
    // result has the values as text, so that numbers keep all digits.
    let keys: Map<String, Value> = serde_json::from_str(text).ok()?;
    let values: HashMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    let entry = |(key, _): (String, Value)| {
        let value = values.get(&key).map_or(ArrayItem::Null, |value| json_item(value));
        (key, value)
    };
    Some(keys.into_iter().map(entry).collect())
}

/// Returns an item with the text of a JSON value, because a JSON number can have more digits than a
/// double.
fn json_item(value: &RawValue) -> ArrayItem {
    match value.get() {
        "null" => ArrayItem::Null,
        json => ArrayItem::Json(json.to_owned()),
    }
}

fn structs(items: Vec<ArrayItem>, fields: &Fields) -> Result<ArrayRef> {
    let mut is_valid = Vec::with_capacity(items.len());
    let mut columns: Vec<Vec<ArrayItem>> = fields.iter().map(|_| Vec::new()).collect();
    for item in items {
        let object = object_of(item)?;
        is_valid.push(object.is_some());
        let mut row: Vec<ArrayItem> = fields.iter().map(|_| ArrayItem::Null).collect();
        for (name, value) in object.into_iter().flatten() {
            let Some((index, _)) = fields.find(&name) else {
                let name = start(&name);
                return exec_err!("the JSON object has a field `{name}` that the type lacks");
            };
            row[index] = value;
        }
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let typed = fields.iter().zip(columns);
    let arrays = typed.map(|(field, column)| build(column, field.data_type()));
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    let nulls = NullBuffer::from(is_valid);
    Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, Some(nulls))?))
}

fn maps(items: Vec<ArrayItem>, entries: &FieldRef, is_sorted: bool) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return internal_err!("the entries of a map are not structs");
    };
    let [key, value] = &fields[..] else {
        return internal_err!("the entries of a map do not have two fields");
    };
    let (mut lengths, mut is_valid) = (Vec::new(), Vec::new());
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for item in items {
        let object = object_of(item)?;
        lengths.push(object.as_ref().map_or(0, Vec::len));
        is_valid.push(object.is_some());
        for (key, value) in object.into_iter().flatten() {
            keys.push(ArrayItem::Json(Value::from(key).to_string()));
            values.push(value);
        }
    }
    let columns = vec![build(keys, key.data_type())?, build(values, value.data_type())?];
    let pairs = StructArray::try_new(fields.clone(), columns, None)?;
    let (offsets, nulls) = (OffsetBuffer::from_lengths(lengths), NullBuffer::from(is_valid));
    let entries = Arc::clone(entries);
    Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, Some(nulls), is_sorted)?))
}

/// Returns the fields of a JSON object; `None` for null.
fn object_of(item: ArrayItem) -> Result<Option<Vec<(String, ArrayItem)>>> {
    match item {
        ArrayItem::Null => Ok(None),
        ArrayItem::Array(_) => exec_err!("an array in braces is not a JSON object"),
        ArrayItem::Json(text) | ArrayItem::Text(text) => {
            if let Some(fields) = json_object(&text) {
                return Ok(Some(fields));
            }
            exec_err!("`{}` is not a JSON object", start(&text))
        }
    }
}

/// Returns the text of a value that is not nested; `None` for null.
fn text_of(item: ArrayItem) -> Result<Option<String>> {
    match item {
        ArrayItem::Null => Ok(None),
        ArrayItem::Text(text) => Ok(Some(text)),
        ArrayItem::Json(json) if json.starts_with('"') => {
            if let Ok(text) = serde_json::from_str(&json) {
                return Ok(Some(text));
            }
            exec_err!("`{}` is not a valid JSON string", start(&json))
        }
        ArrayItem::Json(json) if json.starts_with(['[', '{']) => {
            exec_err!("`{}` is an array or an object, but its type is not", start(&json))
        }
        ArrayItem::Json(json) => Ok(Some(json)),
        ArrayItem::Array(_) => exec_err!(
            "the array has more dimensions than its type: write a quoted element, such as \
             `{{\"{{a}}\"}}`"
        ),
    }
}

/// Reads bytes. In JSON, bytes are hexadecimal digits without a prefix.
fn binaries(items: Vec<ArrayItem>, to: &DataType) -> Result<ArrayRef> {
    let is_uuid = *to == DataType::FixedSizeBinary(16);
    let mut values: Vec<Option<Vec<u8>>> = Vec::with_capacity(items.len());
    for item in items {
        let is_json = matches!(item, ArrayItem::Json(_));
        let Some(text) = text_of(item)? else {
            values.push(None);
            continue;
        };
        let id = if is_uuid { uuid(&text) } else { None };
        let found = id.or_else(|| if is_json { hexadecimal(&text) } else { bytes_of(&text) });
        if found.is_none() {
            return exec_err!(
                "`{}` is not valid bytea text: write `\\x` and pairs of hexadecimal digits, or \
                 `\\\\` for a backslash and `\\377` for a byte",
                start(&text)
            );
        }
        values.push(found);
    }
    let values: ArrayRef = Arc::new(values.into_iter().collect::<BinaryArray>());
    strict_cast(&values, to)
}

/// Casts values; a value that does not fit is an error, not null.
fn strict_cast(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(values, to, &options)?)
}

/// Returns the first characters of a text, for an error message.
fn start(text: &str) -> String {
    text.chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn check(text: &str, to: &DataType, expected: Option<&str>) {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(text), None]));
        let found = parse(&texts, to);
        let Some(expected) = expected else {
            assert!(found.is_err(), "`{text}` is not {to}");
            let found = try_parse(&texts, to).expect("nulls");
            assert_eq!((found.data_type(), found.null_count()), (to, 2));
            return;
        };
        let found = found.expect(text);
        assert_eq!(found.data_type(), to);
        assert_eq!(array_value_to_string(&found, 0).expect("a text"), expected, "`{text}`");
        assert!(found.is_null(1));
    }

    fn list(element: DataType) -> DataType {
        DataType::new_list(element, true)
    }

    #[test]
    fn lists_are_arrays_of_postgresql_or_json() {
        check("{a,NULL,\"b,c\"}", &list(DataType::Utf8), Some("[a, , b,c]"));
        check("{}", &list(DataType::Utf8View), Some("[]"));
        check("{1, -2}", &list(DataType::Int64), Some("[1, -2]"));
        check("[1, null]", &list(DataType::Int64), Some("[1, ]"));
        check("{t,f}", &list(DataType::Boolean), Some("[true, false]"));
        check("{\"\\\\x00ff\"}", &list(DataType::Binary), Some("[00ff]"));
        check("{{1},{2,3}}", &list(list(DataType::Int32)), Some("[[1], [2, 3]]"));
        check("[[1], null]", &list(list(DataType::Int32)), Some("[[1], ]"));
        let decimals = list(DataType::Decimal128(38, 20));
        check("[1.00000000000000000001]", &decimals, Some("[1.00000000000000000001]"));
        check("[9007199254740993]", &list(DataType::Utf8), Some("[9007199254740993]"));
        check("[\"a\\n\", 1.50]", &list(DataType::Utf8), Some("[a\n, 1.50]"));
        check("[a, 'b, c', NULL]", &list(DataType::Utf8), Some("[a, b, c, ]"));
        check("[2026-01-31]", &list(DataType::Date32), Some("[2026-01-31]"));
        for text in ["a", "", "a,b", "{a", "[a", "[a,]", "{{a}}", "[[1]]", "[[a]]"] {
            check(text, &list(DataType::Utf8), None);
        }
        check("{a}", &list(DataType::Int64), None);
    }

    #[test]
    fn structs_and_maps_are_json_objects() {
        let fields =
            vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Binary, true)];
        let fields = DataType::Struct(fields.into());
        check(r#"{"b": "00ff", "a": 1}"#, &fields, Some("{a: 1, b: 00ff}"));
        check(r#"[{"a": 1}]"#, &list(fields.clone()), Some("[{a: 1, b: }]"));
        for text in ["1", "{a}", "[]", r#"{"c": 1}"#, r#"{"a": "x"}"#, r#"{"b": "0"}"#] {
            check(text, &fields, None);
        }
        let entries = vec![
            Field::new("key", DataType::Int32, false),
            Field::new("value", list(DataType::Utf8), true),
        ];
        let entries = Field::new("entries", DataType::Struct(entries.into()), false);
        let map = DataType::Map(Arc::new(entries), false);
        check(r#"{"8": null, "7": ["x"]}"#, &map, Some("{8: , 7: [x]}"));
    }

    #[test]
    fn bytes_have_the_forms_of_postgresql() {
        check("\\x00ff", &DataType::Binary, Some("00ff"));
        check("a\\377", &DataType::BinaryView, Some("61ff"));
        check("\\xf", &DataType::Binary, None);
        check("\\x0102", &DataType::FixedSizeBinary(2), Some("0102"));
        check("\\x01", &DataType::FixedSizeBinary(2), None);
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        check(id, &DataType::FixedSizeBinary(16), Some(&id.replace('-', "")));
    }

    #[test]
    fn lists_of_texts_are_read_by_element() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{a}", "b", "{c}"]));
        let field = Arc::new(Field::new("item", DataType::Utf8, true));
        let offsets = OffsetBuffer::from_lengths([1, 1, 1]);
        let lists: ArrayRef = Arc::new(ListArray::new(field, offsets, texts, None));
        let to = list(list(DataType::Utf8));
        assert!(parse(&lists, &to).is_err());
        let found = try_parse(&lists, &to).expect("lists");
        assert_eq!(array_value_to_string(&found, 2).expect("a text"), "[[c]]");
        assert!(found.is_null(1));
        assert!(is_parsed(&list(DataType::Utf8View), &list(DataType::Binary)));
        assert!(!is_parsed(&list(DataType::Utf8), &list(DataType::Int64)));
        assert!(!is_parsed(&DataType::Utf8, &DataType::Int64));
    }
}
