//! `sum` that fails on overflow; DataFusion's `sum` wraps around.
//!
//! Integers are added in a wider type that cannot overflow, and decimals of maximum precision with
//! a check. Only the final sum of integers must fit into the result type. The result therefore
//! depends neither on the order of the rows nor on the number of threads. DataFusion handles all
//! other types: the sum of a decimal of lower precision has ten more digits.
//!
//! A rewrite to a sum of `DECIMAL(38, 0)` would also be exact for integers. However, it would copy
//! each batch to values of twice the size, check each value, and not check decimals of maximum
//! precision.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/3520>

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Field,
    FieldRef, Int64Type, UInt64Type,
};
use arrow::error::ArrowError;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator,
    Operator, ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::physical_expr::NullState;

/// Returns the function `sum` that fails on overflow.
pub fn checked_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CheckedSum(Sum::new())))
}

/// DataFusion's `sum`, except for types whose sum may overflow.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum(Sum);

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match adders(args.return_type()) {
            Some(adders) if args.is_distinct => Ok(adders.of_distinct(args.return_type())),
            Some(adders) => Ok(adders.of_all(args.return_type())),
            None => self.0.accumulator(args),
        }
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        match adders(args.return_type()) {
            Some(_) => self.accumulator(args),
            None => self.0.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match adders(args.return_type()) {
            Some(adders) if !args.is_distinct => {
                let total = adders.total(args.return_type());
                Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), total, true))])
            }
            _ => self.0.state_fields(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match adders(args.return_type()) {
            Some(adders) => Ok(adders.of_groups(args.return_type())),
            None => self.0.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.0.simplify_expr_op_literal(function, argument, operator, literal, argument_is_left)
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.0.value_from_stats(statistics)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

/// Creates the accumulators for sums whose result has one particular type.
trait SumAccumulators: Sync {
    /// Returns the wider type in which values are added up. `sum` is the type of the result.
    fn total(&self, sum: &DataType) -> DataType;
    fn of_all(&self, sum: &DataType) -> Box<dyn Accumulator>;
    fn of_distinct(&self, sum: &DataType) -> Box<dyn Accumulator>;
    fn of_groups(&self, sum: &DataType) -> Box<dyn GroupsAccumulator>;
}

/// Returns the accumulators for sums of a type that may overflow; `None` for other types.
fn adders(sum: &DataType) -> Option<&'static dyn SumAccumulators> {
    match sum {
        DataType::Int64 => Some(&PhantomData::<(Int64Type, Decimal128Type)>),
        DataType::UInt64 => Some(&PhantomData::<(UInt64Type, Decimal128Type)>),
        DataType::Decimal32(9, _) => Some(&PhantomData::<(Decimal32Type, Decimal128Type)>),
        DataType::Decimal64(18, _) => Some(&PhantomData::<(Decimal64Type, Decimal128Type)>),
        DataType::Decimal128(38, _) => Some(&PhantomData::<(Decimal128Type, Decimal128Type)>),
        DataType::Decimal256(76, _) => Some(&PhantomData::<(Decimal256Type, Decimal256Type)>),
        _ => None,
    }
}

impl<T: SummedType<W>, W: TotalType> SumAccumulators for PhantomData<(T, W)> {
    fn total(&self, sum: &DataType) -> DataType {
        total_type::<W>(sum)
    }

    fn of_all(&self, sum: &DataType) -> Box<dyn Accumulator> {
        let total = W::Native::ZERO;
        Box::new(SlidingSum::<T, W> { total, count: 0, sum: sum.clone(), of: PhantomData })
    }

    fn of_distinct(&self, sum: &DataType) -> Box<dyn Accumulator> {
        let total = W::Native::ZERO;
        Box::new(DistinctSum::<T, W> { counts: HashMap::new(), total, sum: sum.clone() })
    }

    fn of_groups(&self, sum: &DataType) -> Box<dyn GroupsAccumulator> {
        let (totals, seen) = (Vec::new(), NullState::new());
        Box::new(GroupedSums::<T, W> { totals, seen, sum: sum.clone(), of: PhantomData })
    }
}

/// A wide decimal type in which values are added up.
trait TotalType: DecimalType<Native: Hash + Eq> + Debug {}

impl<W: DecimalType<Native: Hash + Eq> + Debug> TotalType for W {}

/// A type whose values are added up in the wider type `W`.
trait SummedType<W: TotalType>:
    ArrowPrimitiveType<Native: WideConversion<W::Native>> + Debug + Send + Sync
{
}

impl<T, W> SummedType<W> for T
where
    T: ArrowPrimitiveType<Native: WideConversion<W::Native>> + Debug + Send + Sync,
    W: TotalType,
{
}

/// A conversion to the wider type, and back if the value fits.
trait WideConversion<W>: Copy + Hash + Eq {
    fn widened(self) -> W;
    fn narrowed(wide: W) -> Option<Self>;
}

impl<N: Copy + Hash + Eq + Into<W>, W: TryInto<N>> WideConversion<W> for N {
    fn widened(self) -> W {
        self.into()
    }

    fn narrowed(wide: W) -> Option<Self> {
        wide.try_into().ok()
    }
}

/// Returns the decimal type in which values are added up, with the scale of the sum.
fn total_type<W: TotalType>(sum: &DataType) -> DataType {
    W::TYPE_CONSTRUCTOR(W::MAX_PRECISION, digits(sum).map_or(0, |(_, scale)| scale))
}

/// Returns the precision and scale of a decimal.
fn digits(decimal: &DataType) -> Option<(u8, i8)> {
    match decimal {
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale)
        | DataType::Decimal256(digits, scale) => Some((*digits, *scale)),
        _ => None,
    }
}

