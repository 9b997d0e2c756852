//! `list_reduce(list, (a, x) -> …)` and `list_reduce(list, initial, (a, x) -> …)`: an accumulator
//! that the lambda combines with each element in order. Without an initial value, the first element
//! is the initial value, and an empty list gives null.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take, take_arrays};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda,
    Volatility,
};

/// Returns the function `list_reduce`.
pub(crate) fn function() -> Arc<HigherOrderUDF> {
    let signature = HigherOrderSignature::user_defined(Volatility::Immutable);
    Arc::new(HigherOrderUDF::new_from_impl(ListReduce { signature, aliases: aliases() }))
}

fn aliases() -> Vec<String> {
    ["array_reduce", "reduce", "aggregate"].map(str::to_owned).to_vec()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ListReduce {
    signature: HigherOrderSignature,
    aliases: Vec<String>,
}

const USAGE: &str = "`list_reduce` takes a list, an optional initial value, and a lambda with two \
                     parameters: `list_reduce(list, 0, (a, x) -> a + x)`";

/// Returns the type of the elements of a list.
fn element(list: &DataType) -> Result<&FieldRef> {
    match list {
        DataType::List(element) => Ok(element),
        other => plan_err!("`list_reduce` takes a list, not {other}"),
    }
}

impl HigherOrderUDFImpl for ListReduce {
    fn name(&self) -> &'static str {
        "list_reduce"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let list = match arguments.first() {
            Some(
                DataType::List(element)
                | DataType::LargeList(element)
                | DataType::FixedSizeList(element, _),
            ) => DataType::new_list(element.data_type().clone(), true),
            Some(DataType::Null) => DataType::new_list(DataType::Null, true),
            _ => return plan_err!("{USAGE}"),
        };
        match arguments {
            [_] => Ok(vec![list]),
            [_, initial] => {
                // The accumulator has the common type of the initial value and the elements: with
                // the initial value `0` and a list of DOUBLE, it is a DOUBLE.
                let of_list = element(&list)?.data_type();
                let is_number = initial.is_numeric() && of_list.is_numeric();
                let common = comparison_coercion(initial, of_list).filter(|_| is_number);
                Ok(vec![list, common.unwrap_or_else(|| initial.clone())])
            }
            _ => plan_err!("{USAGE}"),
        }
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let (list, initial) = match fields {
            [ValueOrLambda::Value(list), ValueOrLambda::Lambda(_)] => (list, None),
            [
                ValueOrLambda::Value(list),
                ValueOrLambda::Value(initial),
                ValueOrLambda::Lambda(_),
            ] => (list, Some(initial)),
            _ => return plan_err!("{USAGE}"),
        };
        let element = element(list.data_type())?;
        let accumulator = initial.map_or(element.data_type(), |initial| initial.data_type());
        let parameter = |data_type: &DataType| Arc::new(Field::new("", data_type.clone(), true));
        Ok(LambdaParametersProgress::Complete(vec![vec![
            parameter(accumulator),
            parameter(element.data_type()),
        ]]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<Arc<Field>> {
        let data_type = match args.arg_fields {
            [ValueOrLambda::Value(list), ValueOrLambda::Lambda(_)] => {
                element(list.data_type())?.data_type().clone()
            }
            [_, ValueOrLambda::Value(initial), ValueOrLambda::Lambda(_)] => {
                initial.data_type().clone()
            }
            _ => return plan_err!("{USAGE}"),
        };
        Ok(Arc::new(Field::new("", data_type, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let accumulator = args.return_type().clone();
        let (list, initial, lambda) = match args.args.as_slice() {
            [ValueOrLambda::Value(list), ValueOrLambda::Lambda(lambda)] => (list, None, lambda),
            [
                ValueOrLambda::Value(list),
                ValueOrLambda::Value(initial),
                ValueOrLambda::Lambda(lambda),
            ] => (list, Some(initial.to_array(rows)?), lambda),
            _ => return plan_err!("{USAGE}"),
        };
        let list = list.to_array(rows)?;
        let lists = list.as_list::<i32>();
        let reduced = reduce(lists, initial, lambda, &accumulator)?;
        Ok(ColumnarValue::Array(reduced))
    }
}

/// Combines the elements of each list. Step n evaluates the lambda once, for the n-th elements of
/// all lists that have at least n elements. The lists are sorted by length, longest first, so that
/// these lists are the first ones.
fn reduce(
    lists: &ListArray,
    initial: Option<ArrayRef>,
    lambda: &LambdaArgument,
    accumulator: &DataType,
) -> Result<ArrayRef> {
    let length = |row: usize| if lists.is_null(row) { 0 } else { lists.value_length(row) as usize };
    let mut order: Vec<usize> = (0..lists.len()).collect();
    order.sort_by_key(|row| Reverse(length(*row)));
    let rows = UInt32Array::from_iter_values(order.iter().map(|row| *row as u32));
    let has_initial = initial.is_some();
    let mut accumulated = match initial {
        Some(initial) => take(&cast(&initial, accumulator)?, &rows, None)?,
        None => new_null_array(accumulator, lists.len()),
    };
    // Results of the lists whose elements are all combined, the shortest lists first.
    let mut finished: Vec<ArrayRef> = Vec::new();
    for step in 0.. {
        let active = order.partition_point(|row| length(*row) > step);
        let rest = accumulated.slice(active, accumulated.len() - active);
        if !rest.is_empty() || finished.is_empty() {
            finished.push(rest);
        }
        if active == 0 {
            break;
        }
        let rows = rows.slice(0, active);
        let before = accumulated.slice(0, active);
        let starts = order[..active].iter().map(|row| lists.value_offsets()[*row] as u32);
        let places = UInt32Array::from_iter_values(starts.map(|start| start + step as u32));
        let elements = take(lists.values(), &places, None)?;
        let combined = if step == 0 && !has_initial {
            elements
        } else {
            let parameters: [&dyn Fn() -> Result<ArrayRef>; 2] =
                [&|| Ok(Arc::clone(&before)), &|| Ok(Arc::clone(&elements))];
            let captured = |columns: &[ArrayRef]| Ok(take_arrays(columns, &rows, None)?);
            lambda.evaluate(&parameters, captured)?.into_array(active)?
        };
        accumulated = cast(&combined, accumulator)?;
    }
    finished.reverse();
    let finished: Vec<&dyn Array> = finished.iter().map(AsRef::as_ref).collect();
    let mut places = vec![0; order.len()];
    for (place, row) in order.into_iter().enumerate() {
        places[row] = place as u32;
    }
    let reduced = take(&concat(&finished)?, &UInt32Array::from(places), None)?;
    // A null list gives null, even with an initial value.
    let nulls = arrow::compute::is_null(lists)?;
    Ok(arrow::compute::nullif(&reduced, &nulls)?)
}
