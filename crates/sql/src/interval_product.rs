//! Products of intervals and numbers, such as `INTERVAL '1 day' * 7`. The planner cannot multiply
//! an interval, so a product with a literal interval becomes a call of `make_interval`.

use sqlparser::ast::{BinaryOperator, DataType, Expr, Interval, Value};

use crate::ast_builders::{binary, number};
use crate::expression::call;
use crate::interval_text::with_units;

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// Microseconds of a day.
const DAY: i64 = 86_400 * SECOND;

/// The parts of an interval, which PostgreSQL multiplies separately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct IntervalParts {
    months: i64,
    days: i64,
    micros: i64,
}

/// Returns the product of a literal interval and another expression; `None` if neither or both are
/// literal intervals.
pub(crate) fn product(left: &Expr, right: &Expr) -> Option<Expr> {
    let (interval, factor) = match (parts_of(left), parts_of(right)) {
        (Some(interval), None) => (interval, right),
        (None, Some(interval)) => (interval, left),
        _ => return None,
    };
    let interval = if is_fraction(factor) { interval.as_time()? } else { interval };
    Some(made(interval, BinaryOperator::Multiply, factor))
}

/// Returns a literal interval without months, divided by an expression.
pub(crate) fn quotient(left: &Expr, right: &Expr) -> Option<Expr> {
    Some(made(parts_of(left)?.as_time()?, BinaryOperator::Divide, right))
}

/// Returns the call that makes an interval from parts, each of which is multiplied by or divided by
/// `operand`.
fn made(interval: IntervalParts, op: BinaryOperator, operand: &Expr) -> Expr {
    let operand = Expr::Nested(Box::new(operand.clone()));
    let part = |is_zero: bool, value: Expr| {
        if is_zero { number(0) } else { binary(value, op.clone(), operand.clone()) }
    };
    let IntervalParts { months, days, micros } = interval;
    let seconds = number(format!("{:?}", micros as f64 / SECOND as f64));
    // An interval of length zero keeps one part, so that the result is null if the operand is null.
    let no_time = micros == 0 && (months, days) != (0, 0);
    call(
        "make_interval",
        vec![
            number(0),
            part(months == 0, number(months)),
            number(0),
            part(days == 0, number(days)),
            number(0),
            number(0),
            part(no_time, seconds),
        ],
    )
}

impl IntervalParts {
    /// Returns the interval with its days as time; `None` for an interval with months.
    fn as_time(self) -> Option<Self> {
        let micros = self.days.checked_mul(DAY)?.checked_add(self.micros)?;
        (self.months == 0).then_some(IntervalParts { months: 0, days: 0, micros })
    }

    /// Parses a text such as `1 month 2 days 03:04:05`.
    fn parse(text: &str) -> Option<Self> {
        let text = with_units(text).unwrap_or_else(|| text.to_owned());
        let mut words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let mut parts = IntervalParts::default();
        while let Some(count) = words.next() {
            parts.add(count, &words.next()?.to_ascii_lowercase())?;
        }
        Some(parts)
    }

    /// Adds a number of units; `None` if the number or the unit is unknown.
    fn add(&mut self, count: &str, unit: &str) -> Option<()> {
        let whole = |scale: i64| count.parse::<i64>().ok()?.checked_mul(scale);
        let time = |scale: i64| {
            let micros = (count.parse::<f64>().ok()? * scale as f64).round();
            (micros.abs() < i64::MAX as f64).then_some(micros as i64)
        };
        let (part, added) = match unit {
            "year" | "years" => (&mut self.months, whole(12)?),
            "month" | "months" | "mon" | "mons" => (&mut self.months, whole(1)?),
            "week" | "weeks" => (&mut self.days, whole(7)?),
            "day" | "days" => (&mut self.days, whole(1)?),
            "hour" | "hours" => (&mut self.micros, time(3_600 * SECOND)?),
            "minute" | "minutes" | "min" | "mins" => (&mut self.micros, time(60 * SECOND)?),
            "second" | "seconds" | "sec" | "secs" => (&mut self.micros, time(SECOND)?),
            "millisecond" | "milliseconds" => (&mut self.micros, time(1_000)?),
            "microsecond" | "microseconds" => (&mut self.micros, time(1)?),
            _ => return None,
        };
        *part = part.checked_add(added)?;
        Some(())
    }
}

/// Returns the parts of a literal interval.
fn parts_of(expr: &Expr) -> Option<IntervalParts> {
    match expr {
        Expr::Nested(inner) => parts_of(inner),
        Expr::Cast { expr: inner, data_type: DataType::Interval { .. }, .. } => {
            IntervalParts::parse(text_of(inner)?)
        }
        Expr::Interval(Interval { value, leading_field: None, .. }) => {
            IntervalParts::parse(text_of(value)?)
        }
        Expr::Interval(Interval { value, leading_field: Some(unit), last_field: None, .. }) => {
            IntervalParts::parse(&format!("{} {unit}", text_of(value)?))
        }
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text),
        _ => None,
    }
}

/// Returns true for a number such as `1.5`, by which whole days cannot be multiplied.
fn is_fraction(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_fraction(inner),
        Expr::Value(value) => {
            matches!(&value.value, Value::Number(digits, _) if digits.contains(['.', 'e', 'E']))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parsed() {
        let parts = |months, days, micros| Some(IntervalParts { months, days, micros });
        for (text, expected) in [
            ("1 day", parts(0, 1, 0)),
            ("1 year 2 mons -3 days", parts(14, -3, 0)),
            ("2 weeks 1.5 hours", parts(0, 14, 5_400 * SECOND)),
            ("1 DAY 00:00:01.5", parts(0, 1, 1_500_000)),
            ("1 fortnight", None),
            ("day", None),
            ("", parts(0, 0, 0)),
        ] {
            assert_eq!(IntervalParts::parse(text), expected, "{text}");
        }
    }
}
