//! JSON in text columns: `json_extract(text, path)` and `json_extract_string(text, path)`, which
//! can also be written as `text ->> path`. The operators `#>` and `#>>` have an array of keys as
//! their path: `text #>> '{user,tags,0}'`.
//!
//! A path is a key, an index from 0, or a sequence of keys and indexes: `$.user.tags[0]`. The
//! result is null if the text is not JSON or has no value at the path. Wildcards and filters are
//! errors.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use headwater_sql::array_elements;
use headwater_sql::expression::{JSON_PATH_PART, JSON_PATH_TEXT, JSON_TEXT};
use serde_json::Value;

/// Returns the functions `json_extract` and `json_extract_string`, and those of `#>` and `#>>`.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 4] {
    let functions = [
        ("json_extract", false, false),
        (JSON_TEXT, true, false),
        (JSON_PATH_PART, false, true),
        (JSON_PATH_TEXT, true, true),
    ];
    functions.map(|(name, is_text, has_array)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(JsonExtract { name, is_text, has_array, signature }))
    })
}

/// A function that extracts a part of JSON text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonExtract {
    name: &'static str,
    /// True to return a JSON string as its text without quotes; false to return it as JSON.
    is_text: bool,
    /// True if the path is an array of keys, or the text of such an array.
    has_array: bool,
    signature: Signature,
}

impl ScalarUDFImpl for JsonExtract {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name;
        let [text, path] = arguments else {
            return plan_err!("`{name}` takes a text and a path");
        };
        if !text.is_string() && !text.is_null() {
            return plan_err!("the first argument of `{name}` must be text, not {text}");
        }
        match path {
            DataType::List(key) if self.has_array && key.data_type().is_string() => {
                Ok(vec![DataType::Utf8, DataType::new_list(DataType::Utf8, true)])
            }
            path if self.has_array && !path.is_string() && !path.is_null() => {
                plan_err!("the path of `{name}` must be an array of strings, not {path}")
            }
            path if path.is_integer() => Ok(vec![DataType::Utf8, DataType::Int64]),
            path if path.is_string() || path.is_null() => Ok(vec![DataType::Utf8, DataType::Utf8]),
            path => plan_err!("the path of `{name}` must be text or an index, not {path}"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let Ok([text, path]) = <[ColumnarValue; 2]>::try_from(arguments.args) else {
            return internal_err!("`{}` takes two arguments", self.name);
        };
        let is_single =
            matches!((&text, &path), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let text = text.into_array(if is_single { 1 } else { rows })?;
        let text: &StringArray = text.as_string();
        let found = match path {
            ColumnarValue::Scalar(path) => match self.steps(&path)? {
                Some(steps) => self.extract(text, |_| Ok(Some(steps.clone())))?,
                None => StringArray::new_null(text.len()),
            },
            ColumnarValue::Array(paths) => {
                self.extract(text, |row| self.steps(&ScalarValue::try_from_array(&paths, row)?))?
            }
        };
        let found: ArrayRef = Arc::new(found);
        Ok(if is_single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

impl JsonExtract {
    fn steps(&self, path: &ScalarValue) -> Result<Option<Vec<JsonPathStep>>> {
        if self.has_array { members_of(path) } else { steps_of(path) }
    }

    fn extract(
        &self,
        text: &StringArray,
        steps: impl Fn(usize) -> Result<Option<Vec<JsonPathStep>>>,
    ) -> Result<StringArray> {
        let mut found = StringBuilder::with_capacity(text.len(), 0);
        for row in 0..text.len() {
            let part = match steps(row)? {
                Some(steps) if text.is_valid(row) => self.part(text.value(row), &steps),
                _ => None,
            };
            found.append_option(part);
        }
        Ok(found.finish())
    }

    fn part(&self, text: &str, steps: &[JsonPathStep]) -> Option<String> {
        let json: Value = serde_json::from_str(text).ok()?;
        match part_of(&json, steps)? {
            Value::String(text) if self.is_text => Some(text.clone()),
            Value::Null if self.is_text => None,
            part => Some(part.to_string()),
        }
    }
}

/// Returns the part of a JSON value at a path.
pub(crate) fn part_of<'j>(json: &'j Value, steps: &[JsonPathStep]) -> Option<&'j Value> {
    steps.iter().try_fold(json, |json, step| match step {
        JsonPathStep::Key(key) => json.get(key),
        JsonPathStep::Index(index) => json.get(*index),
        JsonPathStep::Member(key) => member(json, key),
    })
}

/// Returns the value of a key of an object, or the element of an array. Negative indexes count from
/// the end of the array.
fn member<'j>(json: &'j Value, key: &str) -> Option<&'j Value> {
    let Value::Array(items) = json else { return json.get(key) };
    let index = key.trim().parse::<i64>().ok()?;
    let start = if index < 0 { i64::try_from(items.len()).ok()? } else { 0 };
    items.get(usize::try_from(start.checked_add(index)?).ok()?)
}

/// A step into an object or an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonPathStep {
    Key(String),
    Index(usize),
    /// A key of an object, or the index of an element of an array.
    Member(String),
}

