//! The function that checks for INSERT … ON CONFLICT that no two new rows have the same key.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use headwater_sql::expression::UNIQUE_KEY;

/// Returns the function that checks for duplicate keys.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Volatile);
    Arc::new(ScalarUDF::from(UniqueKeyCheck { signature }))
}

/// SQL function whose argument is the number of new rows with the same key: returns true if it is
/// at most 1, and otherwise an error.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UniqueKeyCheck {
    signature: Signature,
}

impl ScalarUDFImpl for UniqueKeyCheck {
    fn name(&self) -> &'static str {
        UNIQUE_KEY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        for counts in arguments.args {
            let counts = counts.into_array(arguments.number_rows)?;
            if counts.as_primitive::<Int64Type>().iter().flatten().any(|count| count > 1) {
                return exec_err!("two new rows of INSERT … ON CONFLICT have the same key");
            }
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }
}
