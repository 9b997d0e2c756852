//! Random programs: two tables and some statements.

use std::fmt;

use crate::evolution::{Evolution, Shape};
use crate::expression::{Expr, Ground, Side, Test, number, word};
use crate::model::{COLUMNS, Row, Value, sides};
use crate::random::Random;

pub struct Program {
    pub seed: u64,
    /// Names and the statements that make them; a name with a slash has partitions.
    pub tables: Vec<(String, String)>,
    pub statements: Vec<Statement>,
    /// Whether rows are changed by delete files.
    pub on_read: bool,
}

#[derive(Debug, Clone)]
pub enum Statement {
    Insert { table: &'static str, rows: Vec<Row>, overwrite: bool },
    InsertFrom { test: Test, overwrite: bool },
    Delete { test: Test, limit: Option<usize> },
    DeleteUsing { on: Test },
    Update { set: Vec<(usize, Expr)>, test: Test },
    UpdateFrom { set: Vec<(usize, Expr)>, on: Test },
    Merge { on: Test, clauses: Vec<Clause> },
    Truncate { table: &'static str },
    Evolve(Evolution),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Matched,
    NotMatched,
    NotMatchedBySource,
}

#[derive(Debug, Clone)]
pub struct Clause {
    pub when: When,
    pub test: Option<Test>,
    pub change: Change,
}

#[derive(Debug, Clone)]
pub enum Change {
    Delete,
    Set(Vec<(usize, Expr)>),
    SetAll,
    Insert(Vec<(usize, Expr)>),
    InsertAll,
}

const TARGET: Ground = Ground { source: false, target: true, subqueries: true };
const BOTH: Ground = Ground { source: true, target: true, subqueries: false };
const SOURCE: Ground = Ground { source: true, target: false, subqueries: false };

impl Program {
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let columns = "(id BIGINT, n BIGINT, w VARCHAR, p BIGINT)";
        let (name, partition, mut shape) = if random.one_in(2) {
            ("t/p", " PARTITIONED BY (p)", Shape::partitioned(3))
        } else {
            ("t", "", Shape::default())
        };
        let tables = vec![
            (name.to_owned(), format!("CREATE TABLE t {columns}{partition}")),
            ("s".to_owned(), format!("CREATE TABLE s {columns}")),
        ];
        let mut statements = Vec::new();
        for table in ["t", "t", "s"] {
            statements.push(inserted(&mut random, table, false));
        }
        for _ in 0..3 + random.below(8) {
            // Half of the programs leave the table as it is.
            let evolves = seed % 4 > 1 && random.one_in(3);
            statements.push(if evolves {
                Statement::Evolve(shape.evolve(&mut random))
            } else {
                statement(&mut random)
            });
        }
        Program { on_read: seed % 2 == 1, seed, tables, statements }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- seed {}", self.seed)?;
        self.tables.iter().try_for_each(|(_, sql)| writeln!(f, "{sql};"))?;
        self.statements.iter().try_for_each(|statement| writeln!(f, "{};", statement.to_sql()))
    }
}

fn statement(random: &mut Random) -> Statement {
    match random.below(20) {
        0 | 1 => inserted(random, "t", false),
        2 => inserted(random, "s", false),
        3 if random.one_in(2) => inserted(random, "t", true),
        3 | 4 => Statement::InsertFrom { test: SOURCE.test(random, 1), overwrite: false },
        5 => Statement::InsertFrom { test: SOURCE.test(random, 1), overwrite: true },
        6..10 => Statement::Delete { test: TARGET.test(random, 2), limit: None },
        10 => Statement::Delete { test: TARGET.test(random, 1), limit: Some(random.below(5)) },
        11 => Statement::DeleteUsing { on: joined(random) },
        12..15 => {
            Statement::Update { set: set(random, TARGET, true), test: TARGET.test(random, 2) }
        }
        15 => Statement::UpdateFrom { set: set(random, BOTH, true), on: joined(random) },
        16..19 => merged(random),
        _ if random.one_in(3) => {
            Statement::Truncate { table: if random.one_in(2) { "t" } else { "s" } }
        }
        _ => inserted(random, "s", true),
    }
}

fn inserted(random: &mut Random, table: &'static str, overwrite: bool) -> Statement {
    let most = if random.one_in(4) { 30 } else { 7 };
    let count = 1 + random.below(most);
    let rows = (0..count).map(|_| {
        let partition =
            if random.one_in(9) { Value::Null } else { Value::Number(random.below(3) as i64) };
        vec![number(random), number(random), word(random), partition]
    });
    Statement::Insert { table, rows: rows.collect(), overwrite }
}

/// A condition that joins the two tables, most often by equality.
fn joined(random: &mut Random) -> Test {
    if random.one_in(4) {
        return BOTH.test(random, 1);
    }
    let column = |side, random: &mut Random| Expr::Column(side, random.pick(&[0, 0, 1, 3]));
    let on = Test::Compare(column(Side::Target, random), "=", column(Side::Source, random));
    if random.one_in(2) { on } else { Test::And(on.into(), BOTH.test(random, 1).into()) }
}

fn set(random: &mut Random, ground: Ground, subqueries: bool) -> Vec<(usize, Expr)> {
    let ground = Ground { subqueries: ground.subqueries && subqueries, ..ground };
    let mut columns: Vec<usize> = (0..COLUMNS.len()).filter(|_| random.one_in(3)).collect();
    if columns.is_empty() {
        columns.push(random.below(COLUMNS.len()));
    }
    let value = |column: usize, random: &mut Random| {
        if column == 2 { ground.word(random, 1) } else { ground.number(random, 1) }
    };
    columns.into_iter().map(|column| (column, value(column, random))).collect()
}

fn merged(random: &mut Random) -> Statement {
    let on = joined(random);
    let mut clauses: Vec<Clause> = Vec::new();
    for _ in 0..=random.below(4) {
        let when = random.pick(&[
            When::Matched,
            When::Matched,
            When::NotMatched,
            When::NotMatchedBySource,
        ]);
        if clauses.iter().any(|clause| clause.when == when && clause.test.is_none()) {
            continue;
        }
        let sides = sides(when);
        let ground = Ground {
            target: sides.contains(&Side::Target),
            source: sides.contains(&Side::Source),
            subqueries: false,
        };
        let test = (!random.one_in(3)).then(|| ground.test(random, 1));
        let change = match (when, random.below(4)) {
            (When::NotMatched, 0) => Change::InsertAll,
            (When::NotMatched, _) => Change::Insert(set(random, ground, false)),
            (When::Matched, 0) => Change::SetAll,
            (_, 1) => Change::Delete,
            _ => Change::Set(set(random, ground, false)),
        };
        clauses.push(Clause { when, test, change });
    }
    Statement::Merge { on, clauses }
}

fn values(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let values: Vec<String> = row.iter().map(Value::to_sql).collect();
        format!("({})", values.join(", "))
    };
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}

