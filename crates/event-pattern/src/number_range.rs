//! Ranges of numbers: `["=", 1]`, `[">", 0]`, `[">=", 0, "<", 10]`.

use serde_json::Value;

const HINT: &str = "Write a comparison such as `[\">\", 0]`, or a range such as \
                    `[\">=\", 0, \"<\", 10]`.";

/// A bound of a range.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bound {
    at: f64,
    /// True if the range contains the bound.
    is_inclusive: bool,
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct NumberRange {
    low: Option<Bound>,
    high: Option<Bound>,
}

impl NumberRange {
    /// Parses comparisons. The error is the reason and the hint.
    pub(crate) fn parse(value: &Value) -> Result<Self, (String, &'static str)> {
        let malformed = || ("needs comparisons with numbers".to_owned(), HINT);
        let items = value.as_array().ok_or_else(malformed)?;
        let mut range = NumberRange::default();
        for pair in items.chunks(2) {
            let [Value::String(operator), Value::Number(number)] = pair else {
                return Err(malformed());
            };
            let at = number.as_f64().filter(|number| number.is_finite()).ok_or_else(malformed)?;
            let is_inclusive = operator.ends_with('=');
            let bound = Some(Bound { at, is_inclusive });
            match operator.as_str() {
                "=" if items.len() == 2 => range = NumberRange { low: bound, high: bound },
                ">" | ">=" if range.low.is_none() => range.low = bound,
                "<" | "<=" if range.high.is_none() => range.high = bound,
                _ => return Err(malformed()),
            }
        }
        if range.low.is_none() && range.high.is_none() {
            return Err(malformed());
        }
        if range.is_empty() {
            let hint = "Swap the bounds of the range.";
            return Err(("is an empty range".to_owned(), hint));
        }
        Ok(range)
    }

    fn is_empty(&self) -> bool {
        let (Some(low), Some(high)) = (self.low, self.high) else { return false };
        low.at > high.at || (low.at >= high.at && !(low.is_inclusive && high.is_inclusive))
    }

    pub(crate) fn contains(&self, number: f64) -> bool {
        let above = |low: Bound| number > low.at || (low.is_inclusive && number >= low.at);
        let below = |high: Bound| number < high.at || (high.is_inclusive && number <= high.at);
        self.low.is_none_or(above) && self.high.is_none_or(below)
    }

    /// Returns true if the range contains 0 or a positive number.
    pub(crate) fn reaches_zero(&self) -> bool {
        self.high.is_none_or(|high| high.at > 0.0 || (high.at >= 0.0 && high.is_inclusive))
    }
}
