//! Replaces functions that return unsigned integers by wrappers that return `BIGINT`.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

/// Scalar functions of DataFusion that return unsigned integers or lists of them.
const SCALAR: [&str; 5] =
    ["array_length", "array_dims", "array_ndims", "array_position", "array_positions"];

/// The function `cardinality` returns unsigned integers, too. Unlike the functions in [`SCALAR`],
/// it also accepts maps.
const CARDINALITY: &str = "cardinality";

/// Aggregate functions of DataFusion that return unsigned integers.
const AGGREGATE: [&str; 2] = ["approx_distinct", "regr_count"];

/// Window functions of DataFusion that return unsigned integers.
const WINDOW: [&str; 4] = ["row_number", "rank", "dense_rank", "ntile"];

/// Replaces the functions that return unsigned integers by signed wrappers.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in SCALAR.into_iter().chain([CARDINALITY]) {
        let signed = super::scalar::ScalarFunctionWithSignedResult { of: state.udf(name)? };
        state.register_udf(Arc::new(ScalarUDF::from(signed)))?;
    }
    for name in AGGREGATE {
        let signed = super::aggregate::AggregateFunctionWithSignedResult { of: state.udaf(name)? };
        state.register_udaf(Arc::new(AggregateUDF::from(signed)))?;
    }
    for name in WINDOW {
        let signed = super::window::WindowFunctionWithSignedResult { of: state.udwf(name)? };
        state.register_udwf(Arc::new(WindowUDF::from(signed)))?;
    }
    Ok(())
}

/// Returns the type with each unsigned integer type in it replaced by `BIGINT`.
pub(super) fn signed(data_type: &DataType) -> DataType {
    let element = |field: &FieldRef| {
        Arc::new(field.as_ref().clone().with_data_type(signed(field.data_type())))
    };
    match data_type {
        unsigned if unsigned.is_unsigned_integer() => DataType::Int64,
        DataType::List(of) => DataType::List(element(of)),
        DataType::LargeList(of) => DataType::LargeList(element(of)),
        other => other.clone(),
    }
}

/// Returns the field with the type that [`signed`] returns.
pub(super) fn signed_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(signed(field.data_type())))
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::datatypes::{Field, TimeUnit};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::function::WindowUDFFieldArgs;
    use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};
    use datafusion::logical_expr::{ReturnFieldArgs, Signature};

    /// Argument types of the generated calls. None of them is unsigned.
    fn types() -> Vec<DataType> {
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        vec![
            DataType::Int64,
            DataType::Float64,
            DataType::Utf8,
            DataType::Boolean,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Binary,
            DataType::Decimal128(10, 2),
            DataType::List(item),
        ]
    }

    /// Returns all lists of up to three of these types, and the example types of the signature.
    fn arguments(signature: &Signature) -> Vec<Vec<DataType>> {
        let types = types();
        let mut lists = vec![Vec::new()];
        let mut last = lists.clone();
        for _ in 0..3 {
            let longer = |list: &Vec<DataType>| {
                let longer = |of: &DataType| [list.as_slice(), std::slice::from_ref(of)].concat();
                types.iter().map(longer).collect::<Vec<_>>()
            };
            last = last.iter().flat_map(longer).collect();
            lists.extend(last.iter().cloned());
        }
        let unsigned = |of: &DataType| signed(of) != *of;
        let examples = signature.type_signature.get_example_types();
        lists.extend(examples.into_iter().filter(|list| !list.iter().any(unsigned)));
        lists
    }

    /// Returns the calls that return an unsigned type for signed arguments.
    fn unsigned_calls<F: UDFCoercionExt>(
        function: &F,
        return_type: impl Fn(&[FieldRef]) -> Result<DataType>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for list in arguments(function.signature()) {
            let fields = list.iter().map(|of| Arc::new(Field::new("a", of.clone(), true)));
            let fields: Vec<FieldRef> = fields.collect();
            let Ok(fields) = fields_with_udf(&fields, function) else { continue };
            let Ok(returned) = return_type(&fields) else { continue };
            if signed(&returned) != returned {
                found.push(format!("{}({list:?}) returns {returned}", function.name()));
            }
        }
        found
    }

    #[test]
    fn no_function_returns_unsigned_numbers_for_signed_arguments() {
        let mut state = SessionStateBuilder::new().with_default_features().build();
        register(&mut state).unwrap();
        let mut found = Vec::new();
        for function in state.scalar_functions().values() {
            found.extend(unsigned_calls(function.as_ref(), |fields| {
                let scalar_arguments = &vec![None; fields.len()];
                let arguments = ReturnFieldArgs { arg_fields: fields, scalar_arguments };
                Ok(function.return_field_from_args(arguments)?.data_type().clone())
            }));
        }
        for function in state.aggregate_functions().values() {
            found.extend(unsigned_calls(function.as_ref(), |fields| {
                Ok(function.return_field(fields)?.data_type().clone())
            }));
        }
        for function in state.window_functions().values() {
            found.extend(unsigned_calls(function.as_ref(), |fields| {
                let arguments = WindowUDFFieldArgs::new(fields, function.name());
                Ok(function.field(arguments)?.data_type().clone())
            }));
        }
        found.dedup_by_key(|call| call.split('(').next().map(str::to_owned));
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
