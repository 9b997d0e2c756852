//! Size estimates of functions that return lists.

use arrow::datatypes::{DataType, TimeUnit};

use super::argument::{Argument, IntegerValues, fixed_width};
use super::call::{CallArguments, RowSizeBound};

/// Bytes that an element uses in a list in addition to its value.
const ELEMENT_BYTES: u64 = 8;

const DAY_NANOSECONDS: i128 = 86_400_000_000_000;

/// Estimates the result size of `range` and `generate_series`.
pub(super) fn range<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let unit = call.argument(0).map_or(DataType::Null, Argument::data_type);
    let nanoseconds = match unit {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        DataType::Date32 => DAY_NANOSECONDS,
        _ => 0,
    };
    let numbers: Vec<IntegerValues> =
        (0..call.len().min(3)).map(|index| call.integers(index)).collect();
    Box::new(move |row| {
        let number = |index: usize| numbers[index].get(row).map(i128::from);
        let count = match (numbers.len(), nanoseconds) {
            (1, _) => number(0).map(|stop| steps(stop, 1)),
            (2, _) => number(0).zip(number(1)).map(|(start, stop)| steps(stop - start, 1)),
            (3, 0) => match (number(0), number(1), number(2)) {
                (Some(start), Some(stop), Some(step)) => Some(steps(stop - start, step)),
                _ => None,
            },
            (3, unit) => number(0).zip(number(1)).and_then(|(start, stop)| {
                let distance = (stop - start).saturating_mul(unit);
                Some(interval_steps(distance, call.argument(2)?.interval(row)?))
            }),
            _ => None,
        };
        count.unwrap_or(0).saturating_mul(8)
    })
}

fn steps(distance: i128, step: i128) -> u64 {
    if step == 0 || (distance < 0) != (step < 0) && distance != 0 {
        return 1;
    }
    u64::try_from(distance.unsigned_abs() / step.unsigned_abs() + 1).unwrap_or(u64::MAX)
}

/// Returns the maximum number of steps of an interval that cover a distance of time. A month counts
/// as 28 days, its minimum. An interval with parts of different signs may never reach the end.
fn interval_steps(distance: i128, step: arrow::datatypes::IntervalMonthDayNano) -> u64 {
    let parts = [i128::from(step.months), i128::from(step.days), i128::from(step.nanoseconds)];
    if parts.iter().any(|part| *part < 0) && parts.iter().any(|part| *part > 0) {
        return u64::MAX;
    }
    let [months, days, nanoseconds] = parts;
    let step = (months * 28 + days) * DAY_NANOSECONDS + nanoseconds;
    // Add one step, because the negative days of an interval are subtracted after its months.
    steps(distance, step).saturating_add(1)
}

pub(super) fn array_repeat<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let counts = call.integers(1);
    Box::new(move |row| {
        let each = call.bytes(0, row).saturating_add(ELEMENT_BYTES);
        each.saturating_mul(counts.count(row))
    })
}

pub(super) fn array_resize<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let lengths = call.integers(1);
    let element = element_width(call.to);
    Box::new(move |row| {
        let each = call.bytes(2, row).saturating_add(element).saturating_add(ELEMENT_BYTES);
        each.saturating_mul(lengths.count(row)).saturating_add(call.bytes(0, row))
    })
}

/// Estimates the result size of `array_replace_all` and similar functions, which may replace every
/// element by the new element.
pub(super) fn array_replace<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let new = call.elements(0, row).saturating_mul(call.bytes(2, row));
        new.saturating_add(call.bytes(0, row).saturating_mul(2))
    })
}

/// Estimates the result size of functions that return the positions of elements.
pub(super) fn positions<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| call.elements(0, row).saturating_mul(8).saturating_add(8))
}

/// Estimates the result size of `arrays_zip`, which pads shorter lists with nulls.
pub(super) fn arrays_zip<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let element = element_width(call.to);
    Box::new(move |row| {
        let longest = (0..call.len()).map(|index| call.elements(index, row)).max().unwrap_or(0);
        longest.saturating_mul(element + ELEMENT_BYTES).saturating_add(call.all_bytes(row))
    })
}

/// Estimates the size of the outer columns that a lambda reads. They are copied for each element of
/// the list, which is the first argument.
pub(super) fn captures<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let own = call.bytes(0, row);
        let captured = call.all_bytes(row).saturating_sub(own);
        call.elements(0, row).saturating_mul(captured).saturating_add(own)
    })
}

fn element_width(list: &DataType) -> u64 {
    match list {
        DataType::List(field) | DataType::LargeList(field) => fixed_width(field.data_type()),
        _ => ELEMENT_BYTES,
    }
}
