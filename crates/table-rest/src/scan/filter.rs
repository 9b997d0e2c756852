//! Parses the filters of other engines, which are expressions of Iceberg's REST specification.
//!
//! A filter is resolved against a schema. Columns are found by name, values are converted to the
//! types of the columns, and a negated condition is replaced by a condition with the opposite
//! predicate. So a [`Filter`] consists only of conditions, `and` and `or`.

use std::str::FromStr;

use arrow::array::ArrayRef;
use headwater_table_format::types::schema::arrow_type;
use headwater_table_format::value_conversion::to_array;
use iceberg::spec::{PrimitiveLiteral, PrimitiveType, Schema, Transform, Type};
use serde_json::{Value, json};

use super::literal;
use crate::{Error, Result};

/// Maximum number of conditions of a filter, and of values in all conditions together.
const CONDITIONS_MAX: usize = 2_000;
const VALUES_MAX: usize = 200_000;

/// A row filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Matches all rows if true, no rows if false.
    Always(bool),
    /// Matches the rows that match all of these filters.
    And(Vec<Filter>),
    /// Matches the rows that match at least one of these filters.
    Or(Vec<Filter>),
    /// Matches the rows that satisfy the condition.
    Is(Box<Condition>),
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Name of the column, if it is a top-level column and is not transformed.
    pub column: Option<String>,
    /// The predicate that the column must satisfy.
    pub test: PredicateOperator,
    /// The operands, converted to the column's type: one, or several for `in` and `not-in`. `None`
    /// if the predicate has no operands, or if the type cannot represent one of them.
    pub values: Option<ArrayRef>,
    /// Field id of the column on whose value the condition depends.
    pub(super) source: i32,
    /// The transform applied to the column.
    pub(super) transform: Transform,
    /// The condition as JSON text.
    pub(super) text: String,
}

/// A predicate of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredicateOperator {
    /// The value is null.
    IsNull,
    /// The value is not null.
    NotNull,
    /// The value is NaN.
    IsNan,
    /// The value is null, or a number other than NaN.
    NotNan,
    /// The value is less than the operand.
    Lt,
    /// The value is less than or equal to the operand.
    LtEq,
    /// The value is greater than the operand.
    Gt,
    /// The value is greater than or equal to the operand.
    GtEq,
    /// The value is equal to the operand.
    Eq,
    /// The value is not equal to the operand. Engines differ on whether null matches.
    NotEq,
    /// The value starts with the operand.
    StartsWith,
    /// The value is null, or does not start with the operand.
    NotStartsWith,
    /// The value is equal to one of the operands.
    In,
    /// The value is null, or equal to none of the operands.
    NotIn,
}

impl PredicateOperator {
    const ALL: [(&'static str, PredicateOperator); 14] = [
        ("is-null", PredicateOperator::IsNull),
        ("not-null", PredicateOperator::NotNull),
        ("is-nan", PredicateOperator::IsNan),
        ("not-nan", PredicateOperator::NotNan),
        ("lt", PredicateOperator::Lt),
        ("lt-eq", PredicateOperator::LtEq),
        ("gt", PredicateOperator::Gt),
        ("gt-eq", PredicateOperator::GtEq),
        ("eq", PredicateOperator::Eq),
        ("not-eq", PredicateOperator::NotEq),
        ("starts-with", PredicateOperator::StartsWith),
        ("not-starts-with", PredicateOperator::NotStartsWith),
        ("in", PredicateOperator::In),
        ("not-in", PredicateOperator::NotIn),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, test)| *test)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, test)| *test == self).map_or("", |(name, _)| name)
    }

    /// Returns the negated predicate.
    fn negated(self) -> Self {
        match self {
            PredicateOperator::IsNull => PredicateOperator::NotNull,
            PredicateOperator::NotNull => PredicateOperator::IsNull,
            PredicateOperator::IsNan => PredicateOperator::NotNan,
            PredicateOperator::NotNan => PredicateOperator::IsNan,
            PredicateOperator::Lt => PredicateOperator::GtEq,
            PredicateOperator::GtEq => PredicateOperator::Lt,
            PredicateOperator::LtEq => PredicateOperator::Gt,
            PredicateOperator::Gt => PredicateOperator::LtEq,
            PredicateOperator::Eq => PredicateOperator::NotEq,
            PredicateOperator::NotEq => PredicateOperator::Eq,
            PredicateOperator::StartsWith => PredicateOperator::NotStartsWith,
            PredicateOperator::NotStartsWith => PredicateOperator::StartsWith,
            PredicateOperator::In => PredicateOperator::NotIn,
            PredicateOperator::NotIn => PredicateOperator::In,
        }
    }
}

impl Condition {
    /// Returns true if the condition compares a transform of the column, such as `day(time)`, not
    /// the column itself.
    pub fn is_of_transform(&self) -> bool {
        self.transform != Transform::Identity
    }
}

