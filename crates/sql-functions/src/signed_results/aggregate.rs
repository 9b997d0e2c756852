//! Wraps an aggregate function so that it returns signed integers.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator,
    Signature,
};

use super::{signed, signed_field};

/// An aggregate function whose unsigned result is cast to signed integers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AggregateFunctionWithSignedResult {
    pub of: Arc<AggregateUDF>,
}

impl AggregateFunctionWithSignedResult {
    fn inner(&self) -> &Arc<dyn AggregateUDFImpl> {
        self.of.inner()
    }
}

impl AggregateUDFImpl for AggregateFunctionWithSignedResult {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn aliases(&self) -> &[String] {
        self.of.aliases()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(signed(&self.inner().return_type(arguments)?))
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        Ok(signed_field(&self.inner().return_field(arguments)?))
    }

    fn is_nullable(&self) -> bool {
        self.inner().is_nullable()
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SignedAccumulator { of: self.inner().accumulator(arguments)? }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner().state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        self.inner().groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let of = self.inner().create_groups_accumulator(arguments)?;
        Ok(Box::new(SignedGroupsAccumulator { of }))
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SignedAccumulator { of: self.inner().create_sliding_accumulator(arguments)? }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(arguments)
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        signed_value(self.inner().default_value(&DataType::UInt64)?)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }
}

fn signed_value(value: ScalarValue) -> Result<ScalarValue> {
    let to = signed(&value.data_type());
    value.cast_to(&to)
}

/// The accumulator of one group, which casts DataFusion's result.
#[derive(Debug)]
struct SignedAccumulator {
    of: Box<dyn Accumulator>,
}

impl Accumulator for SignedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        signed_value(self.of.evaluate()?)
    }

    fn size(&self) -> usize {
        self.of.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.of.state()
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
}

/// The accumulator of many groups, which casts DataFusion's results.
struct SignedGroupsAccumulator {
    of: Box<dyn GroupsAccumulator>,
}

impl GroupsAccumulator for SignedGroupsAccumulator {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.of.update_batch(values, group_indices, filter, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let values = self.of.evaluate(emit_to)?;
        Ok(cast(&values, &signed(values.data_type()))?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.of.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        self.of.merge_batch(values, group_indices, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.of.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.of.size()
    }
}
