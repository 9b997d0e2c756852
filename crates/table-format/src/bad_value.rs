//! The error for a value that the type of a table's column cannot represent.
//!
//! Arrow's cast errors do not contain the row of the value, so a second cast finds the row.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use arrow::util::display::array_value_to_string;

use crate::Error;
use crate::types::{field_type_name, type_name};

/// Returns the error for a value of an array; `row` is `None` if its row is unknown. In `column`,
/// nested fields are separated by dots.
pub fn bad_value(array: &ArrayRef, row: Option<usize>, field: &Field, column: &str) -> Error {
    let (found, expected) = (type_name(array.data_type()), field_type_name(field));
    let value = match row.and_then(|row| array_value_to_string(array, row).ok()) {
        Some(value) => format!("the value `{value:.40}` of type `{found}`"),
        None => format!("a value of type `{found}`"),
    };
    Error::BadValue { column: column.to_owned(), value, expected }
}

/// Returns the first row whose value cannot be cast to a type; `None` if there is no such row, or
/// if the types cannot be cast.
pub fn failed_row(array: &ArrayRef, to: &DataType) -> Option<usize> {
    // This cast returns null for each value that does not fit.
    let nulls = cast(array, to).ok()?.logical_nulls()?;
    (0..array.len()).find(|row| nulls.is_null(*row) && array.is_valid(*row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn the_first_value_that_does_not_fit_is_found() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)]));
        assert_eq!(failed_row(&array, &DataType::Int64), None);
        assert_eq!(failed_row(&array, &DataType::Int32), Some(2));
        let field = Field::new("n", DataType::Int32, true);
        assert_eq!(
            bad_value(&array, None, &field, "a.n").to_string(),
            "column `a.n` has a value of type `long`, which does not fit the table's type `int`"
        );
    }
}