/// Creates the error of an invalid scan.
pub(super) fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidScan { reason: reason.into() }
}

/// Parses filters for a schema.
pub(super) struct FilterParser<'s> {
    schema: &'s Schema,
    case_sensitive: bool,
    conditions: usize,
    values: usize,
}

impl<'s> FilterParser<'s> {
    pub(super) fn new(schema: &'s Schema, case_sensitive: bool) -> Self {
        FilterParser { schema, case_sensitive, conditions: 0, values: 0 }
    }

    /// Returns the field with this full name.
    pub(super) fn field(&self, name: &str) -> Result<&'s iceberg::spec::NestedFieldRef> {
        let found = self.schema.field_by_name(name);
        let found = match found {
            None if !self.case_sensitive => self.schema.field_by_name_case_insensitive(name),
            found => found,
        };
        found.ok_or_else(|| invalid(format!("the table has no column `{name}`")))
    }

    /// Parses a filter. If `negated` is true, returns its negation.
    pub(super) fn read(&mut self, value: &Value, negated: bool) -> Result<Filter> {
        if let Value::Bool(all) = value {
            return Ok(Filter::Always(*all != negated));
        }
        let name = value["type"].as_str();
        let name = name.ok_or_else(|| invalid("an expression has no `type`"))?;
        match name {
            "true" | "false" => Ok(Filter::Always((name == "true") != negated)),
            "not" => self.read(part(value, "child", name)?, !negated),
            "and" | "or" => {
                let left = self.read(part(value, "left", name)?, negated)?;
                let right = self.read(part(value, "right", name)?, negated)?;
                Ok(left.with(right, (name == "and") != negated))
            }
            _ => {
                let unknown = || invalid(format!("`{name}` is not an expression type"));
                let test = PredicateOperator::named(name).ok_or_else(unknown)?;
                self.condition(value, test, negated)
            }
        }
    }

    fn condition(
        &mut self,
        value: &Value,
        test: PredicateOperator,
        negated: bool,
    ) -> Result<Filter> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(invalid(format!("the filter has more than {CONDITIONS_MAX} conditions")));
        }
        let name = test.name();
        let (column, transform) = term(part(value, "term", name)?)?;
        let field = self.field(column)?;
        let found = match transform {
            Transform::Identity => Ok((*field.field_type).clone()),
            transform => transform.result_type(&field.field_type),
        };
        let found = found
            .map_err(|_| invalid(format!("`{transform}` does not support column `{column}`")))?;
        let values = self.operands(value, test, column, &found)?;
        let is_own = self.schema.as_struct().fields().iter().any(|own| own.id == field.id);
        let test = if negated { test.negated() } else { test };
        Ok(Filter::Is(Box::new(Condition {
            column: is_own.then(|| field.name.clone()),
            test,
            values,
            source: field.id,
            transform,
            text: text(value, test),
        })))
    }

    /// Parses the operands as values of the type `found`. Returns `None` if the predicate has no
    /// operands, or if the type cannot represent one of them.
    fn operands(
        &mut self,
        value: &Value,
        test: PredicateOperator,
        column: &str,
        found: &Type,
    ) -> Result<Option<ArrayRef>> {
        let type_name = || format!("column `{column}` has type `{found}`, but `{}`", test.name());
        let given: &[Value] = match test {
            PredicateOperator::IsNull | PredicateOperator::NotNull => return Ok(None),
            PredicateOperator::IsNan | PredicateOperator::NotNan => match found {
                Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => return Ok(None),
                _ => {
                    return Err(invalid(format!(
                        "{} requires a floating-point column",
                        type_name()
                    )));
                }
            },
            PredicateOperator::In | PredicateOperator::NotIn => {
                let values = part(value, "values", test.name())?.as_array();
                values.ok_or_else(|| invalid("`values` is not a list"))?
            }
            _ => std::slice::from_ref(part(value, "value", test.name())?),
        };
        let Type::Primitive(found) = found else {
            return Err(invalid(format!("{} requires a primitive type", type_name())));
        };
        if matches!(test, PredicateOperator::StartsWith | PredicateOperator::NotStartsWith)
            && *found != PrimitiveType::String
        {
            return Err(invalid(format!("{} requires a string column", type_name())));
        }
        self.values += given.len();
        if self.values > VALUES_MAX {
            return Err(invalid(format!("the filter has more than {VALUES_MAX} values")));
        }
        let read = given.iter().map(|value| literal::read(value, found));
        let read: Result<Vec<Option<PrimitiveLiteral>>, String> = read.collect();
        let read = read.map_err(|reason| invalid(format!("column `{column}`: {reason}")))?;
        let read: Option<Vec<PrimitiveLiteral>> = read.into_iter().collect();
        let data_type = arrow_type(&Type::Primitive(found.clone()));
        Ok(read.map(|values| to_array(&data_type, values.iter().map(Some))))
    }
}

