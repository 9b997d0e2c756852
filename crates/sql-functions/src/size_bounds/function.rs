//! A scalar function whose results are limited.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, StructFieldMapping,
};

use headwater_sql_python::PythonUdf;

use super::argument::fixed_width;
use crate::error_text::clean;
use crate::panic::{PANICKED, panic_error};

use super::budget::{FunctionMemory, FunctionMemoryExtension, MemoryCharge, too_large};
use super::call::CallArguments;
use super::charged_buffer::{UNCHARGED_BYTES, attach_charge, memory_bytes, total_bytes};
use super::python_memory::{self, sliced};
use super::rules::{OTHERS, SizeRule, rule};
use super::text;

/// Maximum bytes of text or elements in one array with 32-bit offsets.
const OFFSETS_MAX: u64 = i32::MAX as u64;

/// The limit for one slice of a batch is the statement's limit divided by this number.
const SLICES_PER_LIMIT: u64 = 4;

/// Replaces all registered functions by versions that limit the size of their results.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let functions: Vec<Arc<ScalarUDF>> = state.scalar_functions().values().cloned().collect();
    for function in functions {
        // Wrap each function once: skip the entries for its aliases.
        if let Some(bounded) = bounded(&function) {
            state.register_udf(bounded)?;
        }
    }
    Ok(())
}

/// Functions that the optimizer and the rules of this crate recognize by their Rust type. They
/// cannot be wrapped, because a wrapper has another type. They need no limit, because their results
/// have a fixed size or refer to the arguments without a copy.
const KNOWN_BY_TYPE: [&str; 6] = ["get_field", "log", "named_struct", "power", "round", "struct"];

/// Returns a version of the function that limits its results; `None` if the function already limits
/// its results, or if it is listed in [`KNOWN_BY_TYPE`].
pub(super) fn bounded(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let rule = rule(function.name());
    if KNOWN_BY_TYPE.contains(&function.name()) || function.inner().is::<BoundedFunction>() {
        return None;
    }
    Some(with_rule(Arc::clone(function.inner()), rule))
}

/// Wraps the function so that a rule limits the size of its results.
pub(super) fn with_rule(inner: Arc<dyn ScalarUDFImpl>, rule: SizeRule) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(BoundedFunction { inner, rule }))
}

/// Returns the expression with all its functions replaced by versions that limit their results.
pub(super) fn limit_functions(expr: Expr) -> Result<Expr> {
    let limit = |expr| {
        Ok(match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) => match bounded(&func) {
                Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })),
                None => Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
            },
            other => Transformed::no(other),
        })
    };
    expr.transform_up(limit).data()
}

/// A function, with the rule that estimates the size of its results.
struct BoundedFunction {
    inner: Arc<dyn ScalarUDFImpl>,
    rule: SizeRule,
}

impl std::fmt::Debug for BoundedFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for BoundedFunction {
    fn eq(&self, other: &Self) -> bool {
        let other: &dyn Any = other.inner.as_ref();
        self.inner.dyn_eq(other)
    }
}

impl Eq for BoundedFunction {}

impl Hash for BoundedFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.dyn_hash(state);
    }
}

/// A function call that can be evaluated.
struct BoundedCall<'a> {
    inner: &'a dyn ScalarUDFImpl,
    rule: SizeRule,
    memory: &'a Arc<FunctionMemory>,
    arguments: ScalarFunctionArgs,
}