/// Converts a total to the result type of the sum; fails if it does not fit.
fn fitted<T: SummedType<W>, W: TotalType>(total: W::Native, sum: &DataType) -> Result<T::Native> {
    let digits = digits(sum).map_or(W::MAX_PRECISION, |(digits, _)| digits);
    let fits = W::is_valid_decimal_precision(total, digits);
    fits.then(|| T::Native::narrowed(total)).flatten().ok_or_else(|| too_large(sum))
}

/// Returns the Iceberg name of a sum's type.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "long".to_owned(),
        DataType::UInt64 => "decimal(20, 0)".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision}, {scale})"),
        other => other.to_string(),
    }
}

fn too_large(sum: &DataType) -> DataFusionError {
    let message = format!("overflow: a sum does not fit its type, `{}`", type_name(sum));
    ArrowError::ArithmeticOverflow(message).into()
}

/// The sum of all values, or of the values in a window.
#[derive(Debug)]
struct SlidingSum<T, W: ArrowPrimitiveType> {
    total: W::Native,
    count: usize,
    sum: DataType,
    of: PhantomData<T>,
}

impl<T: SummedType<W>, W: TotalType> SlidingSum<T, W> {
    fn add<V: SummedType<W>>(&mut self, values: &ArrayRef) -> Result<()> {
        let values = values.as_primitive::<V>();
        self.count += values.len() - values.null_count();
        let added = total::<V, W>(values).and_then(|added| self.total.add_checked(added));
        self.total = added.map_err(|_| too_large(&self.sum))?;
        Ok(())
    }
}

/// Returns the total of an array's values.
fn total<T: SummedType<W>, W: TotalType>(
    values: &PrimitiveArray<T>,
) -> Result<W::Native, ArrowError> {
    let mut total = W::Native::ZERO;
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for &value in values.values() {
                total = total.add_checked(value.widened())?;
            }
        }
        Some(nulls) => {
            for row in nulls.valid_indices() {
                total = total.add_checked(values.value(row).widened())?;
            }
        }
    }
    Ok(total)
}