fn part<'v>(value: &'v Value, name: &str, of: &str) -> Result<&'v Value> {
    value.get(name).ok_or_else(|| invalid(format!("`{of}` has no `{name}`")))
}

/// Parses a term, the left side of a condition: the name of a column, or a transform of a column.
fn term(value: &Value) -> Result<(&str, Transform)> {
    let unreadable = || invalid(format!("`{value}` is not a column or a transform of one"));
    let (column, transform) = match value {
        Value::String(column) => return Ok((column, Transform::Identity)),
        value => (&value["term"], value["transform"].as_str()),
    };
    // In requests of Java clients, the column of a transform is itself a JSON object with the key
    // `term`.
    let column = column.as_str().or_else(|| column["term"].as_str()).ok_or_else(unreadable)?;
    match (value["type"].as_str(), transform) {
        (Some("reference"), _) => Ok((column, Transform::Identity)),
        (Some("transform"), Some(transform)) => match Transform::from_str(transform) {
            Ok(Transform::Unknown) | Err(_) => {
                Err(invalid(format!("`{transform}` is not a transform")))
            }
            Ok(transform) => Ok((column, transform)),
        },
        _ => Err(unreadable()),
    }
}

/// Returns a condition as JSON.
fn text(value: &Value, test: PredicateOperator) -> String {
    let mut text = json!({"type": test.name(), "term": value["term"]});
    for operand in ["value", "values"] {
        if let Some(operands) = value.get(operand) {
            text[operand] = operands.clone();
        }
    }
    text.to_string()
}

impl Filter {
    /// Combines two filters by `and` (`both`) or `or`.
    fn with(self, other: Filter, both: bool) -> Filter {
        match (self, other) {
            (Filter::Always(first), rest) | (rest, Filter::Always(first)) => {
                if first == both {
                    rest
                } else {
                    Filter::Always(first)
                }
            }
            (one, other) => {
                let (mut one, other) = (one.parts(both), other.parts(both));
                one.extend(other);
                if both { Filter::And(one) } else { Filter::Or(one) }
            }
        }
    }

    fn parts(self, both: bool) -> Vec<Filter> {
        match self {
            Filter::And(parts) if both => parts,
            Filter::Or(parts) if !both => parts,
            other => vec![other],
        }
    }

