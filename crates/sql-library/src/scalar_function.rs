//! Creates scalar SQL functions from Rust functions of arrays.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// A Rust function that computes an array from arrays of the same length.
type ArrayFunction = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// Returns an immutable SQL function with exactly these argument types.
pub(crate) fn function(
    name: &str,
    arguments: Vec<DataType>,
    result: DataType,
    function_of_arrays: ArrayFunction,
) -> Arc<ScalarUDF> {
    let invoke = move |values: &[ColumnarValue]| invoke(values, function_of_arrays);
    Arc::new(create_udf(name, arguments, result, Volatility::Immutable, Arc::new(invoke)))
}

/// Calls a Rust function of arrays with the arguments of an SQL function. If all arguments are
/// constants, the result is a constant.
pub(crate) fn invoke(
    values: &[ColumnarValue],
    function_of_arrays: ArrayFunction,
) -> Result<ColumnarValue> {
    let is_single = values.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let result = function_of_arrays(&ColumnarValue::values_to_arrays(values)?)?;
    Ok(if is_single {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
    } else {
        ColumnarValue::Array(result)
    })
}
