//! Aggregates over sliding window frames, computed without subtracting removed rows.
//!
//! DataFusion removes the rows that leave a frame by subtraction. With floating-point numbers the
//! result then depends on rows outside the frame: `1e20 + 1 - 1e20` is 0, and infinity minus
//! infinity is NaN. Other aggregates cannot remove rows, so DataFusion rejects these aggregates for
//! sliding frames. [`SlidingAggregate`] computes both kinds of aggregates from the rows of the
//! frame; see [`crate::window_frame`].
//!
//! Upstream: no issue found (November 2026)

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};

use crate::window_frame::{AccumulatorArguments, FrameRows};

/// Aggregates whose state has a fixed size. For them, the states of parts of a frame are stored and
/// merged.
const FIXED: [&str; 20] = [
    "sum",
    "avg",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_count",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
    "bool_and",
    "bool_or",
];

/// Other aggregates that cannot remove rows. They are computed from all rows of each frame, without
/// stored states.
const OTHER: [&str; 4] = ["string_agg", "any_value", "approx_distinct", "approx_median"];

/// Replaces the aggregates that are listed in this module (`FIXED` and `OTHER`) in a session's
/// state.
pub fn register(state: &mut SessionState) -> Result<()> {
    for name in FIXED.into_iter().chain(OTHER) {
        let of = state.udaf(name)?;
        state.register_udaf(Arc::new(AggregateUDF::from(SlidingAggregate { of })))?;
    }
    Ok(())
}

/// An aggregate of DataFusion with another accumulator for sliding frames.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SlidingAggregate {
    of: Arc<AggregateUDF>,
}

impl SlidingAggregate {
    fn inner(&self) -> &Arc<dyn AggregateUDFImpl> {
        self.of.inner()
    }
}

impl AggregateUDFImpl for SlidingAggregate {
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
        self.inner().return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.inner().return_field(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.inner().is_nullable()
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner().accumulator(arguments)
    }

    /// Returns the function's own accumulator if it can remove rows exactly.
    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        let arguments = AccumulatorArguments::of(&arguments);
        if !arguments.have_floats() {
            let own = self.inner().create_sliding_accumulator(arguments.borrowed())?;
            if own.supports_retract_batch() {
                return Ok(own);
            }
        }
        let is_fixed = FIXED.contains(&self.name()) && !arguments.is_distinct();
        Ok(Box::new(FrameRows::new(Arc::clone(self.inner()), arguments, is_fixed)))
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
        self.inner().create_groups_accumulator(arguments)
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        is_satisfied: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let of = Arc::clone(self.inner()).with_beneficial_ordering(is_satisfied)?;
        Ok(of.map(|of| {
            let of = Arc::new(AggregateUDF::new_from_shared_impl(of));
            Arc::new(SlidingAggregate { of }) as Arc<dyn AggregateUDFImpl>
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner().simplify()
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        let inner = self.inner();
        inner.simplify_expr_op_literal(function, argument, operator, literal, argument_is_left)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner().reverse_expr() {
            ReversedUDAF::Reversed(of) => {
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(SlidingAggregate { of })))
            }
            other => other,
        }
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(arguments)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner().value_from_stats(statistics)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner().default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner().supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }
}
