//! Computes residual filters: the part of a filter that the partition values do not decide. Engines
//! evaluate this part for the rows of a data file.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use headwater_table_format::partition_transform::transformed;
use headwater_table_format::value_conversion::literal_at;
use headwater_tables::DataFile;
use iceberg::spec::{PrimitiveLiteral, Transform};

use super::filter::{Condition, Filter, PredicateOperator};

/// The rows of a file that match a filter: all, none or some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowMatch {
    All,
    None,
    /// Unknown: the partition values do not decide, so each row must be evaluated.
    Rows,
}

use RowMatch::{All, None as NoRow, Rows};

/// The operands of a condition after a transform, sorted; `None` if one of the operands cannot be
/// transformed.
type TransformedValues = Option<Rc<[PrimitiveLiteral]>>;

/// A filter whose residuals are computed for many files.
pub(super) struct ResidualFilter<'f> {
    filter: &'f Filter,
    /// The transformed operands of conditions. The key contains the address of the condition. A
    /// condition does not move while the filter exists.
    transformed_values: RefCell<HashMap<(*const Condition, Transform), TransformedValues>>,
}

impl<'f> ResidualFilter<'f> {
    pub(super) fn new(filter: &'f Filter) -> Self {
        ResidualFilter { filter, transformed_values: RefCell::default() }
    }

    /// Evaluates the filter for a file, from the file's partition values only.
    pub(super) fn evaluate(&self, file: &DataFile) -> RowMatch {
        self.evaluate_part(self.filter, file)
    }

    /// Returns the residual filter of a file as JSON.
    pub(super) fn text(&self, file: &DataFile) -> String {
        let mut text = String::new();
        match self.evaluate(file) {
            All => text.push_str("true"),
            NoRow => text.push_str("false"),
            Rows => self.write(self.filter, file, &mut text),
        }
        text
    }

    fn evaluate_part(&self, filter: &Filter, file: &DataFile) -> RowMatch {
        match filter {
            Filter::Always(all) => {
                if *all {
                    All
                } else {
                    NoRow
                }
            }
            Filter::Is(condition) => self.condition(condition, file),
            Filter::And(parts) => self.combine(parts, file, All, NoRow),
            Filter::Or(parts) => self.combine(parts, file, NoRow, All),
        }
    }

    fn combine(
        &self,
        parts: &[Filter],
        file: &DataFile,
        least: RowMatch,
        most: RowMatch,
    ) -> RowMatch {
        let mut combine = least;
        for part in parts {
            match self.evaluate_part(part, file) {
                truth if truth == most => return most,
                Rows => combine = Rows,
                _ => {}
            }
        }
        combine
    }

    fn write(&self, filter: &Filter, file: &DataFile, text: &mut String) {
        let (parts, name) = match filter {
            Filter::Always(all) => return text.push_str(if *all { "true" } else { "false" }),
            Filter::Is(condition) => return text.push_str(&condition.text),
            Filter::And(parts) => (parts, "and"),
            Filter::Or(parts) => (parts, "or"),
        };
        let open = parts.iter().filter(|part| self.evaluate_part(part, file) == Rows);
        self.write_all(&open.collect::<Vec<_>>(), name, file, text);
    }

    /// Writes a list of filters that are combined by `and` or `or`. Both combine exactly two
    /// filters in JSON, so the list is halved recursively, which limits the nesting depth.
    fn write_all(&self, parts: &[&Filter], name: &str, file: &DataFile, text: &mut String) {
        let (left, right) = match parts {
            [part] => return self.write(part, file, text),
            parts => parts.split_at(parts.len() / 2),
        };
        text.push_str(&format!("{{\"type\":\"{name}\",\"left\":"));
        self.write_all(left, name, file, text);
        text.push_str(",\"right\":");
        self.write_all(right, name, file, text);
        text.push('}');
    }

    fn condition(&self, condition: &Condition, file: &DataFile) -> RowMatch {
        let parts = file.parts.iter().filter(|(source, _, _)| *source == condition.source);
        let truths = parts.map(|(_, transform, value)| {
            self.evaluate_condition(condition, *transform, value.as_ref())
        });
        truths.into_iter().find(|truth| *truth != Rows).unwrap_or(Rows)
    }