    /// Returns the conditions, in order.
    pub(super) fn conditions(&self) -> Vec<&Condition> {
        match self {
            Filter::Always(_) => Vec::new(),
            Filter::And(parts) | Filter::Or(parts) => {
                parts.iter().flat_map(Filter::conditions).collect()
            }
            Filter::Is(condition) => vec![condition],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let fields = json!([
            {"id": 1, "name": "id", "type": "int", "required": true},
            {"id": 2, "name": "Name", "type": "string", "required": false},
            {"id": 3, "name": "at", "type": "timestamptz", "required": false},
            {"id": 4, "name": "share", "type": "double", "required": false},
            {"id": 5, "name": "place", "required": false, "type": {"type": "struct", "fields": [
                {"id": 6, "name": "city", "type": "string", "required": false}
            ]}}
        ]);
        let schema = json!({"type": "struct", "schema-id": 0, "fields": fields});
        serde_json::from_value(schema).expect("a schema")
    }

    fn read(filter: &Value) -> Result<Filter> {
        FilterParser::new(&schema(), true).read(filter, false)
    }

    fn texts(filter: &Filter) -> Vec<String> {
        filter.conditions().iter().map(|condition| condition.text.clone()).collect()
    }

    #[test]
    fn every_predicate_is_parsed_and_negated() {
        for (name, test) in PredicateOperator::ALL {
            let term = if name.contains("nan") { "share" } else { "Name" };
            let filter = json!({"type": name, "term": term, "value": "a", "values": ["a", "b"]});
            let Filter::Is(found) = read(&filter).expect("a filter") else { panic!("{name}") };
            assert_eq!((found.test, found.column.as_deref()), (test, Some(term)));
            let values = found.values.as_ref().map_or(0, |values| values.len());
            let expected = match test {
                PredicateOperator::IsNull
                | PredicateOperator::NotNull
                | PredicateOperator::IsNan
                | PredicateOperator::NotNan => 0,
                PredicateOperator::In | PredicateOperator::NotIn => 2,
                _ => 1,
            };
            assert_eq!(values, expected, "{name}");
            let negated = read(&json!({"type": "not", "child": filter})).expect("a filter");
            let Filter::Is(negated) = negated else { panic!("{name}") };
            assert_ne!(negated.test, test);
            assert_eq!(negated.test.negated(), test);
        }
    }

    #[test]
    fn negations_are_pushed_down() {
        let one = json!({"type": "eq", "term": "id", "value": 1});
        let two = json!({"type": "lt", "term": "id", "value": 2});
        let both = json!({"type": "and", "left": one, "right": two});
        let negated = read(&json!({"type": "not", "child": both})).expect("a filter");
        assert!(matches!(&negated, Filter::Or(parts) if parts.len() == 2));
        let expected = [
            r#"{"type":"not-eq","term":"id","value":1}"#,
            r#"{"type":"gt-eq","term":"id","value":2}"#,
        ];
        assert_eq!(texts(&negated), expected);
        let all = json!({"type": "and", "left": both, "right": both});
        assert!(matches!(read(&all), Ok(Filter::And(parts)) if parts.len() == 4));
        for (constant, expected) in [(json!(true), true), (json!({"type": "false"}), false)] {
            assert_eq!(read(&constant).expect("a filter"), Filter::Always(expected));
            let with = json!({"type": "or", "left": constant, "right": {"type": "true"}});
            assert_eq!(read(&with).expect("a filter"), Filter::Always(true));
            let with = json!({"type": "and", "left": constant, "right": one});
            assert_eq!(matches!(read(&with), Ok(Filter::Is(_))), expected);
        }
    }

    #[test]
    fn terms_are_columns_or_transforms() {
        let city = json!({"type": "eq", "term": "place.city", "value": "x"});
        let Filter::Is(nested) = read(&city).expect("a filter") else { panic!("no condition") };
        assert_eq!((nested.column.clone(), nested.source), (None, 6));
        let day = json!({"type": "transform", "transform": "day", "term": "at"});
        let day = json!({"type": "lt", "term": day, "value": "2024-01-01"});
        let Filter::Is(day) = read(&day).expect("a filter") else { panic!("no condition") };
        assert_eq!(day.transform, Transform::Day);
        assert!(day.values.is_some());
        let reference = json!({"type": "is-null", "term": {"type": "reference", "term": "id"}});
        assert!(read(&reference).is_ok());
        let folded = json!({"type": "is-null", "term": "NAME"});
        assert!(read(&folded).is_err());
        let Ok(Filter::Is(found)) = FilterParser::new(&schema(), false).read(&folded, false) else {
            panic!("no condition")
        };
        assert_eq!(found.column.as_deref(), Some("Name"));
    }

    #[test]
    fn invalid_filters_are_rejected_with_a_reason() {
        let reject = |filter: Value, expected: &str| {
            let error = read(&filter).expect_err("an error").to_string();
            assert!(error.contains(expected), "{error}");
        };
        reject(json!(1), "no `type`");
        reject(json!(["and"]), "no `type`");
        reject(json!({"type": "like", "term": "Name", "value": "a"}), "`like`");
        reject(json!({"type": "and", "left": true}), "no `right`");
        reject(json!({"type": "not"}), "no `child`");
        reject(json!({"type": "eq", "term": "id"}), "no `value`");
        reject(json!({"type": "eq", "value": 1}), "no `term`");
        reject(json!({"type": "eq", "term": 1, "value": 1}), "not a column or a transform");
        reject(json!({"type": "in", "term": "id", "values": 1}), "not a list");
        reject(json!({"type": "eq", "term": "ID", "value": 1}), "no column `ID`");
        reject(json!({"type": "eq", "term": "id", "value": "1"}), "`id`: `\"1\"` is not a value");
        reject(json!({"type": "eq", "term": "id", "value": null}), "`null` is not a value");
        reject(json!({"type": "in", "term": "id", "values": [1, null]}), "`null` is not a value");
        reject(json!({"type": "eq", "term": "place", "value": 1}), "primitive type");
        reject(json!({"type": "starts-with", "term": "id", "value": 1}), "string column");
        reject(json!({"type": "is-nan", "term": "id"}), "is-nan");
        for transform in ["bucket[x]", "unknown", "hour]", "truncate"] {
            let term = json!({"type": "transform", "transform": transform, "term": "id"});
            reject(json!({"type": "eq", "term": term, "value": 1}), "not a transform");
        }
        let term = json!({"type": "transform", "transform": "day", "term": "id"});
        reject(
            json!({"type": "eq", "term": term, "value": 1}),
            "`day` does not support column `id`",
        );
        let many: Vec<i32> = (0..200_001).collect();
        reject(json!({"type": "in", "term": "id", "values": many}), "values");
        let mut level: Vec<Value> = vec![json!({"type": "is-null", "term": "id"}); 4_096];
        while level.len() > 1 {
            let pairs = level.chunks(2);
            let pair = |pair: &[Value]| json!({"type": "or", "left": pair[0], "right": pair[1]});
            level = pairs.map(pair).collect();
        }
        reject(level.remove(0), "conditions");
    }
}
