//! `epoch_ms` of DuckDB, which converts between a time and the milliseconds since 1970.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use chrono::DateTime;
use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::scalar_function;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Milliseconds of a day. A month of an interval has 30 days, as in DuckDB.
const DAY: i64 = 86_400_000;

/// Returns the function `epoch_ms`.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(EpochMsFunction { signature }))
}

/// `epoch_ms(time)`, the milliseconds since 1970, and `epoch_ms(milliseconds)`, the time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct EpochMsFunction {
    signature: Signature,
}

impl ScalarUDFImpl for EpochMsFunction {
    fn name(&self) -> &'static str {
        "epoch_ms"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [given] = arguments else { return plan_err!("`epoch_ms` takes one argument") };
        Ok(vec![match given {
            given if given.is_integer() => DataType::Int64,
            given if given.is_null() || given.is_string() => TIMESTAMP,
            DataType::Date32 | DataType::Date64 => TIMESTAMP,
            DataType::Timestamp(_, zone) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
            DataType::Interval(_) => INTERVAL,
            given => return plan_err!("`epoch_ms` takes a time or milliseconds, not {given}"),
        }])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [given] if given.is_integer() => TIMESTAMP,
            _ => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        scalar_function::invoke(&arguments.args, epoch_ms)
    }
}

fn epoch_ms(values: &[ArrayRef]) -> Result<ArrayRef> {
    let values = &values[0];
    Ok(match values.data_type() {
        DataType::Int64 => {
            let time = |millis: Option<i64>| millis.map(to_micros).transpose();
            let times = values.as_primitive::<Int64Type>().iter().map(time);
            Arc::new(times.collect::<Result<TimestampMicrosecondArray>>()?)
        }
        DataType::Interval(_) => {
            let intervals = values.as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(intervals.unary::<_, Int64Type>(interval_millis))
        }
        DataType::Time64(_) => {
            let times = values.as_primitive::<Time64MicrosecondType>();
            Arc::new(times.unary::<_, Int64Type>(to_millis))
        }
        _ => {
            let times = values.as_primitive::<TimestampMicrosecondType>();
            Arc::new(times.unary::<_, Int64Type>(to_millis))
        }
    })
}

fn to_micros(millis: i64) -> Result<i64> {
    let time = DateTime::from_timestamp_millis(millis).map(|time| time.timestamp_micros());
    time.ok_or_else(|| exec_datafusion_err!("the time of `epoch_ms({millis})` is out of range"))
}

/// Converts microseconds to milliseconds, rounded half away from zero.
fn to_millis(micros: i64) -> i64 {
    micros.saturating_add(500 * micros.signum()) / 1_000
}

fn interval_millis(interval: IntervalMonthDayNano) -> i64 {
    let days = 30 * i64::from(interval.months) + i64::from(interval.days);
    days.saturating_mul(DAY).saturating_add(interval.nanoseconds / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded() {
        for (micros, millis) in [(0, 0), (1_499, 1), (1_500, 2), (-1_500, -2), (-1_499, -1)] {
            assert_eq!(to_millis(micros), millis, "{micros}");
        }
        assert_eq!(to_micros(-1).expect("a time"), -1_000);
        assert!(to_micros(i64::MAX).is_err());
        assert_eq!(interval_millis(IntervalMonthDayNano::new(1, 1, 2_000_000)), 31 * DAY + 2);
        interval_millis(IntervalMonthDayNano::new(i32::MIN, i32::MIN, i64::MIN));
    }
}
