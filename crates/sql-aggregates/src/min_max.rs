//! `min` and `max` of floating-point numbers in groups, and of lists and structs.
//!
//! For floating-point numbers, DataFusion initializes each group with the largest or smallest
//! finite number. A group that has only infinities therefore gets a wrong result, and NaN is
//! ignored. DataFusion's ungrouped aggregates are correct, so each group of these types is computed
//! with an ungrouped aggregate.
//!
//! DataFusion's result for lists and structs has the fields of the input. The names and metadata of
//! these fields can differ from the planned type, so the result is cast.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/24432>

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};

/// Returns the functions that replace DataFusion's `min` and `max`.
pub fn functions() -> [Arc<AggregateUDF>; 2] {
    [min_udaf(), max_udaf()].map(|of| Arc::new(AggregateUDF::from(MinMax { of })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MinMax {
    of: Arc<AggregateUDF>,
}

impl MinMax {
    fn inner(&self) -> &Arc<dyn AggregateUDFImpl> {
        self.of.inner()
    }
}

/// Returns true if a type has nested types within nested types; DataFusion cannot compare such
/// values.
fn has_nested_parts(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(part) | DataType::LargeList(part) | DataType::FixedSizeList(part, _) => {
            part.data_type().is_nested()
        }
        DataType::Struct(parts) => parts.iter().any(|part| part.data_type().is_nested()),
        DataType::Map(entries, _) => has_nested_parts(entries.data_type()),
        _ => false,
    }
}

impl AggregateUDFImpl for MinMax {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner().return_type(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let to = arguments.return_type().clone();
        let of = self.inner().accumulator(arguments)?;
        Ok(if to.is_nested() { Box::new(NestedMinMax { of, to }) } else { of })
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner().state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        let data_type = arguments.return_field.data_type();
        !data_type.is_floating()
            && !data_type.is_nested()
            && self.inner().groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner().create_groups_accumulator(arguments)
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        let to = arguments.return_type().clone();
        let of = self.inner().create_sliding_accumulator(arguments)?;
        Ok(if to.is_nested() { Box::new(NestedMinMax { of, to }) } else { of })
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if arguments.iter().any(has_nested_parts) {
            return plan_err!(
                "`{}` does not take lists, maps or structs of nested values",
                self.name()
            );
        }
        self.inner().coerce_types(arguments)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner().reverse_expr()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner().value_from_stats(statistics)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(data_type)
    }
}

/// The smallest or largest list or struct, in the planned type.
#[derive(Debug)]
struct NestedMinMax {
    of: Box<dyn Accumulator>,
    to: DataType,
}

impl NestedMinMax {
    /// Casts a value. `ScalarValue::cast_to` would lose the metadata of the fields.
    fn typed(&self, value: &ScalarValue) -> Result<ScalarValue> {
        let array = cast(&value.to_array()?, &self.to)?;
        Ok(match &self.to {
            DataType::List(_) => ScalarValue::List(Arc::new(array.as_list::<i32>().clone())),
            DataType::Struct(_) => ScalarValue::Struct(Arc::new(array.as_struct().clone())),
            _ => ScalarValue::try_from_array(&array, 0)?,
        })
    }
}

impl Accumulator for NestedMinMax {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.of.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.of.supports_retract_batch()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.of.state()?.iter().map(|state| self.typed(state)).collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.of.evaluate()?;
        self.typed(&value)
    }

    fn size(&self) -> usize {
        self.of.size()
    }
}
