//! Aggregates in two steps: for the rows of each key, and then for the keys of each group.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, ExprSchemable, cast, lit, when};

use crate::estimate::RelationEstimate;
use crate::fallible_expression::can_fail;

/// Digits that `sum` adds to the precision of a decimal.
const SUM_DIGITS: u8 = 10;

/// Largest absolute value of which 2^32 values can be added in 64 bits.
const SHORT_MAX: f64 = (1_u64 << 31) as f64;

/// Prefixes of the names of the columns that the two steps add.
const PARTIAL: &str = "__partial_";
const WHOLE: &str = "__whole_";

/// The aggregates of a plan in two steps.
pub struct SplitAggregates {
    /// The aggregates of the first step, over the rows of the input.
    pub partial: Vec<Expr>,
    /// The aggregates of the second step, over the columns of the first.
    pub whole: Vec<Expr>,
    /// The results, one for each aggregate of the plan, over the columns of the second step.
    pub results: Vec<Expr>,
    arguments: BTreeSet<Column>,
}

/// The context in which aggregates are split.
struct Context<'a> {
    schema: &'a DFSchema,
    /// The estimate of the aggregated plan's input.
    input: &'a RelationEstimate,
    registry: &'a dyn FunctionRegistry,
}

impl SplitAggregates {
    /// Returns true if a column has a name that the two steps use: the plan may have been split
    /// before.
    pub fn has_column_in(schema: &DFSchema) -> bool {
        let is_own = |name: &str| name.starts_with(PARTIAL) || name.starts_with(WHOLE);
        schema.fields().iter().any(|field| is_own(field.name()))
    }

    /// Splits the aggregates of a plan; `None` if the result of an aggregate could differ, or if an
    /// argument could fail for a row that the join removes. `input` is the estimate of the plan's
    /// input.
    pub fn of(
        aggregate: &Aggregate,
        input: &RelationEstimate,
        registry: &dyn FunctionRegistry,
    ) -> Result<Option<Self>> {
        let mut split = SplitAggregates {
            partial: Vec::new(),
            whole: Vec::new(),
            results: Vec::new(),
            arguments: BTreeSet::new(),
        };
        let context = Context { schema: aggregate.input.schema(), input, registry };
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(function) = expr.clone().unalias_nested().data else {
                return Ok(None);
            };
            let Some(result) = split.add(&function, &context)? else {
                return Ok(None);
            };
            split.results.push(result);
        }
        Ok(Some(split))
    }

    /// Returns the columns that the aggregates read.
    pub fn arguments(&self) -> &BTreeSet<Column> {
        &self.arguments
    }

    /// Adds an aggregate, and returns its result.
    fn add(
        &mut self,
        function: &AggregateFunction,
        &Context { schema, input, registry }: &Context<'_>,
    ) -> Result<Option<Expr>> {
        let name = function.func.name();
        let is_standard = registry.udaf(name).is_ok_and(|standard| standard == function.func);
        if !is_standard || !is_plain(function) {
            return Ok(None);
        }
        let args = function.params.args.as_slice();
        for arg in args {
            if can_fail(arg, schema)? {
                return Ok(None);
            }
        }
        self.arguments.extend(args.iter().flat_map(Expr::column_refs).cloned());
        let sum = registry.udaf("sum")?;
        Ok(match (name, args) {
            ("min" | "max", _) => Some(self.step(&function.func, args, &function.func)),
            ("count", _) => {
                let count = self.step(&function.func, args, &sum);
                // Each group has rows, so this only removes null from the possible values.
                Some(when(count.clone().is_not_null(), count).otherwise(lit(0_i64))?)
            }
            ("sum", [arg]) if is_exact(arg, schema, input)? => {
                let result = call(&sum, args).get_type(schema)?;
                Some(cast(self.step(&sum, args, &sum), result))
            }
            ("avg", [arg]) if arg.get_type(schema)? == DataType::Float64 => {
                let count = registry.udaf("count")?;
                let (total, number) = (self.step(&sum, args, &sum), self.step(&count, args, &sum));
                Some(total / cast(number, DataType::Float64))
            }
            _ => None,
        })
    }

    /// Adds an aggregate of the first step, and one of the second step over its result. Returns the
    /// column of the second step.
    fn step(
        &mut self,
        first: &Arc<AggregateUDF>,
        args: &[Expr],
        second: &Arc<AggregateUDF>,
    ) -> Expr {
        let number = self.partial.len();
        let (partial, whole) = (format!("{PARTIAL}{number}"), format!("{WHOLE}{number}"));
        self.partial.push(call(first, args).alias(&partial));
        let column = Expr::Column(Column::new_unqualified(partial));
        self.whole.push(call(second, &[column]).alias(&whole));
        Expr::Column(Column::new_unqualified(whole))
    }
}

fn call(function: &Arc<AggregateUDF>, args: &[Expr]) -> Expr {
    function.call(args.to_vec())
}

/// Returns true for an aggregate of all rows, in any order, whose arguments are the same each time.
fn is_plain(function: &AggregateFunction) -> bool {
    let params = &function.params;
    !params.distinct
        && params.filter.is_none()
        && params.order_by.is_empty()
        && params.null_treatment.is_none()
        && !params.args.iter().any(Expr::is_volatile)
}

/// Returns true if sums of some rows cannot overflow when the sum of all rows does not.
fn is_exact(arg: &Expr, schema: &DFSchema, input: &RelationEstimate) -> Result<bool> {
    Ok(match (arg.get_type(schema)?, arg) {
        (DataType::Float64, _) => true,
        (DataType::Decimal128(precision, _), _) => {
            precision + 2 * SUM_DIGITS <= DECIMAL128_MAX_PRECISION
        }
        (DataType::Int64, Expr::Column(column)) => {
            let known = input.columns.get(column);
            let is_short = |bound: Option<f64>| bound.is_some_and(|it| it.abs() <= SHORT_MAX);
            known.is_some_and(|known| is_short(known.min) && is_short(known.max))
        }
        (DataType::Int64, Expr::Cast(cast)) => {
            let before = cast.expr.get_type(schema)?;
            before.is_integer() && before.primitive_width().is_some_and(|bytes| bytes <= 4)
        }
        _ => false,
    })
}
