//! `avg` of decimals, rounded half away from zero as in PostgreSQL; DataFusion's `avg` truncates.
//!
//! Upstream: no issue found (November 2026)

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal256Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL256_MAX_PRECISION, DataType, Decimal256Type, FieldRef, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::average::Avg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    Signature,
};

use crate::groups_accumulator_wrapper::GroupsAccumulatorWrapper;

/// Returns the function that replaces DataFusion's `avg`.
pub fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Average { of: Arc::new(Avg::new()) }))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Average {
    of: Arc<Avg>,
}

/// Returns true if DataFusion's accumulator would truncate the average. It does so for decimals,
/// except with DISTINCT.
fn truncates(arguments: &AccumulatorArgs<'_>) -> bool {
    arguments.return_type().is_decimal() && !arguments.is_distinct
}

impl AggregateUDFImpl for Average {
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
        if !truncates(&arguments) {
            return self.of.accumulator(arguments);
        }
        let result = arguments.return_type().clone();
        Ok(Box::new(AverageAccumulator { of: self.of.accumulator(arguments)?, result }))
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
        if !truncates(&arguments) {
            return self.of.create_groups_accumulator(arguments);
        }
        let result = arguments.return_type().clone();
        let of = self.of.create_groups_accumulator(arguments)?;
        let evaluate = move |state: &[ArrayRef]| {
            let [counts, sums] = state else {
                return internal_err!("the state of `avg` has no sum");
            };
            divided(counts, sums, &result)
        };
        Ok(Box::new(GroupsAccumulatorWrapper { of, evaluate }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.of.documentation()
    }
}

/// Divides sums by counts, and rounds half away from zero. The average of no values is null.
fn divided(counts: &ArrayRef, sums: &ArrayRef, result: &DataType) -> Result<ArrayRef> {
    let (
        DataType::Decimal32(_, before)
        | DataType::Decimal64(_, before)
        | DataType::Decimal128(_, before)
        | DataType::Decimal256(_, before),
        DataType::Decimal32(_, after)
        | DataType::Decimal64(_, after)
        | DataType::Decimal128(_, after)
        | DataType::Decimal256(_, after),
    ) = (sums.data_type(), result)
    else {
        return internal_err!("the state of `avg` is not a decimal");
    };
    let scaled = u32::try_from(after - before).unwrap_or_default();
    let factor = i256::from_i128(10).wrapping_pow(scaled);
    let wide = cast(sums, &DataType::Decimal256(DECIMAL256_MAX_PRECISION, *before))?;
    let counts = counts.as_primitive::<UInt64Type>();
    let average = |(sum, count): (Option<i256>, Option<u64>)| match (sum, count) {
        (Some(sum), Some(count)) if count > 0 => {
            let count = i256::from(i128::from(count));
            let scaled = sum
                .checked_mul(factor)
                .ok_or_else(|| exec_datafusion_err!("the average does not fit into {result}"))?;
            let (quotient, rest) = (scaled / count, scaled % count);
            let is_half = rest.wrapping_abs() >= count - rest.wrapping_abs();
            let step = if scaled < i256::ZERO { i256::MINUS_ONE } else { i256::ONE };
            Ok(Some(if is_half { quotient + step } else { quotient }))
        }
        _ => Ok(None),
    };
    let sums = wide.as_primitive::<Decimal256Type>();
    let averages: Result<Decimal256Array> = sums.iter().zip(counts).map(average).collect();
    let averages = averages?.with_precision_and_scale(DECIMAL256_MAX_PRECISION, *after)?;
    Ok(cast(&averages, result)?)
}

/// The average of all values.
#[derive(Debug)]
struct AverageAccumulator {
    /// DataFusion's accumulator, whose state is the number and the sum of the values.
    of: Box<dyn Accumulator>,
    result: DataType,
}

impl Accumulator for AverageAccumulator {
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
        self.of.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.of.state()?;
        let [count, sum] = state.as_slice() else {
            return internal_err!("the state of `avg` has no sum");
        };
        let average = divided(&count.to_array()?, &sum.to_array()?, &self.result)?;
        ScalarValue::try_from_array(&average, 0)
    }

    fn size(&self) -> usize {
        self.of.size()
    }
}