impl BoundedCall<'_> {
    fn run(self) -> Result<ColumnarValue> {
        self.memory.check_stopped()?;
        let to = self.arguments.return_type().clone();
        let arguments = self.arguments.args.clone();
        let call = CallArguments::new(&arguments, &to);
        if call.is_constant() {
            return self.constant(&call);
        }
        let rows = self.arguments.number_rows;
        let estimates = BatchSizeBounds::new(&call, self.rule, rows);
        if estimates.total <= UNCHARGED_BYTES {
            return self.inner.invoke_with_args(self.arguments);
        }
        let largest = estimates.largest();
        if largest > self.memory.value_limit() {
            return Err(self.refuse(largest, "in one value", self.memory.value_limit()));
        }
        let most = self.memory.limit() / SLICES_PER_LIMIT;
        if estimates.total <= most.min(OFFSETS_MAX)
            && let Ok(charge) = self.memory.charge(self.inner.name(), estimates.total)
        {
            let function = self.inner.name().to_owned();
            let result = self.inner.invoke_with_args(self.arguments)?;
            return charge_result(&function, result, charge, rows);
        }
        self.in_slices(&estimates, most.min(OFFSETS_MAX), &to)
    }

    fn refuse(&self, size: u64, scope: &'static str, limit: u64) -> DataFusionError {
        too_large(self.inner.name(), size, scope, limit)
    }

    /// Evaluates a call with constant arguments. If the result is large, returns it as an array,
    /// whose memory counts towards the limit. DataFusion would later copy a scalar for each row,
    /// and these copies would not be counted.
    fn constant(self, call: &CallArguments<'_>) -> Result<ColumnarValue> {
        let size = BatchSizeBounds::new(call, self.rule, 1).total;
        let limit = self.memory.value_limit();
        if size > limit {
            return Err(self.refuse(size, "in one value", limit));
        }
        let rows = self.arguments.number_rows.max(1);
        let function = self.inner.name().to_owned();
        let mut charge = self.memory.charge(&function, size)?;
        let memory = self.memory;
        let result = self.inner.invoke_with_args(self.arguments)?;
        let ColumnarValue::Scalar(value) = result else {
            return charge_result(&function, result, charge, rows);
        };
        let all =
            super::argument::Argument::new(&ColumnarValue::Scalar(value.clone())).total(0..rows);
        if all <= UNCHARGED_BYTES {
            return Ok(ColumnarValue::Scalar(value));
        }
        if all > memory.limit().min(OFFSETS_MAX) {
            let limit = memory.limit().min(OFFSETS_MAX);
            return Err(too_large(&function, all, "in one batch", limit));
        }
        charge.resize(&function, all)?;
        let repeated = value.to_array_of_size(rows)?;
        Ok(ColumnarValue::Array(attach_charge(repeated, charge)))
    }

    /// Evaluates a batch in slices of rows, so that the estimated result of each slice has at most
    /// `most` bytes. A slice of a single row may have more.
    fn in_slices(
        &self,
        estimates: &BatchSizeBounds<'_>,
        most: u64,
        to: &DataType,
    ) -> Result<ColumnarValue> {
        let rows = self.arguments.number_rows;
        let (mut parts, mut begin): (Vec<ArrayRef>, usize) = (Vec::new(), 0);
        while begin < rows {
            let end = estimates.end_of_slice(begin, most);
            let part = self.slice(begin..end, estimates)?;
            parts.push(part);
            begin = end;
        }
        let size = total_bytes(&parts).min(estimates.total);
        if has_short_offsets(to) && size > OFFSETS_MAX {
            return Err(self.refuse(size, "in one batch", OFFSETS_MAX));
        }
        let charge = self.memory.charge(self.inner.name(), size)?;
        let parts: Vec<&dyn Array> = parts.iter().map(Arc::as_ref).collect();
        Ok(ColumnarValue::Array(attach_charge(concat(&parts)?, charge)))
    }

    fn slice(&self, rows: Range<usize>, estimates: &BatchSizeBounds<'_>) -> Result<ArrayRef> {
        self.memory.check_stopped()?;
        let arguments = sliced(&self.arguments, rows.clone());
        let charge = self.memory.charge(self.inner.name(), estimates.of(rows.clone()))?;
        let result = self.inner.invoke_with_args(arguments)?;
        match charge_result(self.inner.name(), result, charge, rows.len())? {
            ColumnarValue::Array(values) => Ok(values),
            ColumnarValue::Scalar(value) => value.to_array_of_size(rows.len()),
        }
    }
}

/// Changes the memory charge from the estimated size to the actual size of the result.
fn charge_result(
    function: &str,
    result: ColumnarValue,
    mut charge: MemoryCharge,
    rows: usize,
) -> Result<ColumnarValue> {
    match result {
        ColumnarValue::Array(values) => {
            // Never charge more than the estimate: the result may share buffers with the arguments,
            // which are already counted.
            let size = memory_bytes(&values).min(charge.bytes() as u64);
            charge.resize(function, size)?;
            Ok(ColumnarValue::Array(attach_charge(values, charge)))
        }
        ColumnarValue::Scalar(value) if rows == 1 => Ok(ColumnarValue::Scalar(value)),
        ColumnarValue::Scalar(value) => {
            let value = ColumnarValue::Scalar(value);
            let all = super::argument::Argument::new(&value).total(0..rows);
            charge.resize(function, all)?;
            Ok(ColumnarValue::Array(attach_charge(value.into_array(rows)?, charge)))
        }
    }
}

