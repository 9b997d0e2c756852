//! Texts of times without seconds, such as `2026-01-31 10:00`, which Arrow does not read.
//!
//! After type coercion, the seconds are added to each text that is cast to a timestamp.
//!
//! Upstream: no issue found (November 2026)

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};

/// Adds missing seconds to the text in a cast of text to a timestamp.
pub(crate) fn add_seconds(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (text, to) = match &mut expr {
        Expr::Cast(cast) => (&mut cast.expr, cast.field.data_type()),
        Expr::TryCast(cast) => (&mut cast.expr, cast.field.data_type()),
        _ => return Transformed::no(expr),
    };
    if !matches!(to, DataType::Timestamp(..)) {
        return Transformed::no(expr);
    }
    let completed = match &**text {
        Expr::Literal(value, _) => value.try_as_str().flatten().and_then(completed).map(lit),
        text if text.get_type(schema).is_ok_and(|of| of.is_string()) => {
            Some(WITH_SECONDS.call(vec![text.clone()]))
        }
        _ => None,
    };
    match completed {
        Some(completed) => {
            **text = completed;
            Transformed::yes(expr)
        }
        None => Transformed::no(expr),
    }
}

/// Returns the text with `:00` added if it has hours and minutes but no seconds; `None` for other
/// texts.
fn completed(text: &str) -> Option<String> {
    let (date, time) = text.split_at(text.find([' ', 'T', 't'])?);
    let is_date = date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let [_, h1, h2, b':', m1, m2, after @ ..] = time.as_bytes() else { return None };
    let are_digits = [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit);
    let ends = matches!(after.first(), None | Some(b'+' | b'-' | b' ' | b'Z' | b'z'));
    if !is_date || date.is_empty() || !are_digits || !ends {
        return None;
    }
    let (minutes, zone) = time.split_at(6);
    Some(format!("{date}{minutes}:00{zone}"))
}

/// Adds the missing seconds to each text that has none.
pub fn with_seconds(value: &ColumnarValue) -> Result<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Scalar(scalar) => {
            let text = scalar.try_as_str().flatten();
            let text = text.map(|text| completed(text).unwrap_or_else(|| text.to_owned()));
            ColumnarValue::Scalar(ScalarValue::Utf8(text))
        }
        ColumnarValue::Array(array) => ColumnarValue::Array(all_with_seconds(array)?),
    })
}

fn all_with_seconds(array: &ArrayRef) -> Result<ArrayRef> {
    let array = cast(array, &DataType::Utf8)?;
    let texts = array.as_string::<i32>();
    if texts.iter().flatten().all(|text| completed(text).is_none()) {
        return Ok(array);
    }
    let whole = |text: &str| completed(text).unwrap_or_else(|| text.to_owned());
    Ok(Arc::new(texts.iter().map(|text| text.map(whole)).collect::<StringArray>()))
}

static WITH_SECONDS: LazyLock<ScalarUDF> = LazyLock::new(|| {
    ScalarUDF::new_from_impl(AddMissingSeconds {
        signature: Signature::any(1, Volatility::Immutable),
    })
});

/// Function that adds missing seconds to texts.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AddMissingSeconds {
    signature: Signature,
}

impl ScalarUDFImpl for AddMissingSeconds {
    fn name(&self) -> &'static str {
        "\0with_seconds"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    /// Returns a field that is nullable if the argument is nullable.
    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text] = &arguments.args[..] else {
            return internal_err!("a cast takes one argument");
        };
        with_seconds(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_added() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(completed(text).as_deref(), expected, "`{text}`");
        };
        check("2026-01-31 10:00", Some("2026-01-31 10:00:00"));
        check("2026-01-31T10:00Z", Some("2026-01-31T10:00:00Z"));
        check("2026-04-02 12:00+02", Some("2026-04-02 12:00:00+02"));
        check("2026-01-31 10:00:05", None);
        check("2026-01-31", None);
        check("2026-01-31 1é:00", None);
        check("a b", None);
    }
}
