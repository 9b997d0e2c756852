//! What is left of a filter in one data file: by the values that its partition says all of its rows have,
//! some conditions hold in all of them, and others in none.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use iceberg::spec::{PrimitiveLiteral, Transform};

use super::filter::{Condition, Filter, Test};
use crate::DataFile;
use crate::transform::transformed;
use crate::values::literal_at;

/// Of which rows of a file something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    All,
    None,
    /// The rows themselves tell.
    Rows,
}

use Truth::{All, None as NoRow, Rows};

/// The values of a condition as a transform makes them, sorted; none where one of them is not known.
type Made = Option<Rc<[PrimitiveLiteral]>>;

/// A filter that is asked of file after file.
pub(super) struct Residual<'f> {
    filter: &'f Filter,
    /// By the condition's place in memory, which stays as long as the filter, and the transform.
    made: RefCell<HashMap<(*const Condition, Transform), Made>>,
}

impl<'f> Residual<'f> {
    pub(super) fn new(filter: &'f Filter) -> Self {
        Residual { filter, made: RefCell::default() }
    }

    /// For which of a file's rows the filter may hold.
    pub(super) fn truth(&self, file: &DataFile) -> Truth {
        self.truth_of(self.filter, file)
    }

    /// What is left of the filter, as clients write it.
    pub(super) fn text(&self, file: &DataFile) -> String {
        let mut text = String::new();
        match self.truth(file) {
            All => text.push_str("true"),
            NoRow => text.push_str("false"),
            Rows => self.write(self.filter, file, &mut text),
        }
        text
    }

    fn truth_of(&self, filter: &Filter, file: &DataFile) -> Truth {
        match filter {
            Filter::Always(all) => {
                if *all {
                    All
                } else {
                    NoRow
                }
            }
            Filter::Is(condition) => self.condition(condition, file),
            Filter::And(parts) => self.together(parts, file, All, NoRow),
            Filter::Or(parts) => self.together(parts, file, NoRow, All),
        }
    }

    fn together(&self, parts: &[Filter], file: &DataFile, least: Truth, most: Truth) -> Truth {
        let mut together = least;
        for part in parts {
            match self.truth_of(part, file) {
                truth if truth == most => return most,
                Rows => together = Rows,
                _ => {}
            }
        }
        together
    }

    fn write(&self, filter: &Filter, file: &DataFile, text: &mut String) {
        let (parts, name) = match filter {
            Filter::Always(all) => return text.push_str(if *all { "true" } else { "false" }),
            Filter::Is(condition) => return text.push_str(&condition.text),
            Filter::And(parts) => (parts, "and"),
            Filter::Or(parts) => (parts, "or"),
        };
        let open = parts.iter().filter(|part| self.truth_of(part, file) == Rows);
        self.write_all(&open.collect::<Vec<_>>(), name, file, text);
    }

    /// In halves, so that many conditions are not nested deeply.
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

    fn condition(&self, condition: &Condition, file: &DataFile) -> Truth {
        let parts = file.parts.iter().filter(|(source, _, _)| *source == condition.source);
        let told =
            parts.map(|(_, transform, value)| self.told(condition, *transform, value.as_ref()));
        told.into_iter().find(|truth| *truth != Rows).unwrap_or(Rows)
    }

    /// What one value of the partition tells.
    fn told(
        &self,
        condition: &Condition,
        transform: Transform,
        value: Option<&PrimitiveLiteral>,
    ) -> Truth {
        if condition.transform == transform && transform != Transform::Void {
            // The value is that of the term itself.
            return self.exactly(condition, value);
        }
        if condition.transform != Transform::Identity {
            return Rows;
        }
        match (transform, value) {
            (Transform::Bucket(_) | Transform::Truncate(_), None) => of_null(condition.test),
            // A moment too far away for its hour has none.
            (Transform::Void | Transform::Unknown, _) | (_, None) => Rows,
            (_, Some(value)) => self.about(condition, transform, value),
        }
    }

