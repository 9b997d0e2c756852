//! Random expressions: their SQL text, and the result that the test's own evaluator expects. Both
//! have three-valued logic.

use crate::model::{COLUMNS, FIELDS, STRUCT, Scope, Value};
use crate::random::Random;

/// A table that an expression refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Target,
    Source,
}

#[derive(Debug, Clone)]
pub enum Expr {
    Column(Side, usize),
    Literal(Value),
    Add(Box<Expr>, i64),
    Concat(Box<Expr>, &'static str),
    Coalesce(Box<Expr>, Box<Expr>),
    Case(Box<Test>, Box<Expr>, Box<Expr>),
    /// `(SELECT max(column) FROM s)`
    MaxOfSource(usize),
    /// A field of the struct.
    Field(Side, usize),
    /// The whole struct.
    Whole(Side),
    /// A struct of a number and a text.
    Struct(Box<Expr>, Box<Expr>),
}

#[derive(Debug, Clone)]
pub enum Test {
    Compare(Expr, &'static str, Expr),
    Between(Expr, i64, i64),
    IsNull(Expr, bool),
    In(Expr, Vec<Value>, bool),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
    /// `expr [NOT] IN (SELECT column FROM s)`
    InSource(Expr, usize, bool),
    /// `[NOT] EXISTS (SELECT 1 FROM s WHERE s.column = t.column)`
    Exists(usize, usize, bool),
    Always(bool),
}

/// The available columns of an expression.
#[derive(Debug, Clone, Copy)]
pub struct AvailableColumns {
    pub source: bool,
    pub target: bool,
    pub subqueries: bool,
    /// True if the tables have a struct.
    pub fields: bool,
}

pub const NUMBERS: [usize; 3] = [0, 1, 3];
const WORD: usize = 2;
const WORDS: [&str; 4] = ["a", "bb", "a longer word than most of them", ""];

pub fn number(random: &mut Random) -> Value {
    if random.one_in(8) { Value::Null } else { Value::Number(random.below(14) as i64 - 2) }
}

pub fn word(random: &mut Random) -> Value {
    if random.one_in(5) { Value::Null } else { Value::Text(random.pick(&WORDS).to_owned()) }
}

impl AvailableColumns {
    fn side(self, random: &mut Random) -> Side {
        match (self.target, self.source) {
            (true, true) => random.pick(&[Side::Target, Side::Source]),
            (true, false) => Side::Target,
            _ => Side::Source,
        }
    }

    pub fn number(self, random: &mut Random, depth: usize) -> Expr {
        match random.below(if depth == 0 { 4 } else { 8 }) {
            0..3 if self.fields && random.one_in(4) => Expr::Field(self.side(random), 0),
            0..3 => Expr::Column(self.side(random), random.pick(&NUMBERS)),
            3 => Expr::Literal(number(random)),
            4 | 5 => Expr::Add(self.number(random, depth - 1).into(), random.below(5) as i64 - 2),
            6 if self.subqueries => Expr::MaxOfSource(random.pick(&NUMBERS)),
            6 => Expr::Coalesce(
                self.number(random, depth - 1).into(),
                self.number(random, depth - 1).into(),
            ),
            _ => Expr::Case(
                self.plain().test(random, depth - 1).into(),
                self.number(random, depth - 1).into(),
                self.number(random, depth - 1).into(),
            ),
        }
    }

    pub fn word(self, random: &mut Random, depth: usize) -> Expr {
        match random.below(if depth == 0 { 3 } else { 5 }) {
            0 | 1 if self.fields && random.one_in(3) => Expr::Field(self.side(random), 1),
            0 | 1 => Expr::Column(self.side(random), WORD),
            2 => Expr::Literal(word(random)),
            3 => Expr::Concat(self.word(random, depth - 1).into(), "x"),
            _ => Expr::Case(
                self.plain().test(random, depth - 1).into(),
                self.word(random, depth - 1).into(),
                self.word(random, depth - 1).into(),
            ),
        }
    }

    /// Returns a struct: a column of one side, or a new one.
    pub fn whole(self, random: &mut Random) -> Expr {
        if random.one_in(3) {
            return Expr::Whole(self.side(random));
        }
        Expr::Struct(self.number(random, 0).into(), self.word(random, 0).into())
    }

