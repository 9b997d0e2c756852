//! Filters of other engines, as Iceberg's REST specification writes expressions.
//!
//! A filter is read for one schema: its names are columns, its values are of their types, and what it denies
//! is turned into what then holds, so that a [`Filter`] is made of conditions, `and` and `or` alone.

use std::str::FromStr;

use arrow::array::ArrayRef;
use iceberg::spec::{PrimitiveLiteral, PrimitiveType, Schema, Transform, Type};
use serde_json::{Value, json};

use super::literal;
use crate::types::schema::arrow_type;
use crate::values::to_array;
use crate::{Error, Result};

/// How many conditions a filter may have, and how many values they may name together.
const CONDITIONS_MAX: usize = 2_000;
const VALUES_MAX: usize = 200_000;

/// Which rows are wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All, or none.
    Always(bool),
    /// Those for which all of these hold.
    And(Vec<Filter>),
    /// Those for which one of these holds.
    Or(Vec<Filter>),
    /// Those for which this holds.
    Is(Box<Condition>),
}

/// What is asked of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The name of the column, where it is one of the table itself, as it is.
    pub column: Option<String>,
    /// What is asked.
    pub test: Test,
    /// The values that it is compared with, of the column's own type: one, or several for a set, or none.
    /// Nothing where one of them is a value that no column of the type has.
    pub values: Option<ArrayRef>,
    /// The field id of the column.
    pub(super) source: i32,
    /// What is made of it first.
    pub(super) transform: Transform,
    /// The condition as clients write it.
    pub(super) text: String,
}

/// What a condition asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// It is null.
    IsNull,
    /// It is not null.
    NotNull,
    /// It is no number.
    IsNan,
    /// It is a number, or null.
    NotNan,
    /// It is less.
    Lt,
    /// It is less or the same.
    LtEq,
    /// It is greater.
    Gt,
    /// It is greater or the same.
    GtEq,
    /// It is the same.
    Eq,
    /// It is another, or, as some engines have it, null.
    NotEq,
    /// It is a text that begins so.
    StartsWith,
    /// It is a text that begins otherwise, or null.
    NotStartsWith,
    /// It is one of them.
    In,
    /// It is none of them, or null.
    NotIn,
}

impl Test {
    const ALL: [(&'static str, Test); 14] = [
        ("is-null", Test::IsNull),
        ("not-null", Test::NotNull),
        ("is-nan", Test::IsNan),
        ("not-nan", Test::NotNan),
        ("lt", Test::Lt),
        ("lt-eq", Test::LtEq),
        ("gt", Test::Gt),
        ("gt-eq", Test::GtEq),
        ("eq", Test::Eq),
        ("not-eq", Test::NotEq),
        ("starts-with", Test::StartsWith),
        ("not-starts-with", Test::NotStartsWith),
        ("in", Test::In),
        ("not-in", Test::NotIn),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, test)| *test)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, test)| *test == self).map_or("", |(name, _)| name)
    }

    /// What holds where this does not.
    fn denied(self) -> Self {
        match self {
            Test::IsNull => Test::NotNull,
            Test::NotNull => Test::IsNull,
            Test::IsNan => Test::NotNan,
            Test::NotNan => Test::IsNan,
            Test::Lt => Test::GtEq,
            Test::GtEq => Test::Lt,
            Test::LtEq => Test::Gt,
            Test::Gt => Test::LtEq,
            Test::Eq => Test::NotEq,
            Test::NotEq => Test::Eq,
            Test::StartsWith => Test::NotStartsWith,
            Test::NotStartsWith => Test::StartsWith,
            Test::In => Test::NotIn,
            Test::NotIn => Test::In,
        }
    }
}

impl Condition {
    /// Whether it is about what a transform makes of the column, and not about the column itself.
    pub fn is_of_transform(&self) -> bool {
        self.transform != Transform::Identity
    }
}

/// Why a scan cannot be planned.
pub(super) fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidScan { reason: reason.into() }
}

/// Reads filters for the columns of a schema.
pub(super) struct Reader<'s> {
    schema: &'s Schema,
    case_sensitive: bool,
    conditions: usize,
    values: usize,
}

impl<'s> Reader<'s> {
    pub(super) fn new(schema: &'s Schema, case_sensitive: bool) -> Self {
        Reader { schema, case_sensitive, conditions: 0, values: 0 }
    }