    /// Evaluates a condition for a file by its partition values.
    fn evaluate_condition(
        &self,
        condition: &Condition,
        transform: Transform,
        value: Option<&PrimitiveLiteral>,
    ) -> RowMatch {
        if condition.transform == transform && transform != Transform::Void {
            // The partition has the same transform, so the partition value is the condition's
            // transformed column value.
            return self.evaluate_value(condition, value);
        }
        if condition.transform != Transform::Identity {
            return Rows;
        }
        match (transform, value) {
            (Transform::Bucket(_) | Transform::Truncate(_), None) => of_null(condition.test),
            // A null does not prove that the column is null. The transform may have failed, for
            // example for a timestamp outside the calendar's range, which has no hour.
            (Transform::Void | Transform::Unknown, _) | (_, None) => Rows,
            (_, Some(value)) => self.evaluate_transformed(condition, transform, value),
        }
    }

    /// Evaluates a condition for a file, if the (possibly transformed) column has this value in all
    /// rows; `None` is null.
    fn evaluate_value(&self, condition: &Condition, value: Option<&PrimitiveLiteral>) -> RowMatch {
        let Some(value) = value else { return of_null(condition.test) };
        let sure = |holds: bool| if holds { All } else { NoRow };
        match condition.test {
            PredicateOperator::IsNull => return NoRow,
            PredicateOperator::NotNull => return All,
            PredicateOperator::IsNan => return sure(value.is_nan()),
            PredicateOperator::NotNan => return sure(!value.is_nan()),
            // Engines do not agree on the order of NaN.
            _ if value.is_nan() => return Rows,
            _ => {}
        }
        let Some(transformed_values) = self.comparable(condition, Transform::Identity, value)
        else {
            return Rows;
        };
        match condition.test {
            PredicateOperator::In => sure(contains(&transformed_values, value)),
            PredicateOperator::NotIn => sure(!contains(&transformed_values, value)),
            test => match transformed_values.first() {
                Some(other) => compare(test, value, other),
                None => Rows,
            },
        }
    }

    /// Evaluates a condition on a column for a file, if the partition transform of the column has
    /// this value in all rows.
    fn evaluate_transformed(
        &self,
        condition: &Condition,
        transform: Transform,
        value: &PrimitiveLiteral,
    ) -> RowMatch {
        if matches!(condition.test, PredicateOperator::IsNull) {
            return NoRow;
        }
        if matches!(condition.test, PredicateOperator::NotNull) {
            return All;
        }
        let Some(transformed_values) = self.comparable(condition, transform, value) else {
            return Rows;
        };
        let preserves_order = !matches!(transform, Transform::Bucket(_));
        let order = transformed_values.first().and_then(|other| ordering(value, other));
        match condition.test {
            PredicateOperator::Eq | PredicateOperator::In
                if !contains(&transformed_values, value) =>
            {
                NoRow
            }
            PredicateOperator::NotEq | PredicateOperator::NotIn
                if !contains(&transformed_values, value) =>
            {
                All
            }
            PredicateOperator::Lt | PredicateOperator::LtEq if preserves_order => match order {
                Some(Ordering::Less) => All,
                Some(Ordering::Greater) => NoRow,
                _ => Rows,
            },
            PredicateOperator::Gt | PredicateOperator::GtEq if preserves_order => match order {
                Some(Ordering::Greater) => All,
                Some(Ordering::Less) => NoRow,
                _ => Rows,
            },
            _ => Rows,
        }
    }

    /// Returns a condition's operands after a transform; `None` if their type differs from the type
    /// of the partition value.
    fn comparable(
        &self,
        condition: &Condition,
        transform: Transform,
        value: &PrimitiveLiteral,
    ) -> TransformedValues {
        let transformed_values = self.transformed_values(condition, transform)?;
        let is_same =
            transformed_values.first().is_none_or(|other| ordering(value, other).is_some());
        is_same.then_some(transformed_values)
    }

    /// Returns a condition's operands after a transform. The result is cached.
    fn transformed_values(&self, condition: &Condition, transform: Transform) -> TransformedValues {
        let key = (std::ptr::from_ref(condition), transform);
        if let Some(transformed_values) = self.transformed_values.borrow().get(&key) {
            return transformed_values.clone();
        }
        let transformed_values = transform_values(condition, transform);
        self.transformed_values.borrow_mut().insert(key, transformed_values.clone());
        transformed_values
    }
}

fn transform_values(condition: &Condition, transform: Transform) -> TransformedValues {
    let transformed_values = transformed(condition.values.as_ref()?, transform)?;
    let literal = |row| literal_at(&transformed_values, row)?.as_primitive_literal();
    let transformed_values: Option<Vec<PrimitiveLiteral>> =
        (0..transformed_values.len()).map(literal).collect();
    let mut transformed_values = transformed_values?;
    transformed_values.sort_by(|one, other| ordering(one, other).unwrap_or(Ordering::Equal));
    Some(transformed_values.into())
}

