//! Tests of dbt as expectations: conditions in SQL models, and Python functions.

use headwater_model::name::quoted;
use serde_json::Value;

use crate::project_file::texts;
use crate::properties::DeclaredTest;
use crate::template::TableNames;

/// A converted test.
pub(crate) enum ConvertedTest {
    /// A setting of the SQL model: `expect` or `expect_or_warn`, and the condition.
    Row(&'static str, String),
    /// A Python expectation; its name is made unique later.
    Function(ExpectationFunction),
}

/// A Python expectation.
pub(crate) struct ExpectationFunction {
    pub name: String,
    pub is_warning: bool,
    /// The parameters with their default values, as Python code.
    pub inputs: Vec<String>,
    /// The expression that the function returns.
    pub result: String,
}

impl ExpectationFunction {
    /// Returns the function's code.
    pub fn code(&self, name: &str) -> String {
        let severity = if self.is_warning { "severity=\"warn\"" } else { "" };
        let inputs = self.inputs.join(",\n    ");
        let result = &self.result;
        format!(
            "\n\n@headwater.expectation({severity})\ndef {name}(\n    {inputs},\n):\n    return {result}\n"
        )
    }
}

/// Converts a test of a table. `is_sql_model` is true if row expectations are possible. Returns the
/// reason if the test cannot be converted.
pub(crate) fn convert(
    table: &str,
    test: &DeclaredTest,
    is_sql_model: bool,
    tables: &TableNames,
) -> Result<ConvertedTest, String> {
    let DeclaredTest { name, column, arguments, .. } = test;
    for unsupported in ["where", "warn_if", "error_if", "limit"] {
        if arguments.contains_key(unsupported) {
            return Err(format!("the test `{name}` uses `{unsupported}`, which is not supported"));
        }
    }
    let column = column.as_deref().ok_or_else(|| format!("the test `{name}` has no column"))?;
    let is_warning = arguments.get("severity").and_then(Value::as_str).is_some_and(is_warn);
    let setting = if is_warning { "expect_or_warn" } else { "expect" };
    let written = quoted(column);
    let python = |filter: &str, result: String| {
        let filter = if filter.is_empty() { String::new() } else { format!(", filter={filter:?}") };
        let input = format!("rows=headwater.Model({table:?}, columns=[{column:?}]{filter})");
        let name = identifier(&format!("{name}_{table}_{column}"));
        ConvertedTest::Function(ExpectationFunction {
            name,
            is_warning,
            inputs: vec![input],
            result,
        })
    };
    let known = format!("{written} IS NOT NULL");
    match name.as_str() {
        "not_null" if is_sql_model => Ok(ConvertedTest::Row(setting, known)),
        "not_null" => {
            Ok(python("", format!("expectations.expect_column_no_nulls(rows, {column:?})")))
        }
        "unique" => {
            Ok(python(&known, format!("expectations.expect_column_all_unique(rows, {column:?})")))
        }
        "accepted_values" => {
            let values = arguments.get("values").and_then(Value::as_array);
            let values = values.ok_or("the test `accepted_values` has no `values`")?;
            if is_sql_model {
                let listed = values.iter().map(literal).collect::<Vec<_>>().join(", ");
                let condition = format!("{written} IS NULL OR {written} IN ({listed})");
                return Ok(ConvertedTest::Row(setting, condition));
            }
            let listed = values.iter().map(python_literal).collect::<Vec<_>>().join(", ");
            let call = "expectations.expect_column_accepted_values";
            Ok(python(&known, format!("{call}(rows, {column:?}, [{listed}])")))
        }
        "relationships" => relationships(python, arguments, column, &known, tables),
        other => Err(format!("the test `{other}` has no equivalent in Headwater")),
    }
}

fn relationships(
    python: impl Fn(&str, String) -> ConvertedTest,
    arguments: &crate::project_file::Settings,
    column: &str,
    known: &str,
    tables: &TableNames,
) -> Result<ConvertedTest, String> {
    let incomplete = || "the test `relationships` has no `to` or `field`".to_owned();
    let to = texts(arguments.get("to")).pop().ok_or_else(incomplete)?;
    let field = texts(arguments.get("field")).pop().ok_or_else(incomplete)?;
    let other = reference(&to, tables).ok_or_else(|| format!("`{to}` is not `ref('model')`"))?;
    let result = format!("set(rows[{column:?}].to_pylist()) <= set(others[{field:?}].to_pylist())");
    let ConvertedTest::Function(mut function) = python(known, result) else {
        return Err(incomplete());
    };
    function.inputs.push(format!("others=headwater.Model({other:?}, columns=[{field:?}])"));
    Ok(ConvertedTest::Function(function))
}

/// Returns the table of `ref('name')` or `source('source', 'table')`.
fn reference(text: &str, tables: &TableNames) -> Option<String> {
    let (call, rest) = text.trim().split_once('(')?;
    let names = rest.strip_suffix(')')?.split(',');
    let names: Vec<&str> = names.map(|name| name.trim().trim_matches(['\'', '"'])).collect();
    match (call.trim(), &names[..]) {
        ("ref", [.., name]) => Some(tables.table(name).to_owned()),
        ("source", [source, table]) => Some(tables.source(source, table)),
        _ => None,
    }
}

fn is_warn(severity: &str) -> bool {
    severity.eq_ignore_ascii_case("warn")
}

/// Returns a value as an SQL literal.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

fn python_literal(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}

/// Converts a text to a name for a Python function: lower case, with underscores for all characters
/// but letters and digits.
pub(crate) fn identifier(text: &str) -> String {
    let part = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(part).collect()
}
