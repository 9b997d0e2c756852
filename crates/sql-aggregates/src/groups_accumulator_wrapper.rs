//! Wraps DataFusion's accumulators for groups, to compute other results from their states.

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// An accumulator of DataFusion for groups, and the function `evaluate`, which computes the results
/// from the accumulator's states.
pub(crate) struct GroupsAccumulatorWrapper<F> {
    /// DataFusion's accumulator.
    pub of: Box<dyn GroupsAccumulator>,
    /// Returns the result of each group, from the columns of the state.
    pub evaluate: F,
}

impl<F> GroupsAccumulator for GroupsAccumulatorWrapper<F>
where
    F: Fn(&[ArrayRef]) -> Result<ArrayRef> + Send + 'static,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.of.update_batch(values, groups, filter, group_count)
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.of.merge_batch(states, groups, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        (self.evaluate)(&self.of.state(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.of.state(emit_to)
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
