//! `max_by(value, key)` and `min_by(value, key)` over window frames: the value of the row with the
//! largest or smallest non-null key. Without a window, these functions are rewritten as
//! `first_value` with an ORDER BY, which DataFusion rejects in a window.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{SortOptions, sort_to_indices};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};

use crate::window_frame::{AccumulatorArguments, FrameRows};

/// Returns the aggregate functions `max_by` and `min_by` for window frames.
pub fn functions() -> [Arc<AggregateUDF>; 2] {
    [("max_by", true), ("min_by", false)].map(|(name, is_max)| {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(AggregateUDF::from(MinMaxBy { name, is_max, signature }))
    })
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MinMaxBy {
    name: &'static str,
    is_max: bool,
    signature: Signature,
}

impl AggregateUDFImpl for MinMaxBy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let [value, key] = arguments.expr_fields else {
            return internal_err!("`{}` takes a value and a key", self.name);
        };
        let none = |field: &FieldRef| ScalarValue::try_from(field.data_type());
        Ok(Box::new(BestRow { is_max: self.is_max, value: none(value)?, key: none(key)? }))
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(FrameRows::new(
            Arc::new(self.clone()),
            AccumulatorArguments::of(&arguments),
            true,
        )))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |(part, field): (&str, &FieldRef)| {
            let name = format_state_name(arguments.name, part);
            Arc::new(Field::new(name, field.data_type().clone(), true))
        };
        Ok(["value", "key"].into_iter().zip(arguments.input_fields).map(field).collect())
    }
}

/// The value and the key of the row with the largest or smallest key so far; the key is null if no
/// row with a key has been read.
#[derive(Debug)]
struct BestRow {
    is_max: bool,
    value: ScalarValue,
    key: ScalarValue,
}

impl Accumulator for BestRow {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, keys] = values else {
            return internal_err!("a value and a key were expected");
        };
        let order = SortOptions { descending: self.is_max, nulls_first: false };
        let first = sort_to_indices(keys, Some(order), Some(1))?;
        let Some(row) = first.values().first().map(|row| *row as usize) else { return Ok(()) };
        if keys.is_null(row) {
            return Ok(());
        }
        let key = ScalarValue::try_from_array(keys, row)?;
        let better = if self.is_max { Ordering::Greater } else { Ordering::Less };
        if self.key.is_null() || key.partial_cmp(&self.key) == Some(better) {
            self.value = ScalarValue::try_from_array(values, row)?;
            self.key = key;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.key.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() + self.key.size()
    }
}
