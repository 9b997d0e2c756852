//! Functions that return the list of a regular expression's matches, or of the texts between the
//! matches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use regex::Regex;

use crate::scalar_function;

/// Returns the functions `regexp_extract_all` and `regexp_split_to_array`.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(RegexpFunction { name, signature }))
    };
    vec![function("regexp_extract_all"), function("regexp_split_to_array")]
}

/// `regexp_extract_all(text, pattern [, group])` or `regexp_split_to_array(text, pattern)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RegexpFunction {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for RegexpFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |given: &DataType| given.is_string() || given.is_null();
        let is_group = |given: &DataType| given.is_integer() || given.is_null();
        match arguments {
            [text, pattern] if is_text(text) && is_text(pattern) => {
                Ok(vec![DataType::Utf8, DataType::Utf8])
            }
            [text, pattern, group]
                if is_text(text)
                    && is_text(pattern)
                    && is_group(group)
                    && self.name == "regexp_extract_all" =>
            {
                Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64])
            }
            _ => plan_err!("`{}` takes a text and a pattern", self.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Utf8, true))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.name {
            "regexp_extract_all" => scalar_function::invoke(&arguments.args, extract_all),
            _ => scalar_function::invoke(&arguments.args, split),
        }
    }
}

fn extract_all(values: &[ArrayRef]) -> Result<ArrayRef> {
    let groups = values.get(2).map(AsArray::as_primitive::<Int64Type>);
    lists(values, |row, text, pattern, list| {
        let group = match groups {
            Some(groups) if groups.is_null(row) => return Ok(()),
            Some(groups) => usize::try_from(groups.value(row)).unwrap_or(usize::MAX),
            None => 0,
        };
        if group >= pattern.captures_len() {
            return exec_err!("the pattern `{pattern}` has no group {group}");
        }
        for found in pattern.captures_iter(text) {
            list.append_option(found.get(group).map(|found| found.as_str()));
        }
        Ok(())
    })
}

fn split(values: &[ArrayRef]) -> Result<ArrayRef> {
    lists(values, |_, text, pattern, list| {
        pattern.split(text).for_each(|part| list.append_value(part));
        Ok(())
    })
}

/// Builds a list for each row. Each distinct pattern is compiled once.
fn lists(
    values: &[ArrayRef],
    build: impl Fn(usize, &str, &Regex, &mut StringBuilder) -> Result<()>,
) -> Result<ArrayRef> {
    let (texts, patterns) = (values[0].as_string::<i32>(), values[1].as_string::<i32>());
    let mut compiled: HashMap<&str, Regex> = HashMap::new();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..texts.len() {
        if texts.is_null(row) || patterns.is_null(row) {
            lists.append_null();
            continue;
        }
        let pattern = patterns.value(row);
        if !compiled.contains_key(pattern) {
            match Regex::new(pattern) {
                Ok(regex) => drop(compiled.insert(pattern, regex)),
                Err(error) => {
                    let reason = error.to_string();
                    let reason = reason.lines().last().unwrap_or_default().to_owned();
                    return exec_err!("the pattern `{pattern}` is not valid: {reason}");
                }
            }
        }
        build(row, texts.value(row), &compiled[pattern], lists.values())?;
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
