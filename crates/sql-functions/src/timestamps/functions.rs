//! `now`, `to_timestamp` and `date_trunc` in microseconds.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/25432>

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::types::{NativeType, logical_date, logical_string};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::functions::datetime::to_timestamp::ToTimestampFunc;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    Coercion, ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TypeSignature, TypeSignatureClass, Volatility, lit,
};

use super::texts_without_seconds::with_seconds;
use super::time_zones::AtTimeZone;

/// Number of microseconds in 400 years, after which the calendar repeats, including weekdays.
const CYCLE: i64 = 146_097 * 86_400 * 1_000_000;

/// Maximum distance from 1970, in microseconds, at which DataFusion's function is called directly.
/// Timestamps in nanoseconds cover about one year more.
const NEAR: i64 = i64::MAX / 1_000 - 366 * 86_400 * 1_000_000;

/// Returns `now`, `to_timestamp` and `date_trunc`, and the function for AT TIME ZONE.
pub(crate) fn functions(config: &ConfigOptions) -> [Arc<ScalarUDF>; 4] {
    let zone: Option<Arc<str>> = config.execution.time_zone.as_deref().map(Arc::from);
    let now = NowFunction { zone: zone.clone(), signature: Signature::nullary(Volatility::Stable) };
    let to_timestamp = ToTimestamp { any: ToTimestampFunc::new_with_config(config), zone };
    let (date_trunc, at_time_zone) = (DateTrunc::new().into(), AtTimeZone::new().into());
    [ScalarUDF::from(now), to_timestamp.into(), date_trunc, at_time_zone].map(Arc::new)
}

fn microseconds(zone: Option<Arc<str>>) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone)
}

/// `now()`: the start time of the statement.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NowFunction {
    zone: Option<Arc<str>>,
    signature: Signature,
}

impl ScalarUDFImpl for NowFunction {
    fn name(&self) -> &'static str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        static ALIASES: std::sync::LazyLock<[String; 1]> =
            std::sync::LazyLock::new(|| ["current_timestamp".to_owned()]);
        &*ALIASES
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(microseconds(self.zone.clone()))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), microseconds(self.zone.clone()), false)))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(begun) = info.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let begun = Some(begun.timestamp_micros());
        let begun = ScalarValue::TimestampMicrosecond(begun, self.zone.clone());
        Ok(ExprSimplifyResult::Simplified(lit(begun)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("`now` is a constant of its statement")
    }
}

/// `to_timestamp` of texts, numbers of seconds, dates and timestamps. Texts with formats and
/// fractional numbers are handled by DataFusion's function, in nanoseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    any: ToTimestampFunc,
    zone: Option<Arc<str>>,
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &'static str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        self.any.signature()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(microseconds(self.zone.clone()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = microseconds(self.zone.clone());
        let Some(value) = arguments.args.first() else {
            return self.any.invoke_with_args(arguments);
        };
        match value.data_type() {
            from if from.is_string() && arguments.args.len() == 1 => {
                with_seconds(value)?.cast_to(&to, None)
            }
            from if from.is_integer() => {
                let seconds = DataType::Timestamp(TimeUnit::Second, None);
                value.cast_to(&DataType::Int64, None)?.cast_to(&seconds, None)?.cast_to(&to, None)
            }
            DataType::Timestamp(..) | DataType::Date32 => value.cast_to(&to, None),
            _ => self.any.invoke_with_args(arguments)?.cast_to(&to, None),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.any.documentation()
    }
}

/// `date_trunc`. DataFusion's function computes in nanoseconds. Timestamps outside the range of
/// nanoseconds are shifted into this range by a multiple of 400 years before the call, and shifted
/// back afterwards.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    near: DateTruncFunc,
    signature: Signature,
}

impl DateTrunc {
    fn new() -> Self {
        let text = || Coercion::new_exact(TypeSignatureClass::Native(logical_string()));
        let moment = Coercion::new_implicit(
            TypeSignatureClass::Timestamp,
            vec![
                TypeSignatureClass::Native(logical_string()),
                TypeSignatureClass::Native(logical_date()),
            ],
            NativeType::Timestamp(TimeUnit::Microsecond, None),
        );
        let time = Coercion::new_exact(TypeSignatureClass::Time);
        let signatures = [moment, time].map(|of| TypeSignature::Coercible(vec![text(), of]));
        let signature = Signature::one_of(signatures.into(), Volatility::Immutable);
        DateTrunc { near: DateTruncFunc::new(), signature }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.near.name()
    }

    fn aliases(&self) -> &[String] {
        self.near.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.near.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.near.return_field_from_args(arguments)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(cycles) = arguments.args.get(1).map(cycles).transpose()?.flatten() else {
            return self.near.invoke_with_args(arguments);
        };
        let single = matches!(arguments.args[1], ColumnarValue::Scalar(_));
        let far = arguments.args[1].to_array(cycles.len())?;
        let near = shift_cycles(&far, &cycles, i64::wrapping_sub);
        arguments.args[1] = ColumnarValue::Array(near);
        let cut = self.near.invoke_with_args(arguments)?.into_array(cycles.len())?;
        let cut = shift_cycles(&cut, &cycles, i64::wrapping_add);
        Ok(if single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&cut, 0)?)
        } else {
            ColumnarValue::Array(cut)
        })
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.near.output_ordering(input)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.near.documentation()
    }
}

/// Returns the number of 400-year cycles by which to shift each timestamp; `None` if all timestamps
/// are in range.
fn cycles(value: &ColumnarValue) -> Result<Option<Vec<i64>>> {
    let DataType::Timestamp(TimeUnit::Microsecond, _) = value.data_type() else {
        return Ok(None);
    };
    let values = match value {
        ColumnarValue::Array(values) => Arc::clone(values),
        ColumnarValue::Scalar(value) => value.to_array()?,
    };
    let values = values.as_primitive::<TimestampMicrosecondType>().values();
    let is_near = |value: &i64| (-NEAR..=NEAR).contains(value);
    if values.iter().all(is_near) {
        return Ok(None);
    }
    let cycle = |value: &i64| {
        if is_near(value) { 0 } else { value.saturating_add(CYCLE / 2).div_euclid(CYCLE) }
    };
    Ok(Some(values.iter().map(cycle).collect()))
}

/// Shifts each timestamp by its number of 400-year cycles. `way` is the addition or subtraction.
fn shift_cycles(values: &ArrayRef, cycles: &[i64], way: fn(i64, i64) -> i64) -> ArrayRef {
    let values = values.as_primitive::<TimestampMicrosecondType>();
    let moved = std::iter::zip(values.values(), cycles);
    let moved = moved.map(|(value, cycle)| way(*value, cycle * CYCLE)).collect::<Vec<_>>();
    let moved = arrow::array::TimestampMicrosecondArray::new(moved.into(), values.nulls().cloned());
    Arc::new(moved.with_data_type(values.data_type().clone()))
}
