//! The argument types that a parameter accepts, and the conversion of arguments.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Schema};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;
use headwater_table_scan::plain_schema;

/// Returns true if values of a type are converted implicitly to the type of a parameter. No
/// conversion drops a fraction: [`convert`] rejects a double that has more decimal places than the
/// decimal type.
pub(crate) fn accepts(parameter: &DataType, given: &DataType) -> bool {
    use DataType::{Date32, Date64, Timestamp};
    let given = &without_view_types(given);
    if given.is_null() || given == parameter {
        return true;
    }
    let (is_number, is_text) = (DataType::is_numeric, DataType::is_string);
    let is_binary = |of: &DataType| {
        matches!(of, DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_))
    };
    let fits = match (parameter, given) {
        (to, from) if is_number(to) && is_number(from) => keeps_decimal_places(to, from),
        (to, from) if is_text(to) && is_text(from) => true,
        (to, from) if is_binary(to) && is_binary(from) => true,
        (Timestamp(..), Timestamp(..) | Date32 | Date64)
        | (DataType::Time64(_), DataType::Time64(_) | DataType::Time32(_)) => true,
        (DataType::List(to), DataType::List(from) | DataType::LargeList(from)) => {
            accepts_part(to, from)
        }
        (DataType::Struct(to), DataType::Struct(from)) => {
            let same_name = |(to, from): (&FieldRef, &FieldRef)| to.name() == from.name();
            accepts_parts(to, from) && to.iter().zip(from).all(same_name)
        }
        // The entries of a map may have any field names, so compare only the types of keys and
        // values.
        (DataType::Map(to, _), DataType::Map(from, _)) => {
            match (to.data_type(), from.data_type()) {
                (DataType::Struct(to), DataType::Struct(from)) => accepts_parts(to, from),
                _ => false,
            }
        }
        _ => false,
    };
    fits && can_cast_types(given, parameter)
}

fn accepts_parts(parameter: &Fields, given: &Fields) -> bool {
    parameter.len() == given.len()
        && parameter.iter().zip(given).all(|(to, from)| accepts_part(to, from))
}

/// Returns true if the type of a part of a nested value is accepted, such as the items of a list. A
/// double is not accepted for a decimal here, because [`convert`] checks only values that are not
/// nested.
fn accepts_part(parameter: &Field, given: &Field) -> bool {
    let (to, from) = (parameter.data_type(), given.data_type());
    accepts(to, from) && !(is_decimal(to) && from.is_floating())
}

/// Returns true if numbers of a type have no more decimal places than the parameter. Also returns
/// true for doubles if the parameter is a decimal, because their decimal places depend on the
/// values.
fn keeps_decimal_places(parameter: &DataType, given: &DataType) -> bool {
    match (scale(parameter), scale(given)) {
        (None, _) => true,
        (Some(to), Some(from)) => to >= from,
        (Some(_), None) => is_decimal(parameter),
    }
}

/// Returns the number of decimal places of a type; `None` for a floating-point type.
fn scale(number: &DataType) -> Option<i8> {
    match number {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        other => other.is_integer().then_some(0),
    }
}

