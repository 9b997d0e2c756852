//! Type widening: the common type of two types, and the implicit conversions to a column's type.

use arrow::datatypes::{DataType, TimeUnit};

/// Returns the narrowest type that holds the values of both types; `None` if no type holds both,
/// for example for a struct and a number. Text holds the values of any type that is neither nested
/// nor binary.
pub(crate) fn widen(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    if left.is_nested() || right.is_nested() {
        return None;
    }
    if fits(left, right) {
        return Some(right.clone());
    }
    if fits(right, left) {
        return Some(left.clone());
    }
    Some(match (left, right) {
        (DataType::Decimal128(..) | DataType::Float32, other)
        | (other, DataType::Decimal128(..) | DataType::Float32)
            if other.is_numeric() =>
        {
            DataType::Float64
        }
        _ if is_binary(left) || is_binary(right) => return None,
        _ => DataType::Utf8,
    })
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_))
}

/// Returns true if a column of type `to` can store values of type `from` unchanged, possibly in
/// another notation.
pub(crate) fn fits(from: &DataType, to: &DataType) -> bool {
    if from == to {
        return true;
    }
    match (from, to) {
        (DataType::Null, _)
        | (DataType::Int32, DataType::Int64 | DataType::Float64)
        | (DataType::Int64 | DataType::Float32, DataType::Float64)
        | (DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, None))
        | (
            DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        )
        | (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, Some(_)))
        | (DataType::Utf8, DataType::Binary | DataType::LargeBinary) => true,
        (DataType::Int32, DataType::Decimal128(precision, scale)) => {
            i16::from(*precision) - i16::from(*scale) >= 10
        }
        (DataType::Int64, DataType::Decimal128(precision, scale)) => {
            i16::from(*precision) - i16::from(*scale) >= 19
        }
        (DataType::Decimal128(p, s), DataType::Decimal128(precision, scale)) => {
            s <= scale && i16::from(*precision) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
        }
        (from, DataType::Utf8) => !from.is_nested() && !is_binary(from),
        (DataType::Struct(from), DataType::Struct(to)) => from.iter().all(|field| {
            let found = to.iter().find(|other| other.name() == field.name());
            found.is_some_and(|other| fits(field.data_type(), other.data_type()))
        }),
        (DataType::List(from), DataType::List(to)) => fits(from.data_type(), to.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wider_type_represents_both_types() {
        use DataType::{Binary, Boolean, Date32, Decimal128, Float32, Float64, Int32, Int64, Utf8};
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let cases = [
            (Int32, Int64, Some(Int64)),
            (Int64, Float64, Some(Float64)),
            (Int64, Float32, Some(Float64)),
            (Date32, timestamp.clone(), Some(timestamp)),
            (Int64, Boolean, Some(Utf8)),
            (Date32, Int64, Some(Utf8)),
            (Decimal128(10, 2), Decimal128(12, 4), Some(Decimal128(12, 4))),
            (Decimal128(10, 2), Float64, Some(Float64)),
            (Int64, Decimal128(5, 2), Some(Float64)),
            (Binary, Utf8, Some(Binary)),
            (Binary, Int64, None),
            (Utf8, DataType::Struct(arrow::datatypes::Fields::empty()), None),
        ];
        for (left, right, wide) in cases {
            assert_eq!(widen(&left, &right), wide, "{left} {right}");
            assert_eq!(widen(&right, &left), wide, "{right} {left}");
        }
    }

    #[test]
    fn narrower_columns_reject_wider_values() {
        assert!(!fits(&DataType::Int64, &DataType::Int32));
        assert!(!fits(&DataType::Utf8, &DataType::Int64));
        assert!(!fits(&DataType::Float64, &DataType::Int64));
    }
}
