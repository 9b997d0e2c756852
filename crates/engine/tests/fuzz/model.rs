//! Tables as plain lists of rows, and the effect of each statement on them.

use std::collections::BTreeMap;

use crate::evolution::{Evolution, Part};
use crate::expression::{Expr, Side, Test};
use crate::program::{Change, Clause, Statement, When};

/// Placeholders of the columns in statements; [`Names::fill`] replaces them by the current names.
pub const COLUMNS: [&str; 4] = ["{id}", "{n}", "{w}", "{p}"];

/// Placeholders of the struct's fields: a number and a text. In some programs, the struct is the
/// fifth column.
pub const FIELDS: [&str; 2] = ["{q}", "{v}"];

/// Index of the struct in a row.
pub const STRUCT: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Number(i64),
    Text(String),
    Struct(Vec<Value>),
}

impl Value {
    /// Returns a field of the struct; null if the struct is null.
    pub fn field(&self, field: usize) -> Value {
        match self {
            Value::Struct(fields) => fields[field].clone(),
            _ => Value::Null,
        }
    }
}

pub type Row = Vec<Value>;

/// The outcome of a statement.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Rows(usize),
    MatchedTwice,
}

/// The rows for which an expression is evaluated.
pub struct Scope<'m> {
    target: Option<&'m Row>,
    source: Option<&'m Row>,
    pub sources: &'m [Row],
}

impl Scope<'_> {
    pub fn target(&self, column: usize) -> Value {
        self.target.map_or(Value::Null, |row| row[column].clone())
    }

    pub fn of(&self, side: Side, column: usize) -> Value {
        let row = match side {
            Side::Target => self.target,
            Side::Source => self.source,
        };
        row.map_or(Value::Null, |row| row[column].clone())
    }
}

/// The current column names, with the struct fields last. Both tables have the same names.
#[derive(Debug, Clone)]
pub struct Names([String; 6]);

impl Default for Names {
    fn default() -> Self {
        Names(["id", "n", "w", "p", "q", "v"].map(str::to_owned))
    }
}

impl Names {
    /// Replaces the placeholders of a statement by the current column names.
    pub fn fill(&self, sql: &str) -> String {
        let places = COLUMNS.iter().chain(&FIELDS);
        places.zip(&self.0).fold(sql.to_owned(), |sql, (place, name)| sql.replace(place, name))
    }

    pub fn rename(&mut self, column: usize, name: &str) {
        name.clone_into(&mut self.0[column]);
    }

    pub fn of(&self, column: usize) -> &str {
        &self.0[column]
    }

    /// Returns true if a column or struct field has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub names: Names,
    tables: BTreeMap<String, Vec<Row>>,
    parts: Vec<Part>,
    /// Defaults of the columns of `t` that a row omits.
    defaults: BTreeMap<usize, Value>,
}

impl Model {
    pub fn make(&mut self, name: &str) {
        let (name, partitioned) = name.split_once('/').map_or((name, false), |(n, _)| (n, true));
        self.parts.extend(partitioned.then_some(Part::Same(3)));
        self.tables.insert(name.to_owned(), Vec::new());
    }

    pub fn rows(&self, table: &str) -> Vec<Row> {
        self.tables[table].clone()
    }

    pub fn scope<'m>(&'m self, row: &'m Row) -> Scope<'m> {
        Scope { target: Some(row), source: None, sources: &self.tables["s"] }
    }

    pub fn apply(&mut self, statement: &Statement) -> Outcome {
        match statement {
            Statement::Insert { table, rows, overwrite } => {
                self.insert(table, rows.clone(), *overwrite)
            }
            Statement::InsertFrom { test, overwrite } => {
                let sources = &self.tables["s"];
                let kept = sources.iter().filter(|row| {
                    let scope = Scope { target: None, source: Some(row), sources };
                    test.holds(&scope)
                });
                let rows = kept.cloned().collect();
                self.insert("t", rows, *overwrite)
            }
            Statement::Delete { test, limit, .. } => self.delete(test, *limit),
            Statement::DeleteUsing { on } => self.delete_using(on),
            Statement::Update { set, test } => self.update(set, test),
            Statement::UpdateFrom { set, on } => self.update_from(set, on),
            Statement::Merge { on, clauses } => self.merge(on, clauses),
            Statement::Truncate { table } => {
                let rows = std::mem::take(self.tables.get_mut(*table).unwrap());
                Outcome::Rows(rows.len())
            }
            Statement::Evolve(evolution) => self.evolve(evolution),
        }
    }

    fn evolve(&mut self, evolution: &Evolution) -> Outcome {
        match evolution {
            Evolution::AddPart(part) => self.parts.push(*part),
            Evolution::DropPart(part) => self.parts.retain(|known| known != part),
            Evolution::ReplacePart(old, new) => {
                let place = self.parts.iter().position(|known| known == old).unwrap();
                self.parts[place] = *new;
            }
            Evolution::Recreate { column, default } => {
                for row in self.tables.get_mut("t").unwrap() {
                    row[*column] = default.clone().unwrap_or(Value::Null);
                }
                self.defaults.remove(column);
                self.defaults.extend(default.clone().map(|value| (*column, value)));
            }
            Evolution::Rename { column, name } => self.names.rename(*column, name),
            Evolution::ReaddedField(field) => {
                for row in self.tables.values_mut().flatten() {
                    if let Value::Struct(fields) = &mut row[STRUCT] {
                        fields[*field] = Value::Null;
                    }
                }
            }
            Evolution::Order(_) | Evolution::Upgrade | Evolution::Widen => {}
        }
        Outcome::Rows(0)
    }

