//! Tables as plain lists of rows, and what each statement makes of them.

use std::collections::BTreeMap;

use crate::expression::{Expr, Side, Test};
use crate::program::{Change, Clause, Statement, When};

pub const COLUMNS: [&str; 4] = ["id", "n", "w", "p"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Number(i64),
    Text(String),
}

pub type Row = Vec<Value>;

/// What a statement answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Rows(usize),
    MatchedTwice,
}

/// What columns mean while an expression is computed.
pub struct Scope<'m> {
    target: Option<&'m Row>,
    source: Option<&'m Row>,
    pub sources: &'m [Row],
}

impl Scope<'_> {
    pub fn target(&self, column: usize) -> Value {
        self.target.map_or(Value::Null, |row| row[column].clone())
    }

    pub fn source(&self, column: usize) -> Value {
        self.source.map_or(Value::Null, |row| row[column].clone())
    }
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    tables: BTreeMap<String, Vec<Row>>,
    partitioned: bool,
}

impl Model {
    pub fn make(&mut self, name: &str) {
        let (name, partitioned) = name.split_once('/').map_or((name, false), |(n, _)| (n, true));
        self.partitioned |= partitioned;
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
            Statement::Delete { test, limit } => self.delete(test, *limit),
            Statement::DeleteUsing { on } => self.delete_using(on),
            Statement::Update { set, test } => self.update(set, test),
            Statement::UpdateFrom { set, on } => self.update_from(set, on),
            Statement::Merge { on, clauses } => self.merge(on, clauses),
            Statement::Truncate { table } => {
                let rows = std::mem::take(self.tables.get_mut(*table).unwrap());
                Outcome::Rows(rows.len())
            }
        }
    }

    fn insert(&mut self, table: &str, rows: Vec<Row>, overwrite: bool) -> Outcome {
        let partitioned = self.partitioned && table == "t";
        let held = self.tables.get_mut(table).unwrap();
        if overwrite && partitioned {
            held.retain(|row| !rows.iter().any(|new| new[3] == row[3]));
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
                        rows.push(assigned(&vec![Value::Null; COLUMNS.len()], set, &scope));
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

/// Which side a clause's expressions may speak of.
pub fn sides(when: When) -> Vec<Side> {
    match when {
        When::Matched => vec![Side::Target, Side::Source],
        When::NotMatched => vec![Side::Source],
        When::NotMatchedBySource => vec![Side::Target],
    }
}
