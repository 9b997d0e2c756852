//! `percentile_cont` with exact interpolation; DataFusion rounds the interpolation weight to six
//! digits.
//!
//! Upstream: no issue found (November 2026)

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::functions_aggregate::percentile_cont::PercentileCont;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, GroupsAccumulator,
    Signature,
};

use crate::groups_accumulator_wrapper::GroupsAccumulatorWrapper;
use crate::window_frame::{AccumulatorArguments, FrameRows};

/// Returns the function that replaces DataFusion's `percentile_cont`.
pub fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Percentile { of: Arc::new(PercentileCont::new()) }))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Percentile {
    of: Arc<PercentileCont>,
}

impl AggregateUDFImpl for Percentile {
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
        self.of.return_type(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let arguments = AccumulatorArguments::of(&arguments);
        let of = self.of.accumulator(arguments.borrowed())?;
        if arguments.borrowed().expr_fields[0].data_type().is_null() {
            return Ok(of);
        }
        let target = PercentileTarget::of(&arguments.borrowed())?;
        let is_distinct = arguments.is_distinct();
        Ok(Box::new(PercentileAccumulator { of, target, is_distinct }))
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(FrameRows::new(
            Arc::new(self.clone()),
            AccumulatorArguments::of(&arguments),
            false,
        )))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.of.state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        self.of.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let target = PercentileTarget::of(&arguments)?;
        let of = self.of.create_groups_accumulator(arguments)?;
        let evaluate = move |state: &[ArrayRef]| {
            let [lists] = state else {
                return internal_err!("the state of `percentile_cont` is not a list");
            };
            target.of_lists(lists)
        };
        Ok(Box::new(GroupsAccumulatorWrapper { of, evaluate }))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.of.documentation()
    }
}

/// The requested percentile as a fraction, relative to values in ascending order, and the type of
/// the result.
#[derive(Debug)]
struct PercentileTarget {
    fraction: f64,
    result: DataType,
}

impl PercentileTarget {
    /// Reads the arguments of the aggregate. The range of the percentile is not checked, because
    /// DataFusion does this when it creates its accumulator.
    fn of(arguments: &AccumulatorArgs<'_>) -> Result<Self> {
        let [_, fraction] = arguments.exprs else {
            return internal_err!("`percentile_cont` takes a value and a percentile");
        };
        let no_rows = RecordBatch::new_empty(Arc::new(arguments.schema.clone()));
        let ColumnarValue::Scalar(fraction) = fraction.evaluate(&no_rows)? else {
            return plan_err!("the percentile of `percentile_cont` must be a constant");
        };
        let ScalarValue::Float64(Some(fraction)) = fraction.cast_to(&DataType::Float64)? else {
            return plan_err!("the percentile of `percentile_cont` must be a number from 0 to 1");
        };
        let descending = arguments.order_bys.first().is_some_and(|sort| sort.options.descending);
        let fraction = if descending { 1.0 - fraction } else { fraction };
        Ok(PercentileTarget { fraction, result: arguments.return_type().clone() })
    }

    /// Returns the percentile of each list of values.
    fn of_lists(&self, lists: &ArrayRef) -> Result<ArrayRef> {
        let percentile = |list: Option<ArrayRef>| match list {
            Some(values) => self.of_values(&values),
            None => Ok(None),
        };
        let percentiles = lists.as_list::<i32>().iter().map(percentile);
        let percentiles: ArrayRef = Arc::new(percentiles.collect::<Result<Float64Array>>()?);
        Ok(cast(&percentiles, &self.result)?)
    }

    /// Returns the percentile of the values; `None` if there are no values.
    fn of_values(&self, values: &ArrayRef) -> Result<Option<f64>> {
        let values = cast(values, &DataType::Float64)?;
        let mut values: Vec<f64> = values.as_primitive::<Float64Type>().iter().flatten().collect();
        let Some(last) = values.len().checked_sub(1) else { return Ok(None) };
        let place = self.fraction.clamp(0.0, 1.0) * last as f64;
        let lower = (place.floor() as usize).min(last);
        let (_, low, above) = values.select_nth_unstable_by(lower, f64::total_cmp);
        let (low, weight) = (*low, place.fract());
        if weight == 0.0 {
            return Ok(Some(low));
        }
        let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
        let is_same = low.total_cmp(&high).is_eq();
        Ok(Some(if is_same { low } else { low + (high - low) * weight }))
    }
}

/// The percentile of all values.
#[derive(Debug)]
struct PercentileAccumulator {
    /// DataFusion's accumulator, whose state is the list of the values.
    of: Box<dyn Accumulator>,
    target: PercentileTarget,
    is_distinct: bool,
}

impl Accumulator for PercentileAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.of.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.of.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.of.state()?;
        let [ScalarValue::List(list)] = state.as_slice() else {
            return internal_err!("the state of `percentile_cont` is not a list");
        };
        let value = self.target.of_values(list.values())?;
        // Without DISTINCT, `state` removes the values from DataFusion's accumulator. Put them
        // back, because a growing window frame evaluates the same accumulator again.
        if !self.is_distinct {
            self.of.merge_batch(&[Arc::clone(list) as ArrayRef])?;
        }
        ScalarValue::Float64(value).cast_to(&self.target.result)
    }

    fn size(&self) -> usize {
        self.of.size()
    }
}