    fn insert(&mut self, table: &str, rows: Vec<Row>, overwrite: bool) -> Outcome {
        let parts = if table == "t" { self.parts.clone() } else { Vec::new() };
        let held = self.tables.get_mut(table).unwrap();
        if overwrite && !parts.is_empty() {
            let same = |one: &Row, other: &Row| {
                parts.iter().all(|part| part.value(one) == part.value(other))
            };
            held.retain(|row| !rows.iter().any(|new| same(new, row)));
        } else if overwrite {
            held.clear();
        }
        let count = rows.len();
        held.extend(rows);
        Outcome::Rows(count)
    }

    fn targets(&self) -> &[Row] {
        &self.tables["t"]
    }

    fn pairs<'m>(&'m self, on: &Test, target: &'m Row) -> Vec<&'m Row> {
        let sources = &self.tables["s"];
        let matches = |source: &&Row| {
            on.holds(&Scope { target: Some(target), source: Some(source), sources })
        };
        sources.iter().filter(matches).collect()
    }

    fn delete(&mut self, test: &Test, limit: Option<usize>) -> Outcome {
        let mut gone: Vec<usize> = (0..self.targets().len())
            .filter(|&row| test.holds(&self.scope(&self.targets()[row])))
            .collect();
        if let Some(limit) = limit {
            gone.sort_by_key(|&row| self.targets()[row].clone());
            gone.truncate(limit);
        }
        self.remove(gone)
    }

    fn delete_using(&mut self, on: &Test) -> Outcome {
        let gone = (0..self.targets().len())
            .filter(|&row| !self.pairs(on, &self.targets()[row]).is_empty());
        let gone = gone.collect();
        self.remove(gone)
    }

    fn remove(&mut self, mut gone: Vec<usize>) -> Outcome {
        gone.sort_unstable();
        let rows = self.tables.get_mut("t").unwrap();
        for row in gone.iter().rev() {
            rows.remove(*row);
        }
        Outcome::Rows(gone.len())
    }

    fn update(&mut self, set: &[(usize, Expr)], test: &Test) -> Outcome {
        let mut rows = self.targets().to_vec();
        let mut count = 0;
        for row in &mut rows {
            let scope = self.scope(row);
            if test.holds(&scope) {
                let new = assigned(row, set, &scope);
                *row = new;
                count += 1;
            }
        }
        self.tables.insert("t".to_owned(), rows);
        Outcome::Rows(count)
    }

    fn update_from(&mut self, set: &[(usize, Expr)], on: &Test) -> Outcome {
        let sources = &self.tables["s"];
        let mut rows = Vec::new();
        let mut count = 0;
        for row in self.targets() {
            match self.pairs(on, row).as_slice() {
                [] => rows.push(row.clone()),
                [source] => {
                    let scope = Scope { target: Some(row), source: Some(source), sources };
                    rows.push(assigned(row, set, &scope));
                    count += 1;
                }
                _ => return Outcome::MatchedTwice,
            }
        }
        self.tables.insert("t".to_owned(), rows);
        Outcome::Rows(count)
    }

    fn merge(&mut self, on: &Test, clauses: &[Clause]) -> Outcome {
        let sources = &self.tables["s"];
        let mut rows = Vec::new();
        let mut count = 0;
        let take = |when: When, scope: &Scope<'_>| {
            clauses.iter().find(|clause| {
                clause.when == when && clause.test.as_ref().is_none_or(|test| test.holds(scope))
            })
        };
        for row in self.targets() {
            let pairs = self.pairs(on, row);
            let mut actions = Vec::new();
            for source in &pairs {
                let scope = Scope { target: Some(row), source: Some(source), sources };
                actions.extend(take(When::Matched, &scope).map(|clause| (clause, Some(*source))));
            }
            if pairs.is_empty() {
                let scope = Scope { target: Some(row), source: None, sources };
                actions.extend(take(When::NotMatchedBySource, &scope).map(|clause| (clause, None)));
            }
            match actions.as_slice() {
                [] => rows.push(row.clone()),
                [(clause, source)] => {
                    count += 1;
                    let scope = Scope { target: Some(row), source: *source, sources };
                    match &clause.change {
                        Change::Delete => {}
                        Change::Set(set) => rows.push(assigned(row, set, &scope)),
                        Change::SetAll | Change::InsertAll => {
                            rows.push(source.cloned().unwrap_or_default());
                        }
                        Change::Insert(_) => unreachable!("no row is inserted where one is"),
                    }
                }
                _ => return Outcome::MatchedTwice,
            }
        }
        for source in sources {
            let matched = self
                .targets()
                .iter()
                .any(|row| on.holds(&Scope { target: Some(row), source: Some(source), sources }));
            let scope = Scope { target: None, source: Some(source), sources };
            if let Some(clause) = (!matched).then(|| take(When::NotMatched, &scope)).flatten() {
                count += 1;
                match &clause.change {
                    Change::Insert(set) => {
                        let default =
                            |column| self.defaults.get(&column).cloned().unwrap_or(Value::Null);
                        let unsaid = (0..source.len()).map(default).collect();
                        rows.push(assigned(&unsaid, set, &scope));
                    }
                    _ => rows.push(source.clone()),
                }
            }
        }
        self.tables.insert("t".to_owned(), rows);
        Outcome::Rows(count)
    }
}

fn assigned(row: &Row, set: &[(usize, Expr)], scope: &Scope<'_>) -> Row {
    let mut new = row.clone();
    for (column, value) in set {
        new[*column] = value.value(scope);
    }
    new
}

/// Returns the sides that a clause's expressions may refer to.
pub fn sides(when: When) -> Vec<Side> {
    match when {
        When::Matched => vec![Side::Target, Side::Source],
        When::NotMatched => vec![Side::Source],
        When::NotMatchedBySource => vec![Side::Target],
    }
}