    /// Where all rows have the value.
    fn exactly(&self, condition: &Condition, value: Option<&PrimitiveLiteral>) -> Truth {
        let Some(value) = value else { return of_null(condition.test) };
        let sure = |holds: bool| if holds { All } else { NoRow };
        match condition.test {
            Test::IsNull => return NoRow,
            Test::NotNull => return All,
            Test::IsNan => return sure(value.is_nan()),
            Test::NotNan => return sure(!value.is_nan()),
            // Engines do not agree on how it compares.
            _ if value.is_nan() => return Rows,
            _ => {}
        }
        let Some(made) = self.comparable(condition, Transform::Identity, value) else {
            return Rows;
        };
        match condition.test {
            Test::In => sure(contains(&made, value)),
            Test::NotIn => sure(!contains(&made, value)),
            test => match made.first() {
                Some(other) => compared(test, value, other),
                None => Rows,
            },
        }
    }

    /// Where the value is what a transform made of those that the rows have.
    fn about(
        &self,
        condition: &Condition,
        transform: Transform,
        value: &PrimitiveLiteral,
    ) -> Truth {
        if matches!(condition.test, Test::IsNull) {
            return NoRow;
        }
        if matches!(condition.test, Test::NotNull) {
            return All;
        }
        let Some(made) = self.comparable(condition, transform, value) else { return Rows };
        let is_order_kept = !matches!(transform, Transform::Bucket(_));
        let order = made.first().and_then(|other| ordering(value, other));
        match condition.test {
            Test::Eq | Test::In if !contains(&made, value) => NoRow,
            Test::NotEq | Test::NotIn if !contains(&made, value) => All,
            Test::Lt | Test::LtEq if is_order_kept => match order {
                Some(Ordering::Less) => All,
                Some(Ordering::Greater) => NoRow,
                _ => Rows,
            },
            Test::Gt | Test::GtEq if is_order_kept => match order {
                Some(Ordering::Greater) => All,
                Some(Ordering::Less) => NoRow,
                _ => Rows,
            },
            _ => Rows,
        }
    }

    /// The values of a condition as a transform makes them, where they are of the same type as another.
    fn comparable(
        &self,
        condition: &Condition,
        transform: Transform,
        value: &PrimitiveLiteral,
    ) -> Made {
        let made = self.made(condition, transform)?;
        let is_same = made.first().is_none_or(|other| ordering(value, other).is_some());
        is_same.then_some(made)
    }

    /// The values of a condition as a transform makes them.
    fn made(&self, condition: &Condition, transform: Transform) -> Made {
        let key = (std::ptr::from_ref(condition), transform);
        if let Some(made) = self.made.borrow().get(&key) {
            return made.clone();
        }
        let made = make(condition, transform);
        self.made.borrow_mut().insert(key, made.clone());
        made
    }
}

fn make(condition: &Condition, transform: Transform) -> Made {
    let made = transformed(condition.values.as_ref()?, transform)?;
    let literal = |row| literal_at(&made, row)?.as_primitive_literal();
    let made: Option<Vec<PrimitiveLiteral>> = (0..made.len()).map(literal).collect();
    let mut made = made?;
    made.sort_by(|one, other| ordering(one, other).unwrap_or(Ordering::Equal));
    Some(made.into())
}

/// Where all rows have no value. What is said of other values may hold for null in some engines, and not in
/// others.
fn of_null(test: Test) -> Truth {
    match test {
        Test::IsNull => All,
        Test::NotEq | Test::NotIn | Test::NotStartsWith | Test::NotNan => Rows,
        _ => NoRow,
    }
}

fn compared(test: Test, value: &PrimitiveLiteral, other: &PrimitiveLiteral) -> Truth {
    let begins = match (value, other) {
        (PrimitiveLiteral::String(text), PrimitiveLiteral::String(start)) => {
            Some(text.starts_with(start.as_str()))
        }
        _ => None,
    };
    let order = ordering(value, other);
    let holds = match test {
        Test::Eq => order.map(Ordering::is_eq),
        Test::NotEq => order.map(Ordering::is_ne),
        Test::Lt => order.map(Ordering::is_lt),
        Test::LtEq => order.map(Ordering::is_le),
        Test::Gt => order.map(Ordering::is_gt),
        Test::GtEq => order.map(Ordering::is_ge),
        Test::StartsWith => begins,
        Test::NotStartsWith => begins.map(|begins| !begins),
        _ => None,
    };
    holds.map_or(Rows, |holds| if holds { All } else { NoRow })
}