fn is_decimal(number: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(number, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

/// Replaces Arrow view types, such as `Utf8View`, at every nesting level.
pub(crate) fn without_view_types(data_type: &DataType) -> DataType {
    let schema = Schema::new(vec![Field::new("v", data_type.clone(), true)]);
    plain_schema(&schema).field(0).data_type().clone()
}

/// Returns the arguments of a call as columns with the types of the parameters.
pub(crate) fn arguments(
    parameters: &Schema,
    given: Vec<ColumnarValue>,
    rows: usize,
) -> Result<RecordBatch> {
    let columns = given.into_iter().zip(parameters.fields());
    let columns =
        columns.map(|(value, field)| convert(&value.into_array(rows)?, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(parameters.clone().into(), columns)?)
}

/// Converts an array to a type. Errors: a value is outside of the type's range; a double has more
/// decimal places than the decimal type.
pub(crate) fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(ArrayRef::clone(array));
    }
    if array.data_type().is_null() {
        return Ok(new_null_array(to, array.len()));
    }
    let converted = cast(array, to)?;
    if array.data_type().is_floating() && is_decimal(to) {
        let (before, after) = (doubles(array)?, doubles(&converted)?);
        let lost = before.iter().flatten().zip(after.iter().flatten());
        let mut lost = lost.filter(|(one, other)| (one - other).abs() > f64::EPSILON * one.abs());
        if let Some((number, _)) = lost.next() {
            return exec_err!(
                "the number {number} has more decimal places than its parameter allows"
            );
        }
    }
    Ok(converted)
}

fn doubles(array: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn cast(array: &dyn Array, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_converted_unless_a_fraction_would_be_lost() {
        use DataType::{Boolean, Decimal128, Float64, Int32, Int64, Utf8, Utf8View};
        for (parameter, given, expected) in [
            (Int32, Int64, true),
            (Float64, Int64, true),
            (Float64, Decimal128(10, 2), true),
            (Decimal128(10, 2), Int64, true),
            (Decimal128(10, 2), Float64, true),
            (Decimal128(10, 2), Decimal128(12, 2), true),
            (Decimal128(10, 2), Decimal128(12, 4), false),
            (Int64, Float64, false),
            (Int64, Decimal128(10, 2), false),
            (Utf8, Utf8View, true),
            (Utf8, Int64, false),
            (Int64, Utf8View, false),
            (Boolean, Int64, false),
            (Boolean, DataType::Null, true),
        ] {
            assert_eq!(accepts(&parameter, &given), expected, "{parameter} {given}");
        }
    }

    #[test]
    fn parts_of_nested_values_are_converted_like_values() {
        use DataType::{Decimal128, Float64, Int32, Int64, Utf8, Utf8View};
        let list = |item: &DataType| DataType::List(Field::new("item", item.clone(), true).into());
        let row = |name: &str, part: &DataType| {
            DataType::Struct(vec![Field::new(name, part.clone(), true)].into())
        };
        let map = |key: &DataType, value: &DataType| {
            let entries =
                vec![Field::new("key", key.clone(), false), Field::new("v", value.clone(), true)];
            let entries = Field::new("entries", DataType::Struct(entries.into()), false);
            DataType::Map(entries.into(), false)
        };
        for (parameter, given, expected) in [
            (list(&Int64), list(&Int32), true),
            (list(&Int64), list(&DataType::Null), true),
            (list(&Int64), list(&Utf8), false),
            (list(&Int64), list(&Float64), false),
            (list(&Utf8), list(&Utf8View), true),
            (list(&Decimal128(10, 2)), list(&Float64), false),
            (list(&list(&Int64)), list(&list(&Utf8)), false),
            (row("x", &Int64), row("x", &Int32), true),
            (row("x", &Int64), row("y", &Int64), false),
            (row("x", &Int64), row("x", &Utf8), false),
            (map(&Utf8, &Int64), map(&Utf8, &Int32), true),
            (map(&Utf8, &Int64), map(&Utf8, &Utf8), false),
        ] {
            assert_eq!(accepts(&parameter, &given), expected, "{parameter} {given}");
        }
    }

    #[test]
    fn a_double_for_a_decimal_keeps_its_fraction() {
        let to = DataType::Decimal128(10, 2);
        let convert = |numbers: Vec<Option<f64>>| {
            let array: ArrayRef = std::sync::Arc::new(Float64Array::from(numbers));
            convert(&array, &to)
        };
        for number in [0.1, 1.5, -0.0, 12_345_678.91, -3.07] {
            assert!(convert(vec![Some(number), None]).is_ok(), "{number}");
        }
        for number in [0.001, 1.234, -7.005, 1e12] {
            assert!(convert(vec![None, Some(number)]).is_err(), "{number}");
        }
    }
}