fn assignments(set: &[(usize, Expr)]) -> String {
    let one =
        |(column, value): &(usize, Expr)| format!("{} = {}", COLUMNS[*column], value.to_sql());
    set.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Clause {
    fn to_sql(&self) -> String {
        let when = match self.when {
            When::Matched => "MATCHED",
            When::NotMatched => "NOT MATCHED",
            When::NotMatchedBySource => "NOT MATCHED BY SOURCE",
        };
        let test = self.test.as_ref().map(|test| format!(" AND {}", test.to_sql()));
        let change = match &self.change {
            Change::Delete => "DELETE".to_owned(),
            Change::Set(set) => format!("UPDATE SET {}", assignments(set)),
            Change::SetAll => "UPDATE SET *".to_owned(),
            Change::InsertAll => "INSERT *".to_owned(),
            Change::Insert(set) => {
                let names: Vec<&str> = set.iter().map(|(column, _)| COLUMNS[*column]).collect();
                let values: Vec<String> = set.iter().map(|(_, value)| value.to_sql()).collect();
                format!("INSERT ({}) VALUES ({})", names.join(", "), values.join(", "))
            }
        };
        format!("WHEN {when}{} THEN {change}", test.unwrap_or_default())
    }
}

impl Statement {
    pub fn to_sql(&self) -> String {
        let into = |overwrite: &bool| if *overwrite { "OVERWRITE" } else { "INTO" };
        match self {
            Statement::Insert { table, rows, overwrite } => {
                format!("INSERT {} {table} VALUES {}", into(overwrite), values(rows))
            }
            Statement::InsertFrom { test, overwrite } => {
                format!("INSERT {} t SELECT * FROM s WHERE {}", into(overwrite), test.to_sql())
            }
            Statement::Delete { test, limit } => {
                let limit = limit.map(|limit| {
                    let keys = COLUMNS.map(|column| format!("{column} NULLS FIRST"));
                    format!(" ORDER BY {} LIMIT {limit}", keys.join(", "))
                });
                format!("DELETE FROM t WHERE {}{}", test.to_sql(), limit.unwrap_or_default())
            }
            Statement::DeleteUsing { on } => {
                format!("DELETE FROM t USING s WHERE {}", on.to_sql())
            }
            Statement::Update { set, test } => {
                format!("UPDATE t SET {} WHERE {}", assignments(set), test.to_sql())
            }
            Statement::UpdateFrom { set, on } => {
                format!("UPDATE t SET {} FROM s WHERE {}", assignments(set), on.to_sql())
            }
            Statement::Merge { on, clauses } => {
                let clauses: Vec<String> = clauses.iter().map(Clause::to_sql).collect();
                format!("MERGE INTO t USING s ON {} {}", on.to_sql(), clauses.join(" "))
            }
            Statement::Truncate { table } => format!("TRUNCATE {table}"),
            Statement::Evolve(evolution) => evolution.to_sql(),
        }
    }

    /// A condition to read the table by.
    pub fn filter(&self) -> Option<&Test> {
        match self {
            Statement::Delete { test, .. } | Statement::Update { test, .. } => Some(test),
            _ => None,
        }
    }
}