/// Whether a value is among others that are sorted.
fn contains(sorted: &[PrimitiveLiteral], value: &PrimitiveLiteral) -> bool {
    let order = |other: &PrimitiveLiteral| ordering(other, value).unwrap_or(Ordering::Equal);
    sorted.binary_search_by(order).is_ok()
}

/// How two values of one column compare, one of which may be from before the column was widened.
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

    const TESTS: [Test; 12] = [
        Test::IsNull,
        Test::NotNull,
        Test::Lt,
        Test::LtEq,
        Test::Gt,
        Test::GtEq,
        Test::Eq,
        Test::NotEq,
        Test::StartsWith,
        Test::NotStartsWith,
        Test::In,
        Test::NotIn,
    ];

    fn literal(values: &ArrayRef, row: usize) -> Option<PrimitiveLiteral> {
        literal_at(values, row).and_then(|value| value.as_primitive_literal())
    }

    /// Whether a test holds for a value and two others; none where engines do not agree.
    fn holds(
        test: Test,
        value: Option<&PrimitiveLiteral>,
        others: &[PrimitiveLiteral],
    ) -> Option<bool> {
        let Some(value) = value else {
            let differ = [Test::NotEq, Test::NotIn, Test::NotStartsWith].contains(&test);
            return (!differ).then_some(test == Test::IsNull);
        };
        let begins = || match (value, &others[0]) {
            (PrimitiveLiteral::String(text), PrimitiveLiteral::String(start)) => {
                text.starts_with(start.as_str())
            }
            _ => false,
        };
        Some(match test {
            Test::IsNull => false,
            Test::NotNull => true,
            Test::Lt => *value < others[0],
            Test::LtEq => *value <= others[0],
            Test::Gt => *value > others[0],
            Test::GtEq => *value >= others[0],
            Test::Eq => *value == others[0],
            Test::NotEq => *value != others[0],
            Test::StartsWith => begins(),
            Test::NotStartsWith => !begins(),
            Test::In => others.contains(value),
            Test::NotIn => !others.contains(value),
            Test::IsNan | Test::NotNan => return None,
        })
    }

    /// Asks every test of every value and every two others, by what each transform makes of the value.
    fn check(values: &ArrayRef, transforms: &[Transform]) {
        let filter = Filter::Always(true);
        let mut told = 0;
        for transform in transforms {
            let made = transformed(values, *transform).expect("a transform of the type");
            for first in 0..values.len() {
                let both = [first, (first * 7 + 3) % values.len()];
                let others: Option<Vec<_>> = both.iter().map(|row| literal(values, *row)).collect();
                let Some(others) = others else { continue };
                for test in TESTS {
                    let several = matches!(test, Test::In | Test::NotIn);
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
                    // Conditions are told from others by where they are.
                    let residual = Residual::new(&filter);
                    for row in 0..values.len() {
                        let (value, part) = (literal(values, row), literal(&made, row));
                        let truth = residual.told(&condition, *transform, part.as_ref());
                        let expected = holds(test, value.as_ref(), &others);
                        let context = format!("{transform}: {value:?} {test:?} {others:?}");
                        match truth {
                            Rows => continue,
                            All => assert_eq!(expected, Some(true), "{context}"),
                            NoRow => assert_eq!(expected, Some(false), "{context}"),
                        }
                        told += 1;
                    }
                }
            }
        }
        assert!(told > values.len(), "nothing was told");
    }

    #[test]
    fn what_a_partition_tells_is_so_for_each_of_its_rows() {
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
    fn values_from_before_a_column_was_widened_compare() {
        use PrimitiveLiteral::{Binary, Double, Float, Int, Long, String, UInt128};
        assert_eq!(ordering(&Int(1), &Long(2)), Some(Ordering::Less));
        assert_eq!(ordering(&Long(2), &Int(1)), Some(Ordering::Greater));
        assert_eq!(ordering(&Float(0.5.into()), &Double(0.5.into())), Some(Ordering::Equal));
        let uuid = Binary(5_u128.to_be_bytes().to_vec());
        assert_eq!(ordering(&uuid, &UInt128(5)), Some(Ordering::Equal));
        assert_eq!(ordering(&Int(1), &String("1".to_owned())), None);
    }
}
