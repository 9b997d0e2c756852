//! `hashtext(text)`: PostgreSQL's hash of a text, from which clients derive the numbers of advisory
//! locks.

use std::sync::Arc;

use arrow::array::{AsArray, Int32Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use headwater_model::text_hash;

/// Returns the function `hashtext`.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    Arc::new(ScalarUDF::from(TextHashFunction { signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextHashFunction {
    signature: Signature,
}

impl ScalarUDFImpl for TextHashFunction {
    fn name(&self) -> &'static str {
        "hashtext"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [texts] = &arguments.args[..] else {
            return internal_err!("`hashtext` takes one text");
        };
        match texts {
            ColumnarValue::Scalar(text) => {
                let hash = text.try_as_str().flatten().map(text_hash);
                Ok(ColumnarValue::Scalar(ScalarValue::Int32(hash)))
            }
            ColumnarValue::Array(texts) => {
                let texts = texts.as_string::<i32>().iter();
                let hashes: Int32Array = texts.map(|text| text.map(text_hash)).collect();
                Ok(ColumnarValue::Array(Arc::new(hashes)))
            }
        }
    }
}