/// Returns the steps of a path that is an array of keys; `None` for null, and if a key is null.
fn members_of(path: &ScalarValue) -> Result<Option<Vec<JsonPathStep>>> {
    let keys: Vec<Option<String>> = match path {
        ScalarValue::Utf8(Some(text)) => array_elements(text).ok_or_else(|| {
            plan_datafusion_err!("`{text}` is not an array of keys, such as `{{user,tags,0}}`")
        })?,
        ScalarValue::List(list) if list.is_valid(0) => {
            list.value(0).as_string::<i32>().iter().map(|key| key.map(str::to_owned)).collect()
        }
        _ => return Ok(None),
    };
    Ok(keys.into_iter().map(|key| key.map(JsonPathStep::Member)).collect())
}

/// Returns the steps of a path; `None` for null and negative indexes.
pub(crate) fn steps_of(path: &ScalarValue) -> Result<Option<Vec<JsonPathStep>>> {
    match path {
        ScalarValue::Int64(index) => {
            let index = index.and_then(|index| usize::try_from(index).ok());
            Ok(index.map(|index| vec![JsonPathStep::Index(index)]))
        }
        ScalarValue::Utf8(Some(path)) => match path.strip_prefix('$') {
            Some(rest) => Ok(Some(json_path(rest).ok_or_else(|| {
                plan_datafusion_err!(
                    "`{path}` is not a path of keys and indexes, such as `$.user.tags[0]`"
                )
            })?)),
            None => Ok(Some(vec![JsonPathStep::Key(path.clone())])),
        },
        _ => Ok(None),
    }
}

/// Parses the rest of a path after `$`.
fn json_path(mut rest: &str) -> Option<Vec<JsonPathStep>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix(".\"").or_else(|| rest.strip_prefix("[\"")) {
            let (key, after) = quoted.split_once('"')?;
            steps.push(JsonPathStep::Key(key.to_owned()));
            rest = if rest.starts_with('[') { after.strip_prefix(']')? } else { after };
        } else if let Some(key) = rest.strip_prefix('.') {
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let (key, after) = key.split_at(end);
            if key.is_empty() || key.contains(['*', '?', '@']) {
                return None;
            }
            steps.push(JsonPathStep::Key(key.to_owned()));
            rest = after;
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(JsonPathStep::Index(index.trim().parse().ok()?));
            rest = after;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        let shown = json_path(path).map(|steps| {
            let shown = steps.iter().map(|step| match step {
                JsonPathStep::Key(key) | JsonPathStep::Member(key) => format!("{key:?}"),
                JsonPathStep::Index(index) => index.to_string(),
            });
            shown.collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.as_deref(), expected, "`${path}`");
    }

    #[test]
    fn a_path_has_keys_and_indexes() {
        check("", Some(""));
        check(".a.b[0].c", Some(r#""a" "b" 0 "c""#));
        check(r#"."a b"["c.d"][12]"#, Some(r#""a b" "c.d" 12"#));
        for wrong in ["a", ".", "..a", ".*", "[*]", "[-1]", "[0", r#".""#, ".a[?(@.b)]"] {
            check(wrong, None);
        }
    }
}