/// Evaluates a predicate for null. Engines do not agree on whether a negated predicate matches
/// null, so the engine that scans must evaluate it.
fn of_null(test: PredicateOperator) -> RowMatch {
    match test {
        PredicateOperator::IsNull => All,
        PredicateOperator::NotEq
        | PredicateOperator::NotIn
        | PredicateOperator::NotStartsWith
        | PredicateOperator::NotNan => Rows,
        _ => NoRow,
    }
}

fn compare(
    test: PredicateOperator,
    value: &PrimitiveLiteral,
    other: &PrimitiveLiteral,
) -> RowMatch {
    let begins = match (value, other) {
        (PrimitiveLiteral::String(text), PrimitiveLiteral::String(start)) => {
            Some(text.starts_with(start.as_str()))
        }
        _ => None,
    };
    let order = ordering(value, other);
    let holds = match test {
        PredicateOperator::Eq => order.map(Ordering::is_eq),
        PredicateOperator::NotEq => order.map(Ordering::is_ne),
        PredicateOperator::Lt => order.map(Ordering::is_lt),
        PredicateOperator::LtEq => order.map(Ordering::is_le),
        PredicateOperator::Gt => order.map(Ordering::is_gt),
        PredicateOperator::GtEq => order.map(Ordering::is_ge),
        PredicateOperator::StartsWith => begins,
        PredicateOperator::NotStartsWith => begins.map(|begins| !begins),
        _ => None,
    };
    holds.map_or(Rows, |holds| if holds { All } else { NoRow })
}

/// Returns true if a sorted list contains the value.
fn contains(sorted: &[PrimitiveLiteral], value: &PrimitiveLiteral) -> bool {
    let order = |other: &PrimitiveLiteral| ordering(other, value).unwrap_or(Ordering::Equal);
    sorted.binary_search_by(order).is_ok()
}

