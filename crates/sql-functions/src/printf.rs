//! `printf(format, values…)` with the conversions of C, and `format(…)`: `{}` as in `DuckDB`, or
//! `%s` as in `PostgreSQL` and `BigQuery`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Maximum width and precision of a conversion.
const WIDTH_MAX: usize = 1_000;

/// Returns the functions `printf` and `format`.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 2] {
    ["printf", "format"].map(|name| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Printf { name, signature }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Printf {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Printf {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.first() {
            Some(format) if format.is_string() || format.is_null() => Ok(DataType::Utf8),
            _ => plan_err!("`{}` takes a format and values", self.name),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_single = arguments.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let rows = if is_single { 1 } else { arguments.number_rows };
        let mut texts = Vec::with_capacity(arguments.args.len());
        for value in arguments.args {
            let value = value.into_array(rows)?;
            texts.push(cast(&value, &DataType::Utf8)?.as_string::<i32>().clone());
        }
        let mut found = StringBuilder::with_capacity(rows, 0);
        for row in 0..rows {
            if texts[0].is_null(row) {
                found.append_null();
                continue;
            }
            let values: Vec<Option<&str>> =
                texts[1..].iter().map(|column| value_of(column, row)).collect();
            let format = texts[0].value(row);
            let braces = self.name == "format" && format.contains('{');
            if braces && format.contains('%') {
                return exec_err!("the format `{format}` has both `{{}}` and `%`");
            }
            let text =
                if braces { by_braces(format, &values) } else { by_percent(format, &values) };
            match text {
                Ok(text) => found.append_option(text),
                Err(reason) => return exec_err!("the format `{format}`: {reason}"),
            }
        }
        let found: ArrayRef = Arc::new(found.finish());
        Ok(if is_single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

fn value_of(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// Replaces `{}`, `{0}` and `{{` in a format. The result is null if a value is null.
fn by_braces(format: &str, values: &[Option<&str>]) -> Result<Option<String>, String> {
    let (mut text, mut next, mut letters) = (String::new(), 0, format.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.next_if_eq(&letter).is_some() => text.push(letter),
            '{' => {
                let place: String = letters.by_ref().take_while(|letter| *letter != '}').collect();
                let place = match place.as_str() {
                    "" => {
                        next += 1;
                        next - 1
                    }
                    digits => digits
                        .parse::<usize>()
                        .map_err(|_| format!("`{{{digits}}}` is not supported; write `{{}}`"))?,
                };
                let value =
                    values.get(place).ok_or("the format has more placeholders than values")?;
                let Some(value) = value else { return Ok(None) };
                text.push_str(value);
            }
            other => text.push(other),
        }
    }
    Ok(Some(text))
}

/// A conversion such as `%05.2f`.
#[derive(Default)]
struct ConversionSpec {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Replaces `%s`, `%d` and similar conversions in a format. The result is null if a value is null.
fn by_percent(format: &str, values: &[Option<&str>]) -> Result<Option<String>, String> {
    let (mut text, mut next, mut letters) = (String::new(), 0, format.chars().peekable());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        if letters.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let mut conversion = ConversionSpec::default();
        while let Some(flag) = letters.next_if(|it| matches!(it, '-' | '0' | '+')) {
            match flag {
                '-' => conversion.left = true,
                '0' => conversion.zeros = true,
                _ => conversion.plus = true,
            }
        }
        let number = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut value = 0_usize;
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                value = value * 10 + digit.to_digit(10).map_or(0, |digit| digit as usize);
                if value > WIDTH_MAX {
                    return Err(format!("a width is larger than {WIDTH_MAX}"));
                }
            }
            Ok(value)
        };
        conversion.width = number(&mut letters)?;
        if letters.next_if_eq(&'.').is_some() {
            conversion.precision = Some(number(&mut letters)?);
        }
        let kind = letters.next().ok_or("the format ends with `%`")?;
        let value = values.get(next).ok_or("the format has more placeholders than values")?;
        next += 1;
        let Some(value) = value else { return Ok(None) };
        text.push_str(&conversion.apply(kind, value)?);
    }
    Ok(Some(text))
}

impl ConversionSpec {
    fn apply(&self, kind: char, value: &str) -> Result<String, String> {
        let wrong = || format!("`%{kind}` does not take `{value}`");
        let integer = || value.parse::<i128>().map_err(|_| wrong());
        let float = || value.parse::<f64>().map_err(|_| wrong());
        let precision = self.precision.unwrap_or(6);
        let body = match kind {
            's' => match self.precision {
                Some(count) => value.chars().take(count).collect(),
                None => value.to_owned(),
            },
            'd' | 'i' | 'u' => integer()?.to_string(),
            'x' => format!("{:x}", integer()?),
            'X' => format!("{:X}", integer()?),
            'o' => format!("{:o}", integer()?),
            'f' | 'F' => format!("{:.precision$}", float()?),
            'c' => value.chars().take(1).collect(),
            other => return Err(format!("`%{other}` is not supported")),
        };
        let is_number = !matches!(kind, 's' | 'c');
        let body = if self.plus && is_number && !body.starts_with('-') {
            format!("+{body}")
        } else {
            body
        };
        let missing = self.width.saturating_sub(body.chars().count());
        Ok(if self.left {
            body + &" ".repeat(missing)
        } else if self.zeros && is_number {
            let digits = body.trim_start_matches(['-', '+']);
            let sign = &body[..body.len() - digits.len()];
            format!("{sign}{}{digits}", "0".repeat(missing))
        } else {
            " ".repeat(missing) + &body
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_those_of_c() {
        let check = |format: &str, values: &[Option<&str>], expected: &str| {
            let shown = by_percent(format, values).map(|text| text.unwrap_or("NULL".to_owned()));
            assert_eq!(shown.unwrap_or_else(|reason| reason), expected, "`{format}`");
        };
        check("%05.2f|%x|%%", &[Some("3.14159"), Some("255")], "03.14|ff|%");
        check("%-4s|%4s|%.1s", &[Some("a"), Some("b"), Some("cd")], "a   |   b|c");
        check("%04d|%+d", &[Some("-7"), Some("7")], "-007|+7");
        check("%d", &[None], "NULL");
        check("%d", &[Some("x")], "`%d` does not take `x`");
        check("%d %d", &[Some("1")], "the format has more placeholders than values");
        check("%9999s", &[Some("1")], "a width is larger than 1000");
        check("%", &[], "the format ends with `%`");
    }

    #[test]
    fn braces_are_placeholders() {
        let check = |format: &str, expected: &str| {
            let shown = by_braces(format, &[Some("a"), Some("b")]);
            let shown = shown.map(Option::unwrap_or_default);
            assert_eq!(shown.unwrap_or_else(|reason| reason), expected, "`{format}`");
        };
        check("{} {}", "a b");
        check("{1}{0}{{}}", "ba{}");
        check("{} {} {}", "the format has more placeholders than values");
        check("{:d}", "`{:d}` is not supported; write `{}`");
    }
}