impl<T: SummedType<W>, W: TotalType> Accumulator for SlidingSum<T, W> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add::<T>(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add::<W>(&states[0])
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        self.count -= values.len() - values.null_count();
        let left = total::<T, W>(values).and_then(|gone| self.total.sub_checked(gone));
        self.total = left.map_err(|_| too_large(&self.sum))?;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = (self.count > 0).then_some(self.total);
        Ok(vec![ScalarValue::new_primitive::<W>(total, &total_type::<W>(&self.sum))?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.count > 0).then(|| fitted::<T, W>(self.total, &self.sum)).transpose()?;
        ScalarValue::new_primitive::<T>(sum, &self.sum)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The accumulator of `sum(DISTINCT …)`. In a window, it subtracts the values that leave the frame.
#[derive(Debug)]
struct DistinctSum<T: ArrowPrimitiveType, W: ArrowPrimitiveType> {
    /// The number of occurrences of each value.
    counts: HashMap<T::Native, usize>,
    total: W::Native,
    sum: DataType,
}

impl<T: SummedType<W>, W: TotalType> Accumulator for DistinctSum<T, W> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            let count = self.counts.entry(value).or_default();
            *count += 1;
            if *count == 1 {
                let added = self.total.add_checked(value.widened());
                self.total = added.map_err(|_| too_large(&self.sum))?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let mut lists = states[0].as_list::<i32>().iter().flatten();
        lists.try_for_each(|values| self.update_batch(&[values]))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            let Some(count) = self.counts.get_mut(&value) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&value);
                let left = self.total.sub_checked(value.widened());
                self.total = left.map_err(|_| too_large(&self.sum))?;
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = PrimitiveArray::<T>::from_iter_values(self.counts.keys().copied());
        let values = Arc::new(values.with_data_type(self.sum.clone()));
        Ok(vec![SingleRowListArrayBuilder::new(values).build_list_scalar()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let any = !self.counts.is_empty();
        let sum = any.then(|| fitted::<T, W>(self.total, &self.sum)).transpose()?;
        ScalarValue::new_primitive::<T>(sum, &self.sum)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(T::Native, usize)>()
    }
}

/// The running sums of groups.
struct GroupedSums<T, W: ArrowPrimitiveType> {
    totals: Vec<W::Native>,
    /// Groups that have at least one non-null value.
    seen: NullState,
    sum: DataType,
    of: PhantomData<T>,
}

impl<T: SummedType<W>, W: TotalType> GroupedSums<T, W> {
    fn add<V: SummedType<W>>(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.totals.resize(group_count, W::Native::ZERO);
        let (totals, mut fits) = (&mut self.totals, true);
        let values = values.as_primitive::<V>();
        self.seen.accumulate(groups, values, filter, group_count, |group, value| {
            match totals[group].add_checked(value.widened()) {
                Ok(total) => totals[group] = total,
                Err(_) => fits = false,
            }
        });
        if fits { Ok(()) } else { Err(too_large(&self.sum)) }
    }
}

impl<T: SummedType<W>, W: TotalType> GroupsAccumulator for GroupedSums<T, W> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.add::<T>(&values[0], groups, filter, group_count)
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.add::<W>(&states[0], groups, None, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = emit_to.take_needed(&mut self.totals).into_iter();
        let sums = totals.map(|total| fitted::<T, W>(total, &self.sum));
        let sums = sums.collect::<Result<Vec<_>>>()?;
        let sums = PrimitiveArray::<T>::new(sums.into(), self.seen.build(emit_to));
        Ok(Arc::new(sums.with_data_type(self.sum.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = emit_to.take_needed(&mut self.totals);
        let totals = PrimitiveArray::<W>::new(totals.into(), self.seen.build(emit_to));
        Ok(vec![Arc::new(totals.with_data_type(total_type::<W>(&self.sum)))])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let taken = filter.map(|filter| match filter.nulls() {
            Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let nulls = NullBuffer::union(values.nulls(), taken.as_ref());
        let totals =
            values.values().iter().map(|&value| value.widened()).collect::<Vec<W::Native>>();
        let totals = PrimitiveArray::<W>::new(totals.into(), nulls);
        Ok(vec![Arc::new(totals.with_data_type(total_type::<W>(&self.sum)))])
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<W::Native>() + self.seen.size()
    }
}