    /// The field with a full name.
    pub(super) fn field(&self, name: &str) -> Result<&'s iceberg::spec::NestedFieldRef> {
        let found = self.schema.field_by_name(name);
        let found = match found {
            None if !self.case_sensitive => self.schema.field_by_name_case_insensitive(name),
            found => found,
        };
        found.ok_or_else(|| invalid(format!("there is no column `{name}`")))
    }

    /// Reads a filter, or what it denies.
    pub(super) fn read(&mut self, value: &Value, denied: bool) -> Result<Filter> {
        if let Value::Bool(all) = value {
            return Ok(Filter::Always(*all != denied));
        }
        let name = value["type"].as_str();
        let name = name.ok_or_else(|| invalid("an expression has no `type`"))?;
        match name {
            "true" | "false" => Ok(Filter::Always((name == "true") != denied)),
            "not" => self.read(part(value, "child", name)?, !denied),
            "and" | "or" => {
                let left = self.read(part(value, "left", name)?, denied)?;
                let right = self.read(part(value, "right", name)?, denied)?;
                Ok(left.with(right, (name == "and") != denied))
            }
            _ => {
                let unknown = || invalid(format!("`{name}` is no type of expression"));
                let test = Test::named(name).ok_or_else(unknown)?;
                self.condition(value, test, denied)
            }
        }
    }

    fn condition(&mut self, value: &Value, test: Test, denied: bool) -> Result<Filter> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(invalid(format!("it has more than {CONDITIONS_MAX} conditions")));
        }
        let name = test.name();
        let (column, transform) = term(part(value, "term", name)?)?;
        let field = self.field(column)?;
        let found = match transform {
            Transform::Identity => Ok((*field.field_type).clone()),
            transform => transform.result_type(&field.field_type),
        };
        let found = found.map_err(|_| invalid(format!("`{transform}` takes no `{column}`")))?;
        let values = self.operands(value, test, column, &found)?;
        let is_own = self.schema.as_struct().fields().iter().any(|own| own.id == field.id);
        let test = if denied { test.denied() } else { test };
        Ok(Filter::Is(Box::new(Condition {
            column: is_own.then(|| field.name.clone()),
            test,
            values,
            source: field.id,
            transform,
            text: text(value, test),
        })))
    }

    /// What a column is compared with; an empty list of values where it is with none.
    fn operands(
        &mut self,
        value: &Value,
        test: Test,
        column: &str,
        found: &Type,
    ) -> Result<Option<ArrayRef>> {
        let type_name = || format!("`{column}` is of type `{found}`, and `{}`", test.name());
        let given: &[Value] = match test {
            Test::IsNull | Test::NotNull => return Ok(None),
            Test::IsNan | Test::NotNan => match found {
                Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => return Ok(None),
                _ => {
                    return Err(invalid(format!("{} takes numbers that may be none", type_name())));
                }
            },
            Test::In | Test::NotIn => {
                let values = part(value, "values", test.name())?.as_array();
                values.ok_or_else(|| invalid("`values` is no list"))?
            }
            _ => std::slice::from_ref(part(value, "value", test.name())?),
        };
        let Type::Primitive(found) = found else {
            return Err(invalid(format!("{} takes single values", type_name())));
        };
        if matches!(test, Test::StartsWith | Test::NotStartsWith) && *found != PrimitiveType::String
        {
            return Err(invalid(format!("{} takes texts", type_name())));
        }
        self.values += given.len();
        if self.values > VALUES_MAX {
            return Err(invalid(format!("it has more than {VALUES_MAX} values")));
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

/// A column's name, and what is made of it first.
fn term(value: &Value) -> Result<(&str, Transform)> {
    let unreadable = || invalid(format!("`{value}` is no term"));
    let (column, transform) = match value {
        Value::String(column) => return Ok((column, Transform::Identity)),
        value => (&value["term"], value["transform"].as_str()),
    };
    // Java's clients write a column in a transform as a term of its own.
    let column = column.as_str().or_else(|| column["term"].as_str()).ok_or_else(unreadable)?;
    match (value["type"].as_str(), transform) {
        (Some("reference"), _) => Ok((column, Transform::Identity)),
        (Some("transform"), Some(transform)) => match Transform::from_str(transform) {
            Ok(Transform::Unknown) | Err(_) => {
                Err(invalid(format!("`{transform}` is no transform")))
            }
            Ok(transform) => Ok((column, transform)),
        },
        _ => Err(unreadable()),
    }
}

/// A condition as it is written.
fn text(value: &Value, test: Test) -> String {
    let mut text = json!({"type": test.name(), "term": value["term"]});
    for operand in ["value", "values"] {
        if let Some(operands) = value.get(operand) {
            text[operand] = operands.clone();
        }
    }
    text.to_string()
}

impl Filter {
    /// Both, or either.
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

    /// The conditions, in order.
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
        Reader::new(&schema(), true).read(filter, false)
    }

    fn texts(filter: &Filter) -> Vec<String> {
        filter.conditions().iter().map(|condition| condition.text.clone()).collect()
    }

    #[test]
    fn every_test_is_read_and_denied() {
        for (name, test) in Test::ALL {
            let term = if name.contains("nan") { "share" } else { "Name" };
            let filter = json!({"type": name, "term": term, "value": "a", "values": ["a", "b"]});
            let Filter::Is(found) = read(&filter).expect("a filter") else { panic!("{name}") };
            assert_eq!((found.test, found.column.as_deref()), (test, Some(term)));
            let values = found.values.as_ref().map_or(0, |values| values.len());
            let expected = match test {
                Test::IsNull | Test::NotNull | Test::IsNan | Test::NotNan => 0,
                Test::In | Test::NotIn => 2,
                _ => 1,
            };
            assert_eq!(values, expected, "{name}");
            let denied = read(&json!({"type": "not", "child": filter})).expect("a filter");
            let Filter::Is(denied) = denied else { panic!("{name}") };
            assert_ne!(denied.test, test);
            assert_eq!(denied.test.denied(), test);
        }
    }

    #[test]
    fn what_is_denied_is_turned_around() {
        let one = json!({"type": "eq", "term": "id", "value": 1});
        let two = json!({"type": "lt", "term": "id", "value": 2});
        let both = json!({"type": "and", "left": one, "right": two});
        let denied = read(&json!({"type": "not", "child": both})).expect("a filter");
        assert!(matches!(&denied, Filter::Or(parts) if parts.len() == 2));
        let expected = [
            r#"{"type":"not-eq","term":"id","value":1}"#,
            r#"{"type":"gt-eq","term":"id","value":2}"#,
        ];
        assert_eq!(texts(&denied), expected);
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
    fn terms_are_columns_and_what_is_made_of_them() {
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
        let Ok(Filter::Is(found)) = Reader::new(&schema(), false).read(&folded, false) else {
            panic!("no condition")
        };
        assert_eq!(found.column.as_deref(), Some("Name"));
    }

    #[test]
    fn what_cannot_be_is_refused_and_said() {
        let refuse = |filter: Value, expected: &str| {
            let error = read(&filter).expect_err("an error").to_string();
            assert!(error.contains(expected), "{error}");
        };
        refuse(json!(1), "no `type`");
        refuse(json!(["and"]), "no `type`");
        refuse(json!({"type": "like", "term": "Name", "value": "a"}), "`like`");
        refuse(json!({"type": "and", "left": true}), "no `right`");
        refuse(json!({"type": "not"}), "no `child`");
        refuse(json!({"type": "eq", "term": "id"}), "no `value`");
        refuse(json!({"type": "eq", "value": 1}), "no `term`");
        refuse(json!({"type": "eq", "term": 1, "value": 1}), "no term");
        refuse(json!({"type": "in", "term": "id", "values": 1}), "no list");
        refuse(json!({"type": "eq", "term": "ID", "value": 1}), "no column `ID`");
        refuse(json!({"type": "eq", "term": "id", "value": "1"}), "`id`: `\"1\"` is no value");
        refuse(json!({"type": "eq", "term": "id", "value": null}), "`null` is no value");
        refuse(json!({"type": "in", "term": "id", "values": [1, null]}), "`null` is no value");
        refuse(json!({"type": "eq", "term": "place", "value": 1}), "single values");
        refuse(json!({"type": "starts-with", "term": "id", "value": 1}), "takes texts");
        refuse(json!({"type": "is-nan", "term": "id"}), "is-nan");
        for transform in ["bucket[x]", "unknown", "hour]", "truncate"] {
            let term = json!({"type": "transform", "transform": transform, "term": "id"});
            refuse(json!({"type": "eq", "term": term, "value": 1}), "no transform");
        }
        let term = json!({"type": "transform", "transform": "day", "term": "id"});
        refuse(json!({"type": "eq", "term": term, "value": 1}), "`day` takes no `id`");
        let many: Vec<i32> = (0..200_001).collect();
        refuse(json!({"type": "in", "term": "id", "values": many}), "values");
        let mut level: Vec<Value> = vec![json!({"type": "is-null", "term": "id"}); 4_096];
        while level.len() > 1 {
            let pairs = level.chunks(2);
            let pair = |pair: &[Value]| json!({"type": "or", "left": pair[0], "right": pair[1]});
            level = pairs.map(pair).collect();
        }
        refuse(level.remove(0), "conditions");
    }
}
