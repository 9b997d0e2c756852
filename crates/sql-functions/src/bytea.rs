//! Casts of text to bytes as in PostgreSQL: `'\xff'` in hexadecimal, and `'a\\b\377'` with escapes.
//!
//! Text without a backslash becomes its bytes in UTF-8. As in `DuckDB`, each byte may also be
//! written with a separate `\x`: `'\xAA\xBB'`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, BinaryBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// Rewrite of casts from text to bytes.
#[derive(Debug)]
pub(crate) struct ByteaCastRewrite;

impl FunctionRewrite for ByteaCastRewrite {
    fn name(&self) -> &'static str {
        "read_bytes"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let (inner, to, function) = match &expr {
            Expr::Cast(Cast { expr, field }) => (expr, field.data_type(), &STRICT),
            Expr::TryCast(TryCast { expr, field }) => (expr, field.data_type(), &LENIENT),
            _ => return Ok(Transformed::no(expr)),
        };
        if !to.is_binary() || !inner.get_type(schema).is_ok_and(|from| from.is_string()) {
            return Ok(Transformed::no(expr));
        }
        let bytes = function.call(vec![(**inner).clone()]);
        Ok(Transformed::yes(bytes.cast_to(to, schema)?))
    }
}

static STRICT: LazyLock<ScalarUDF> = LazyLock::new(|| TextToBytes::udf(true));
static LENIENT: LazyLock<ScalarUDF> = LazyLock::new(|| TextToBytes::udf(false));

/// Function that reads bytes from text; invalid text is an error or null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextToBytes {
    is_strict: bool,
    signature: Signature,
}

impl TextToBytes {
    fn udf(is_strict: bool) -> ScalarUDF {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::new_from_impl(TextToBytes { is_strict, signature })
    }

    fn read(&self, texts: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(texts, &DataType::Utf8)?;
        let mut bytes = BinaryBuilder::new();
        for text in texts.as_string::<i32>() {
            match text.map(bytes_of) {
                Some(Some(read)) => bytes.append_value(read),
                Some(None) if self.is_strict => {
                    let text: String = text.into_iter().flat_map(str::chars).take(50).collect();
                    return exec_err!(
                        "`{text}` is not valid bytea text: write `\\x` and pairs of hexadecimal \
                         digits, or `\\\\` for a backslash and `\\377` for a byte"
                    );
                }
                _ => bytes.append_null(),
            }
        }
        Ok(Arc::new(bytes.finish()))
    }
}

impl ScalarUDFImpl for TextToBytes {
    fn name(&self) -> &'static str {
        if self.is_strict { "\0text_to_bytes" } else { "\0try_text_to_bytes" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &arguments.args[..] {
            [ColumnarValue::Array(texts)] => Ok(ColumnarValue::Array(self.read(texts)?)),
            [ColumnarValue::Scalar(text)] => {
                let bytes = self.read(&text.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&bytes, 0)?))
            }
            _ => internal_err!("a cast takes one argument"),
        }
    }
}

/// Returns the bytes of a text; `None` if it is invalid.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if text.starts_with("\\x") { hexadecimal(text) } else { escaped(text) }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'x', rest @ ..] | [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] => rest,
            [high, low, rest @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest
            }
            [_] => return None,
        };
    }
}

fn escaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}