/// Compares two values of one column; `None` if their types cannot be compared. One of the values
/// may have been written before the column's type was promoted.
fn ordering(one: &PrimitiveLiteral, other: &PrimitiveLiteral) -> Option<Ordering> {
    use PrimitiveLiteral::{Binary, Double, Float, Int, Long, UInt128};
    match (one, other) {
        (Int(one), Long(other)) => Some(i64::from(*one).cmp(other)),
        (Long(one), Int(other)) => Some(one.cmp(&i64::from(*other))),
        (Float(one), Double(other)) => f64::from(one.0).partial_cmp(&other.0),
        (Double(one), Float(other)) => one.0.partial_cmp(&f64::from(other.0)),
        (UInt128(one), Binary(other)) => Some(one.to_be_bytes()[..].cmp(other)),
        (Binary(one), UInt128(other)) => Some(one[..].cmp(&other.to_be_bytes())),
        (one, other) if std::mem::discriminant(one) == std::mem::discriminant(other) => {
            one.partial_cmp(other)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    const TESTS: [PredicateOperator; 12] = [
        PredicateOperator::IsNull,
        PredicateOperator::NotNull,
        PredicateOperator::Lt,
        PredicateOperator::LtEq,
        PredicateOperator::Gt,
        PredicateOperator::GtEq,
        PredicateOperator::Eq,
        PredicateOperator::NotEq,
        PredicateOperator::StartsWith,
        PredicateOperator::NotStartsWith,
        PredicateOperator::In,
        PredicateOperator::NotIn,
    ];

    fn literal(values: &ArrayRef, row: usize) -> Option<PrimitiveLiteral> {
        literal_at(values, row).and_then(|value| value.as_primitive_literal())
    }

    /// Returns true if a predicate with two operands matches a value; `None` if engines do not
    /// agree.
    fn holds(
        test: PredicateOperator,
        value: Option<&PrimitiveLiteral>,
        others: &[PrimitiveLiteral],
    ) -> Option<bool> {
        let Some(value) = value else {
            let differ = [
                PredicateOperator::NotEq,
                PredicateOperator::NotIn,
                PredicateOperator::NotStartsWith,
            ]
            .contains(&test);
            return (!differ).then_some(test == PredicateOperator::IsNull);
        };
        let begins = || match (value, &others[0]) {
            (PrimitiveLiteral::String(text), PrimitiveLiteral::String(start)) => {
                text.starts_with(start.as_str())
            }
            _ => false,
        };
        Some(match test {
            PredicateOperator::IsNull => false,
            PredicateOperator::NotNull => true,
            PredicateOperator::Lt => *value < others[0],
            PredicateOperator::LtEq => *value <= others[0],
            PredicateOperator::Gt => *value > others[0],
            PredicateOperator::GtEq => *value >= others[0],
            PredicateOperator::Eq => *value == others[0],
            PredicateOperator::NotEq => *value != others[0],
            PredicateOperator::StartsWith => begins(),
            PredicateOperator::NotStartsWith => !begins(),
            PredicateOperator::In => others.contains(value),
            PredicateOperator::NotIn => !others.contains(value),
            PredicateOperator::IsNan | PredicateOperator::NotNan => return None,
        })
    }

    /// Checks that evaluating a transformed value never contradicts evaluating the value itself,
    /// for every value, predicate and pair of operands.
    fn check(values: &ArrayRef, transforms: &[Transform]) {
        let filter = Filter::Always(true);
        let mut decided = 0;
        for transform in transforms {
            let transformed_values =
                transformed(values, *transform).expect("a transform of the type");
            for first in 0..values.len() {
                let both = [first, (first * 7 + 3) % values.len()];
                let others: Option<Vec<_>> = both.iter().map(|row| literal(values, *row)).collect();
                let Some(others) = others else { continue };
                for test in TESTS {
                    let several = matches!(test, PredicateOperator::In | PredicateOperator::NotIn);
                    let indices = both[..if several { 2 } else { 1 }].iter().map(|row| *row as u64);
                    let indices = arrow::array::UInt64Array::from_iter_values(indices);
                    let values_of = arrow::compute::take(values, &indices, None).expect("values");
                    let condition = Condition {
                        column: None,
                        test,
                        values: Some(values_of),
                        source: 1,
                        transform: Transform::Identity,
                        text: String::new(),
                    };
                    // Create a new filter for each condition, because the cache uses the address of
                    // the condition as key.
                    let residual = ResidualFilter::new(&filter);
                    for row in 0..values.len() {
                        let (value, part) =
                            (literal(values, row), literal(&transformed_values, row));
                        let truth =
                            residual.evaluate_condition(&condition, *transform, part.as_ref());
                        let expected = holds(test, value.as_ref(), &others);
                        let context = format!("{transform}: {value:?} {test:?} {others:?}");
                        match truth {
                            Rows => continue,
                            All => assert_eq!(expected, Some(true), "{context}"),
                            NoRow => assert_eq!(expected, Some(false), "{context}"),
                        }
                        decided += 1;
                    }
                }
            }
        }
        assert!(decided > values.len(), "nothing was decided");
    }

    #[test]
    fn partition_values_evaluate_as_their_rows_do() {
        let longs = [None, Some(0), Some(-1), Some(9), Some(10), Some(11), Some(-10), Some(-11)];
        let longs: ArrayRef = Arc::new(Int64Array::from_iter(longs));
        let widths = [Transform::Identity, Transform::Bucket(3), Transform::Truncate(10)];
        check(&longs, &[&widths[..], &[Transform::Void]].concat());
        let texts = [None, Some(""), Some("a"), Some("ab"), Some("abc"), Some("ü"), Some("b")];
        let texts: ArrayRef = Arc::new(StringArray::from_iter(texts));
        check(&texts, &[widths[0], widths[1], Transform::Truncate(2)]);
        let days = [None, Some(0), Some(-1), Some(30), Some(31), Some(364), Some(365), Some(-366)];
        let days: ArrayRef = Arc::new(Date32Array::from_iter(days));
        let times = [Transform::Year, Transform::Month, Transform::Day, widths[0], widths[1]];
        check(&days, &times);
        let hour = 3_600_000_000_i64;
        let moments = [None, Some(0), Some(-1), Some(1), Some(hour), Some(25 * hour), Some(-hour)];
        let far = [Some(i64::MAX), Some(i64::MIN)];
        let moments = moments.into_iter().chain(far);
        let moments: ArrayRef = Arc::new(moments.collect::<TimestampMicrosecondArray>());
        check(&moments, &[&times[..], &[Transform::Hour]].concat());
    }

    #[test]
    fn values_compare_across_type_promotion() {
        use PrimitiveLiteral::{Binary, Double, Float, Int, Long, String, UInt128};
        assert_eq!(ordering(&Int(1), &Long(2)), Some(Ordering::Less));
        assert_eq!(ordering(&Long(2), &Int(1)), Some(Ordering::Greater));
        assert_eq!(ordering(&Float(0.5.into()), &Double(0.5.into())), Some(Ordering::Equal));
        let uuid = Binary(5_u128.to_be_bytes().to_vec());
        assert_eq!(ordering(&uuid, &UInt128(5)), Some(Ordering::Equal));
        assert_eq!(ordering(&Int(1), &String("1".to_owned())), None);
    }
}
