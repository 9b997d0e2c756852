//! Scalar functions from plain functions of arrays.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// A function of arrays of the same length.
type OfArrays = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// Returns an immutable function with exact types.
pub(crate) fn function(
    name: &str,
    arguments: Vec<DataType>,
    result: DataType,
    of_arrays: OfArrays,
) -> Arc<ScalarUDF> {
    let invoke = move |values: &[ColumnarValue]| invoke(values, of_arrays);
    Arc::new(create_udf(name, arguments, result, Volatility::Immutable, Arc::new(invoke)))
}

/// Calls a function of arrays. Constants give a constant.
pub(crate) fn invoke(values: &[ColumnarValue], of_arrays: OfArrays) -> Result<ColumnarValue> {
    let is_single = values.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let result = of_arrays(&ColumnarValue::values_to_arrays(values)?)?;
    Ok(if is_single {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
    } else {
        ColumnarValue::Array(result)
    })
}