    /// Returns the same columns, but forbids subqueries, for clauses that cannot contain any.
    fn plain(self) -> Self {
        AvailableColumns { subqueries: false, ..self }
    }

    pub fn test(self, random: &mut Random, depth: usize) -> Test {
        const NUMERIC: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];
        match random.below(if depth == 0 { 6 } else { 12 }) {
            0 | 1 => Test::Compare(
                self.number(random, depth.saturating_sub(1)),
                random.pick(&NUMERIC),
                self.number(random, 0),
            ),
            2 => {
                let low = random.below(10) as i64;
                Test::Between(self.number(random, 0), low, low + random.below(6) as i64)
            }
            3 => Test::Compare(
                self.word(random, 0),
                random.pick(&["=", "<>", "<", ">="]),
                self.word(random, 0),
            ),
            4 => Test::IsNull(self.number(random, 0), random.one_in(2)),
            5 => {
                let list = (0..=random.below(4)).map(|_| number(random)).collect();
                Test::In(self.number(random, 0), list, random.one_in(3))
            }
            6 => Test::Not(self.test(random, depth - 1).into()),
            7 | 8 => {
                Test::And(self.test(random, depth - 1).into(), self.test(random, depth - 1).into())
            }
            9 => Test::Or(self.test(random, depth - 1).into(), self.test(random, depth - 1).into()),
            10 if self.subqueries => {
                Test::InSource(self.number(random, 0), random.pick(&NUMBERS), random.one_in(2))
            }
            11 if self.subqueries => {
                Test::Exists(random.pick(&NUMBERS), random.pick(&NUMBERS), random.one_in(2))
            }
            _ => Test::Always(!random.one_in(4)),
        }
    }
}

impl Value {
    pub fn to_sql(&self) -> String {
        match self {
            Value::Null => "NULL".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("'{text}'"),
            Value::Struct(fields) => struct_of(&fields[0].to_sql(), &fields[1].to_sql()),
        }
    }
}

fn struct_of(number: &str, word: &str) -> String {
    format!("named_struct('{}', {number}, '{}', {word})", FIELDS[0], FIELDS[1])
}

impl Side {
    fn to_sql(self) -> &'static str {
        match self {
            Side::Target => "t",
            Side::Source => "s",
        }
    }
}

impl Expr {
    pub fn to_sql(&self) -> String {
        match self {
            Expr::Column(side, column) => format!("{}.{}", side.to_sql(), COLUMNS[*column]),
            Expr::Literal(value) => value.to_sql(),
            Expr::Add(expr, by) => format!("({} + ({by}))", expr.to_sql()),
            Expr::Concat(expr, with) => format!("({} || '{with}')", expr.to_sql()),
            Expr::Coalesce(one, other) => {
                format!("coalesce({}, {})", one.to_sql(), other.to_sql())
            }
            Expr::Case(test, then, otherwise) => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                test.to_sql(),
                then.to_sql(),
                otherwise.to_sql()
            ),
            Expr::MaxOfSource(column) => format!("(SELECT max({}) FROM s)", COLUMNS[*column]),
            Expr::Field(side, field) => format!("{}.d.{}", side.to_sql(), FIELDS[*field]),
            Expr::Whole(side) => format!("{}.d", side.to_sql()),
            Expr::Struct(number, word) => struct_of(&number.to_sql(), &word.to_sql()),
        }
    }

    pub fn value(&self, scope: &Scope<'_>) -> Value {
        match self {
            Expr::Column(side, column) => scope.of(*side, *column),
            Expr::Field(side, field) => scope.of(*side, STRUCT).field(*field),
            Expr::Whole(side) => scope.of(*side, STRUCT),
            Expr::Struct(number, word) => {
                Value::Struct(vec![number.value(scope), word.value(scope)])
            }
            Expr::Literal(value) => value.clone(),
            Expr::Add(expr, by) => match expr.value(scope) {
                Value::Number(number) => Value::Number(number + by),
                _ => Value::Null,
            },
            Expr::Concat(expr, with) => match expr.value(scope) {
                Value::Text(text) => Value::Text(text + with),
                _ => Value::Null,
            },
            Expr::Coalesce(one, other) => match one.value(scope) {
                Value::Null => other.value(scope),
                value => value,
            },
            Expr::Case(test, then, otherwise) => {
                if test.holds(scope) {
                    then.value(scope)
                } else {
                    otherwise.value(scope)
                }
            }
            Expr::MaxOfSource(column) => {
                let values = scope.sources.iter().map(|row| row[*column].clone());
                values.filter(|value| *value != Value::Null).max().unwrap_or(Value::Null)
            }
        }
    }
}