/// Returns the error of a failed call. An internal error of DataFusion means that the arguments are
/// invalid: some functions reject values that their signatures accept.
fn of_arguments(function: &str, error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Internal(message) => {
            if message == PANICKED {
                return exec_datafusion_err!("`{function}` does not take these arguments");
            }
            let message = clean(&message);
            exec_datafusion_err!("`{function}` does not take these arguments: {message}")
        }
        other => other,
    }
}

/// The estimated sizes of a call's results for the rows of a batch.
struct BatchSizeBounds<'a> {
    rows: Vec<u64>,
    call: &'a CallArguments<'a>,
    factor: u64,
    count: usize,
    total: u64,
}

impl<'a> BatchSizeBounds<'a> {
    fn new(call: &'a CallArguments<'a>, rule: SizeRule, count: usize) -> Self {
        let least = fixed_width(call.to);
        match rule {
            SizeRule::Fixed => {
                BatchSizeBounds { rows: Vec::new(), call, factor: 0, count, total: 0 }
            }
            SizeRule::Within(factor) => {
                let mut estimates =
                    BatchSizeBounds { rows: Vec::new(), call, factor, count, total: 0 };
                estimates.total = estimates.of(0..count);
                estimates
            }
            SizeRule::Each(estimate) => {
                let estimate = estimate(call);
                let rows: Vec<u64> =
                    (0..count).map(|row| estimate(row).saturating_add(least)).collect();
                let total = rows.iter().copied().fold(0, u64::saturating_add);
                drop(estimate);
                BatchSizeBounds { rows, call, factor: 0, count, total }
            }
            SizeRule::Parsed if call.to.is_nested() => {
                Self::new(call, SizeRule::Each(text::parse_text), count)
            }
            SizeRule::Parsed => Self::new(call, OTHERS, count),
        }
    }

    fn of(&self, rows: Range<usize>) -> u64 {
        if self.rows.is_empty() {
            let least = fixed_width(self.call.to).saturating_mul(rows.len() as u64);
            return self.call.total(&rows).saturating_mul(self.factor).saturating_add(least);
        }
        self.rows[rows].iter().copied().fold(0, u64::saturating_add)
    }

    fn largest(&self) -> u64 {
        if self.rows.is_empty() {
            return (0..self.count).map(|row| self.of(row..row + 1)).max().unwrap_or(0);
        }
        self.rows.iter().copied().max().unwrap_or(0)
    }

    /// Returns the end of the slice that begins at a row and has at most `most` estimated bytes.
    /// Each slice has at least one row.
    fn end_of_slice(&self, begin: usize, most: u64) -> usize {
        let (mut end, mut sum) = (begin, 0_u64);
        while end < self.count {
            sum = sum.saturating_add(self.of(end..end + 1));
            if sum > most && end > begin {
                break;
            }
            end += 1;
        }
        end
    }
}

fn has_short_offsets(data_type: &DataType) -> bool {
    use DataType::{Binary, List, Map, Utf8};
    matches!(data_type, Utf8 | Binary | List(_) | Map(_, _))
}

impl ScalarUDFImpl for BoundedFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated, reason = "each method is delegated")]
        self.inner.display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let updated = self.inner.with_updated_config(config)?;
        let inner = Arc::clone(updated.inner());
        Some(ScalarUDF::new_from_impl(BoundedFunction { inner, rule: self.rule }))
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let inner = self.inner.as_ref();
        if matches!(self.name(), "lpad" | "rpad") {
            text::clamp_length(&mut arguments.args);
        }
        let call = || {
            if matches!(self.rule, SizeRule::Fixed) {
                return inner.invoke_with_args(arguments);
            }
            let memory = &FunctionMemoryExtension::of(&arguments.config_options);
            if inner.is::<PythonUdf>() {
                return python_memory::invoke(inner, memory, &arguments);
            }
            BoundedCall { inner, rule: self.rule, memory, arguments }.run()
        };
        // Panics are caught, because some functions panic on extreme values, such as dates beyond
        // chrono's calendar.
        let result = catch_unwind(AssertUnwindSafe(call));
        let result = result.unwrap_or_else(|panic| Err(panic_error(panic.as_ref())));
        result.map_err(|error| of_arguments(self.name(), error))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => {
                ExprSimplifyResult::Simplified(limit_functions(expr)?)
            }
            original @ ExprSimplifyResult::Original(_) => original,
        })
    }

    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<PreimageResult> {
        self.inner.preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}
