//! One-dimensional arrays as parameter values: `{1,NULL,"a b"}` and the binary format.

use std::ops::Range;

use bytes::{Buf, Bytes};
use headwater_postgres_catalog::ScalarType;
use headwater_service::array_elements;

use crate::frontend_message::ValueFormat;
use crate::session_command::StatementWords;

/// The SQL type of an array of texts.
pub const TEXTS: &str = "VARCHAR[]";

/// Returns the SQL type of an array parameter with elements of this type; `None` if such an array
/// cannot be bound.
pub fn sql_type(scalar: ScalarType) -> Option<&'static str> {
    Some(match scalar {
        ScalarType::Bool => "BOOLEAN[]",
        ScalarType::Int2 => "SMALLINT[]",
        ScalarType::Int4 => "INTEGER[]",
        ScalarType::Int8 | ScalarType::Oid => "BIGINT[]",
        ScalarType::Float4 => "REAL[]",
        ScalarType::Float8 => "DOUBLE[]",
        ScalarType::Text | ScalarType::Uuid | ScalarType::Json => TEXTS,
        ScalarType::Bytea => "BYTEA[]",
        ScalarType::Date => "DATE[]",
        ScalarType::Timestamp => "TIMESTAMP[]",
        ScalarType::Timestamptz => "TIMESTAMP WITH TIME ZONE[]",
        // The elements of a `numeric` array have no common precision. A column of Headwater cannot
        // be an array of the other types.
        ScalarType::Numeric | ScalarType::Time | ScalarType::Interval => return None,
    })
}

/// Returns the names of the parameters in `ANY ($1)` and `ALL ($1)`, without the dollar sign.
pub fn operands(sql: &str) -> Vec<&str> {
    quantified(sql).into_iter().map(|operand| operand.name).collect()
}

/// Replaces `ANY ($1)` and `ALL ($1)` by `$1`. In this text, the parameter has the type of the
/// elements.
pub fn with_elements(sql: &str) -> String {
    let mut text = sql.to_owned();
    for QuantifiedParameter { name, range } in quantified(sql).into_iter().rev() {
        text.replace_range(range, &format!("${name}"));
    }
    text
}

/// A parameter in `ANY ($1)` or `ALL ($1)`.
struct QuantifiedParameter<'a> {
    /// The name, without the dollar sign.
    name: &'a str,
    /// The bytes of the text from the word ANY to the closing parenthesis.
    range: Range<usize>,
}

fn quantified(sql: &str) -> Vec<QuantifiedParameter<'_>> {
    let words: Vec<&str> = StatementWords::new(sql).collect();
    let mut found = Vec::new();
    for four in words.windows(4) {
        let is_any = ["ANY", "ALL", "SOME"].iter().any(|word| four[0].eq_ignore_ascii_case(word));
        if let Some(name) = four[2].strip_prefix('$')
            && is_any
            && four[1] == "("
            && four[3] == ")"
        {
            // The words are slices of the text.
            let offset = |word: &str| word.as_ptr() as usize - sql.as_ptr() as usize;
            found.push(QuantifiedParameter { name, range: offset(four[0])..offset(four[3]) + 1 });
        }
    }
    found
}

/// Splits an array into its elements, with `None` for a null element. Returns `None` if the array
/// is malformed or has more than one dimension.
pub fn elements(format: ValueFormat, bytes: Bytes) -> Option<Vec<Option<Bytes>>> {
    match format {
        ValueFormat::Text => {
            let elements = array_elements(std::str::from_utf8(&bytes).ok()?)?;
            Some(elements.into_iter().map(|element| element.map(Bytes::from)).collect())
        }
        ValueFormat::Binary => from_binary(bytes),
    }
}

fn from_binary(mut bytes: Bytes) -> Option<Vec<Option<Bytes>>> {
    let dimensions = bytes.try_get_i32().ok()?;
    let _has_null = bytes.try_get_i32().ok()?;
    let _element_type = bytes.try_get_u32().ok()?;
    let mut found = Vec::new();
    if dimensions == 0 {
        return bytes.is_empty().then_some(found);
    }
    let count = bytes.try_get_i32().ok()?;
    let _lower_bound = bytes.try_get_i32().ok()?;
    if dimensions != 1 {
        return None;
    }
    for _ in 0..count {
        let length = bytes.try_get_i32().ok()?;
        let Ok(length) = usize::try_from(length) else {
            found.push(None);
            continue;
        };
        if length > bytes.len() {
            return None;
        }
        found.push(Some(bytes.split_to(length)));
    }
    bytes.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[Option<&str>]>) {
        let found = elements(ValueFormat::Text, Bytes::copy_from_slice(text.as_bytes()));
        let found = found.map(|found| {
            let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
            found.into_iter().map(|one| one.map(text)).collect::<Vec<_>>()
        });
        let expected =
            expected.map(|all| all.iter().map(|one| one.map(str::to_owned)).collect::<Vec<_>>());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn texts_have_quotes_escapes_and_null() {
        check("{}", Some(&[]));
        check("{\u{a0}a\u{a0} }", Some(&[Some("\u{a0}a\u{a0}")]));
        check("{1, 2,NULL}", Some(&[Some("1"), Some("2"), None]));
        check(r#"{"a, \"b\"","NULL",}"#, Some(&[Some("a, \"b\""), Some("NULL"), Some("")]));
        for text in ["", "1,2", "{{1},{2}}", "{\"a", "{\"a\"b}"] {
            check(text, None);
        }
    }

    #[test]
    fn operands_of_any_are_found() {
        assert_eq!(operands("SELECT a = ANY ($1) AND b <> all($2) AND c = ANY(x)"), ["1", "2"]);
        assert_eq!(operands("SELECT 'ANY ($1)', max($1)"), [""; 0]);
        assert_eq!(
            with_elements("SELECT a = ANY ($1) AND 'é' <> all($2) AND c = SOME(x)"),
            "SELECT a = $1 AND 'é' <> $2 AND c = SOME(x)"
        );
    }

    #[test]
    fn malformed_bytes_are_rejected() {
        let one = b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\x01\0\0\0\x01\0\0\0\x04\0\0\0\x07";
        let found = elements(ValueFormat::Binary, Bytes::from_static(one));
        assert_eq!(found, Some(vec![Some(Bytes::from_static(b"\0\0\0\x07"))]));
        for end in 0..one.len() {
            assert_eq!(elements(ValueFormat::Binary, Bytes::from_static(&one[..end])), None);
        }
    }
}