impl Test {
    pub fn to_sql(&self) -> String {
        let not = |not: bool| if not { "NOT " } else { "" };
        match self {
            Test::Compare(one, operator, other) => {
                format!("{} {operator} {}", one.to_sql(), other.to_sql())
            }
            Test::Between(expr, low, high) => {
                format!("{} BETWEEN {low} AND {high}", expr.to_sql())
            }
            Test::IsNull(expr, negated) => format!("{} IS {}NULL", expr.to_sql(), not(*negated)),
            Test::In(expr, list, negated) => {
                let list: Vec<String> = list.iter().map(Value::to_sql).collect();
                format!("{} {}IN ({})", expr.to_sql(), not(*negated), list.join(", "))
            }
            Test::And(one, other) => format!("({} AND {})", one.to_sql(), other.to_sql()),
            Test::Or(one, other) => format!("({} OR {})", one.to_sql(), other.to_sql()),
            Test::Not(test) => format!("NOT ({})", test.to_sql()),
            Test::InSource(expr, column, negated) => format!(
                "{} {}IN (SELECT {} FROM s)",
                expr.to_sql(),
                not(*negated),
                COLUMNS[*column]
            ),
            Test::Exists(source, target, negated) => format!(
                "{}EXISTS (SELECT 1 FROM s AS x WHERE x.{} = t.{})",
                not(*negated),
                COLUMNS[*source],
                COLUMNS[*target]
            ),
            Test::Always(value) => value.to_string().to_uppercase(),
        }
    }

    pub fn holds(&self, scope: &Scope<'_>) -> bool {
        self.truth(scope) == Some(true)
    }

    fn truth(&self, scope: &Scope<'_>) -> Option<bool> {
        match self {
            Test::Compare(one, operator, other) => {
                let order = compare(&one.value(scope), &other.value(scope))?;
                Some(match *operator {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            Test::Between(expr, low, high) => {
                let value = expr.value(scope);
                let low = compare(&value, &Value::Number(*low))?.is_ge();
                Some(low && compare(&value, &Value::Number(*high))?.is_le())
            }
            Test::IsNull(expr, negated) => Some((expr.value(scope) == Value::Null) != *negated),
            Test::In(expr, list, negated) => {
                found(&expr.value(scope), list.iter()).map(|found| found != *negated)
            }
            Test::And(one, other) => match (one.truth(scope), other.truth(scope)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Test::Or(one, other) => match (one.truth(scope), other.truth(scope)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Test::Not(test) => test.truth(scope).map(|truth| !truth),
            Test::InSource(expr, column, negated) => {
                let values = scope.sources.iter().map(|row| &row[*column]);
                found(&expr.value(scope), values).map(|found| found != *negated)
            }
            Test::Exists(source, target, negated) => {
                let value = scope.target(*target);
                let same = |row: &Vec<Value>| {
                    compare(&row[*source], &value).is_some_and(std::cmp::Ordering::is_eq)
                };
                Some(scope.sources.iter().any(same) != *negated)
            }
            Test::Always(value) => Some(*value),
        }
    }
}

fn compare(one: &Value, other: &Value) -> Option<std::cmp::Ordering> {
    (*one != Value::Null && *other != Value::Null).then(|| one.cmp(other))
}

/// SQL's IN: true if a value is equal, null if no value is equal and there is a null.
fn found<'v>(value: &Value, list: impl Iterator<Item = &'v Value>) -> Option<bool> {
    let mut unknown = false;
    let mut empty = true;
    for other in list {
        empty = false;
        match compare(value, other) {
            Some(order) if order.is_eq() => return Some(true),
            Some(_) => {}
            None => unknown = true,
        }
    }
    if unknown && !empty { None } else { Some(false) }
}
