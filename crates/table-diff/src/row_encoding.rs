//! Encoding of rows as bytes: equal rows have equal bytes, and the bytes sort like the rows. All
//! types are supported, including NaN and null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, LargeBinaryArray, RecordBatch, make_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use headwater_lake::json_rows;
use headwater_table_scan::{plain_batch, plain_schema};
use serde_json::Value;

/// First byte of an encoded row: [`WHOLE`] if no value is null, otherwise [`HAS_NULL`].
const WHOLE: u8 = 0;
const HAS_NULL: u8 = 1;

/// Number of decimal digits that a double always preserves. Decimals with more digits become text
/// in JSON.
const DOUBLE_DIGITS: u8 = 15;

/// Returns the expression that encodes a row of expressions.
pub(crate) fn encoded(columns: Vec<Expr>) -> Expr {
    let signature = Signature::variadic_any(Volatility::Immutable);
    ScalarUDF::new_from_impl(RowEncodingFunction { signature }).call(columns)
}

/// Returns true for an encoded row with a null.
pub(crate) fn has_null(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HAS_NULL)
}

/// The function that encodes its arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowEncodingFunction {
    signature: Signature,
}

impl ScalarUDFImpl for RowEncodingFunction {
    fn name(&self) -> &'static str {
        "row_bytes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::LargeBinary)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let arrays = arguments.args.iter().map(|argument| argument.to_array(rows));
        let bytes = row_bytes(&arrays.collect::<Result<Vec<_>>>()?, rows)?;
        Ok(ColumnarValue::Array(Arc::new(bytes)))
    }
}

fn row_bytes(columns: &[ArrayRef], count: usize) -> Result<LargeBinaryArray, ArrowError> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let columns: Vec<ArrayRef> = columns.iter().map(one_zero).collect::<Result<_, _>>()?;
    let rows = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
    let nulls: Vec<_> = columns.iter().filter_map(Array::logical_nulls).collect();
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(count + 1);
    ends.push(0_i64);
    for at in 0..count {
        let any = nulls.iter().any(|nulls| nulls.is_null(at));
        bytes.push(if any { HAS_NULL } else { WHOLE });
        bytes.extend_from_slice(rows.row(at).data());
        ends.push(bytes.len() as i64);
    }
    let ends = arrow::buffer::OffsetBuffer::new(ends.into());
    LargeBinaryArray::try_new(ends, bytes.into(), None)
}

/// Replaces -0.0 by 0.0 at every nesting level, because both are equal, and an engine that rewrites
/// a file may replace one by the other.
fn one_zero(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Float32 => {
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|x| x + 0.0))
        }
        DataType::Float64 => {
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| x + 0.0))
        }
        nested if nested.is_nested() => {
            let data = column.to_data();
            let parts = data
                .child_data()
                .iter()
                .map(|part| Ok(one_zero(&make_array(part.clone()))?.to_data()));
            let parts = parts.collect::<Result<Vec<_>, ArrowError>>()?;
            make_array(data.into_builder().child_data(parts).build()?)
        }
        _ => Arc::clone(column),
    })
}

/// A decoder of encoded rows.
#[derive(Debug, Clone)]
pub(crate) struct EncodedRowDecoder {
    types: Vec<DataType>,
}

impl EncodedRowDecoder {
    pub(crate) fn new(types: impl IntoIterator<Item = DataType>) -> Self {
        EncodedRowDecoder { types: types.into_iter().collect() }
    }

    /// Decodes encoded rows into columns.
    pub(crate) fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.types.is_empty() {
            return Ok(Vec::new());
        }
        let fields = self.types.iter().map(|data_type| SortField::new(data_type.clone()));
        let converter = RowConverter::new(fields.collect())?;
        let bytes = rows.map(|bytes| bytes.get(1..).unwrap_or_default());
        let rows = converter.from_binary(BinaryArray::from_iter_values(bytes));
        converter.convert_rows(rows.iter())
    }

    /// Returns for each column the rows in which two batches differ.
    pub(crate) fn differing(
        &self,
        before: &[ArrayRef],
        after: &[ArrayRef],
    ) -> Result<Vec<Vec<bool>>, ArrowError> {
        let columns = self.types.iter().zip(before.iter().zip(after));
        let differing = columns.map(|(data_type, (before, after))| {
            let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
            let before = converter.convert_columns(std::slice::from_ref(before))?;
            let after = converter.convert_columns(std::slice::from_ref(after))?;
            Ok(before.iter().zip(after.iter()).map(|(one, other)| one != other).collect())
        });
        differing.collect()
    }
}

/// Converts columns to one JSON object per row.
pub(crate) fn to_json(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
) -> Result<Vec<Value>, ArrowError> {
    let batch = RecordBatch::try_new(Arc::clone(schema), columns)?;
    let batch = plain_batch(&batch, &plain_schema(schema))?;
    let is_long = |digits: u8| digits > DOUBLE_DIGITS;
    let long =
        |field: &Field| matches!(field.data_type(), DataType::Decimal128(d, _) if is_long(*d));
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let text = long(field);
        columns.push(if text { cast(column, &DataType::Utf8)? } else { Arc::clone(column) });
        let data_type = columns[columns.len() - 1].data_type().clone();
        fields.push(Field::new(field.name(), data_type, true));
    }
    json_rows(&[RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?])
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        vec![
            Arc::new(Int64Array::from(vec![Some(2), Some(1), None, Some(1)])),
            Arc::new(Float64Array::from(vec![f64::NAN, 0.5, f64::NAN, 0.5])),
            Arc::new(StringArray::from(vec![Some("b"), None, Some(""), None])),
        ]
    }

    #[test]
    fn encoded_rows_are_decoded_unchanged() {
        let columns = columns();
        let bytes = row_bytes(&columns, 4).unwrap();
        let codec = EncodedRowDecoder::new(columns.iter().map(|column| column.data_type().clone()));
        let back = codec.decode(bytes.iter().flatten()).unwrap();
        let differing = codec.differing(&columns, &back).unwrap();
        assert!(differing.iter().flatten().all(|differs| !differs));
        assert_eq!(bytes.value(1), bytes.value(3), "equal rows have equal bytes");
        assert!(bytes.value(1)[1..] < bytes.value(0)[1..], "the bytes sort like the rows");
        let nulls: Vec<bool> = bytes.iter().flatten().map(has_null).collect();
        assert_eq!(nulls, [false, true, true, true]);
    }

    #[test]
    fn a_column_differs_where_its_values_do() {
        let one: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(1.0)]));
        let other: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, f64::NAN, 2.0]));
        let codec = EncodedRowDecoder::new([DataType::Float64]);
        assert_eq!(codec.differing(&[one], &[other]).unwrap(), [[false, true, true]]);
    }
}
