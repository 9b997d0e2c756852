//! `AT TIME ZONE`: interprets a timestamp without a zone as local time in the zone. Converts a
//! timestamp with a zone to local time in the zone.
//!
//! If a local time occurs twice because daylight saving time ends, the second occurrence is used.
//! If a local time does not exist because daylight saving time starts, the offset before the change
//! is used.
//!
//! Upstream: <https://github.com/apache/datafusion/pull/25165>

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Fields, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use headwater_sql::expression::AT_TIME_ZONE;

use crate::error::Error;
use headwater_sql::Error as SqlError;

/// A duration longer than any shift of clocks. The offset before a change is the offset at a time
/// that is earlier by this duration.
const BEFORE: TimeDelta = TimeDelta::hours(3);

/// `AT TIME ZONE` as a function of a time and a zone name.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AtTimeZone(Signature);

impl AtTimeZone {
    pub(super) fn new() -> Self {
        AtTimeZone(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &'static str {
        AT_TIME_ZONE
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [time, _] = arguments else { return plan_err!("AT TIME ZONE takes a time and a zone") };
        let time = match time {
            DataType::Timestamp(_, zone) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            DataType::Date32 | DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
            text if text.is_string() => DataType::Timestamp(TimeUnit::Microsecond, None),
            other => return plan_err!("AT TIME ZONE of a value of type {other}"),
        };
        Ok(vec![time, DataType::Utf8])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let has_zone = matches!(arguments.first(), Some(DataType::Timestamp(_, Some(_))));
        let zone = if has_zone { None } else { Some("UTC".into()) };
        Ok(DataType::Timestamp(TimeUnit::Microsecond, zone))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, zone] = &arguments.args[..] else {
            return plan_err!("AT TIME ZONE takes a time and a zone");
        };
        let to = arguments.return_type();
        let zone = match zone {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone))) => zone,
            ColumnarValue::Scalar(_) => return Ok(ColumnarValue::Scalar(to.try_into()?)),
            ColumnarValue::Array(_) => {
                return exec_err!("the zone of AT TIME ZONE must be a constant");
            }
        };
        let Ok(zone) = Tz::from_str(zone) else { return exec_err!("`{zone}` is not a time zone") };
        let has_zone = matches!(time.data_type(), DataType::Timestamp(_, Some(_)));
        let times = time.to_array(arguments.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let moved: TimestampMicrosecondArray =
            times.try_unary(|time| convert_zone(time, zone, has_zone))?;
        let moved = moved.with_data_type(to.clone());
        Ok(match time {
            ColumnarValue::Scalar(_) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&moved, 0)?)
            }
            ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(moved)),
        })
    }
}

/// Rejects columns whose type has an unknown time zone, because their times cannot be formatted.
pub fn check_zones(fields: &Fields) -> Result<()> {
    fields.iter().try_for_each(|field| check_zone(field.data_type()))
}

fn check_zone(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) if Tz::from_str(zone).is_err() => {
            let message = format!("`{zone}` is not a time zone");
            let hint = "Write a zone such as `UTC`, `+01:00` or `Europe/Berlin`.".to_owned();
            let error = Error::Sql(SqlError::Invalid { message, hint: Some(hint), position: None });
            Err(DataFusionError::External(Box::new(error)))
        }
        DataType::Struct(fields) => check_zones(fields),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => check_zone(field.data_type()),
        DataType::Dictionary(_, value) => check_zone(value),
        DataType::RunEndEncoded(_, value) => check_zone(value.data_type()),
        DataType::Union(fields, _) => {
            fields.iter().try_for_each(|(_, field)| check_zone(field.data_type()))
        }
        _ => Ok(()),
    }
}

/// Converts a UTC time to local time in a zone, or local time to UTC, in microseconds.
fn convert_zone(time: i64, zone: Tz, to_zone: bool) -> Result<i64> {
    let Some(read) = DateTime::from_timestamp_micros(time).map(|time| time.naive_utc()) else {
        return exec_err!("the time is out of range: {time} microseconds since 1970");
    };
    let offset = i64::from(offset(zone, read, to_zone).fix().local_minus_utc()) * 1_000_000;
    let moved = if to_zone { time.checked_add(offset) } else { time.checked_sub(offset) };
    moved.ok_or_else(|| DataFusionError::Execution("the time is out of range".to_owned()))
}

/// Returns the UTC offset of a zone at a UTC time or at a local time.
fn offset(zone: Tz, read: NaiveDateTime, to_zone: bool) -> impl Offset {
    if to_zone {
        return zone.offset_from_utc_datetime(&read);
    }
    match zone.offset_from_local_datetime(&read) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(_, offset) => offset,
        MappedLocalTime::None => zone.offset_from_utc_datetime(&(read - BEFORE)),
    }
}
