//! Random programs: two tables and some statements.

use std::fmt;

use crate::evolution::{Evolution, Shape};
use crate::expression::{AvailableColumns, Expr, Side, Test, number, word};
use crate::model::{COLUMNS, FIELDS, Names, Row, STRUCT, Value, sides};
use crate::random::Random;

pub struct Program {
    pub seed: u64,
    /// Table names and their CREATE statements; a name with a slash has partitions.
    pub tables: Vec<(String, String)>,
    pub statements: Vec<Statement>,
    /// True if changes of rows write delete files.
    pub on_read: bool,
    /// True if the tables have a struct.
    pub nested: bool,
}

#[derive(Debug, Clone)]
pub enum Statement {
    Insert { table: &'static str, rows: Vec<Row>, overwrite: bool },
    InsertFrom { test: Test, overwrite: bool },
    Delete { test: Test, limit: Option<usize>, nested: bool },
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

const TARGET: AvailableColumns =
    AvailableColumns { source: false, target: true, subqueries: true, fields: false };
const BOTH: AvailableColumns =
    AvailableColumns { source: true, target: true, subqueries: false, fields: false };
const SOURCE: AvailableColumns =
    AvailableColumns { source: true, target: false, subqueries: false, fields: false };

/// Limits for the values in a program's rows.
#[derive(Clone, Copy)]
struct ValueLimits {
    nested: bool,
    /// True if `n` may have numbers beyond INT.
    wide: bool,
}

impl ValueLimits {
    fn on(self, ground: AvailableColumns) -> AvailableColumns {
        AvailableColumns { fields: self.nested, ..ground }
    }
}

impl Program {
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // A third of the programs have a struct, and columns that are renamed and widened.
        let nested = seed % 3 == 2;
        let columns = |n: &str| {
            if nested {
                format!("(id BIGINT, n {n}, w VARCHAR, p BIGINT, d STRUCT<q BIGINT, v VARCHAR>)")
            } else {
                "(id BIGINT, n BIGINT, w VARCHAR, p BIGINT)".to_owned()
            }
        };
        let (name, partition, mut shape) = if random.one_in(2) {
            ("t/p", " PARTITIONED BY (p)", Shape::partitioned(3))
        } else {
            ("t", "", Shape::default())
        };
        let tables = vec![
            (name.to_owned(), format!("CREATE TABLE t {}{partition}", columns("INT"))),
            ("s".to_owned(), format!("CREATE TABLE s {}", columns("BIGINT"))),
        ];
        let mut statements = Vec::new();
        for table in ["t", "t", "s"] {
            statements.push(inserted(
                &mut random,
                ValueLimits { nested, wide: false },
                table,
                false,
            ));
        }
        for _ in 0..3 + random.below(8) {
            // Half of the programs do not evolve the table.
            let evolves = seed % 4 > 1 && random.one_in(3);
            let soil = ValueLimits { nested, wide: nested && shape.widened };
            statements.push(match evolves {
                true if nested => Statement::Evolve(shape.evolve_more(&mut random)),
                true => Statement::Evolve(shape.evolve(&mut random)),
                false => statement(&mut random, soil),
            });
        }
        Program { on_read: seed % 2 == 1, nested, seed, tables, statements }
    }

    /// Returns the columns of a table, in order.
    pub fn columns(&self) -> String {
        let d = self.nested.then_some("d");
        COLUMNS.into_iter().chain(d).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- seed {}", self.seed)?;
        self.tables.iter().try_for_each(|(_, sql)| writeln!(f, "{sql};"))?;
        let mut names = Names::default();
        self.statements.iter().try_for_each(|statement| {
            for sql in statement.statements() {
                writeln!(f, "{};", names.fill(&sql))?;
            }
            if let Statement::Evolve(Evolution::Rename { column, name }) = statement {
                names.rename(*column, name);
            }
            Ok(())
        })
    }
}

fn statement(random: &mut Random, soil: ValueLimits) -> Statement {
    let (target, both, source) = (soil.on(TARGET), soil.on(BOTH), soil.on(SOURCE));
    match random.below(20) {
        0 | 1 => inserted(random, soil, "t", false),
        2 => inserted(random, soil, "s", false),
        3 if random.one_in(2) => inserted(random, soil, "t", true),
        3 | 4 => Statement::InsertFrom { test: source.test(random, 1), overwrite: false },
        5 => Statement::InsertFrom { test: source.test(random, 1), overwrite: true },
        6..10 => {
            let test = target.test(random, 2);
            Statement::Delete { test, limit: None, nested: soil.nested }
        }
        10 => {
            let (test, limit) = (target.test(random, 1), Some(random.below(5)));
            Statement::Delete { test, limit, nested: soil.nested }
        }
        11 => Statement::DeleteUsing { on: joined(random, both) },
        12..15 => {
            Statement::Update { set: set(random, target, true), test: target.test(random, 2) }
        }
        15 => Statement::UpdateFrom { set: set(random, both, true), on: joined(random, both) },
        16..19 => merged(random, soil),
        _ if random.one_in(3) => {
            Statement::Truncate { table: if random.one_in(2) { "t" } else { "s" } }
        }
        _ => inserted(random, soil, "s", true),
    }
}

fn inserted(
    random: &mut Random,
    soil: ValueLimits,
    table: &'static str,
    overwrite: bool,
) -> Statement {
    let most = if random.one_in(4) { 30 } else { 7 };
    let count = 1 + random.below(most);
    let rows = (0..count).map(|_| {
        let partition =
            if random.one_in(9) { Value::Null } else { Value::Number(random.below(3) as i64) };
        let mut row = vec![number(random), number(random), word(random), partition];
        if soil.wide && table == "t" && random.one_in(4) {
            row[1] = Value::Number(5_000_000_000 + random.below(3) as i64);
        }
        if soil.nested {
            let is_null = random.one_in(6);
            let whole = (!is_null).then(|| Value::Struct(vec![number(random), word(random)]));
            row.push(whole.unwrap_or(Value::Null));
        }
        row
    });
    Statement::Insert { table, rows: rows.collect(), overwrite }
}

/// Returns a join condition of the two tables, usually an equality.
fn joined(random: &mut Random, both: AvailableColumns) -> Test {
    if random.one_in(4) {
        return both.test(random, 1);
    }
    let column = |side, random: &mut Random| Expr::Column(side, random.pick(&[0, 0, 1, 3]));
    let on = Test::Compare(column(Side::Target, random), "=", column(Side::Source, random));
    if random.one_in(2) { on } else { Test::And(on.into(), both.test(random, 1).into()) }
}

fn set(random: &mut Random, ground: AvailableColumns, subqueries: bool) -> Vec<(usize, Expr)> {
    let ground = AvailableColumns { subqueries: ground.subqueries && subqueries, ..ground };
    let mut columns: Vec<usize> = (0..COLUMNS.len()).filter(|_| random.one_in(3)).collect();
    if columns.is_empty() {
        columns.push(random.below(COLUMNS.len()));
    }
    let value = |column: usize, random: &mut Random| {
        if column == 2 { ground.word(random, 1) } else { ground.number(random, 1) }
    };
    let mut set: Vec<(usize, Expr)> =
        columns.into_iter().map(|column| (column, value(column, random))).collect();
    if ground.fields && random.one_in(3) {
        set.push((STRUCT, ground.whole(random)));
    }
    set
}

fn merged(random: &mut Random, soil: ValueLimits) -> Statement {
    let on = joined(random, soil.on(BOTH));
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
        let ground = AvailableColumns {
            target: sides.contains(&Side::Target),
            source: sides.contains(&Side::Source),
            subqueries: false,
            fields: soil.nested,
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

fn name(column: usize) -> &'static str {
    COLUMNS.get(column).copied().unwrap_or("d")
}

fn assignments(set: &[(usize, Expr)]) -> String {
    let one = |(column, value): &(usize, Expr)| format!("{} = {}", name(*column), value.to_sql());
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
                let names: Vec<&str> = set.iter().map(|(column, _)| name(*column)).collect();
                let values: Vec<String> = set.iter().map(|(_, value)| value.to_sql()).collect();
                format!("INSERT ({}) VALUES ({})", names.join(", "), values.join(", "))
            }
        };
        format!("WHEN {when}{} THEN {change}", test.unwrap_or_default())
    }
}

impl Statement {
    /// Returns the statements, in order.
    pub fn statements(&self) -> Vec<String> {
        match self {
            Statement::Evolve(evolution) => evolution.statements(),
            other => vec![other.to_sql()],
        }
    }

    pub fn to_sql(&self) -> String {
        let into = |overwrite: &bool| if *overwrite { "OVERWRITE" } else { "INTO" };
        match self {
            Statement::Insert { table, rows, overwrite } => {
                format!("INSERT {} {table} VALUES {}", into(overwrite), values(rows))
            }
            Statement::InsertFrom { test, overwrite } => {
                format!("INSERT {} t SELECT * FROM s WHERE {}", into(overwrite), test.to_sql())
            }
            Statement::Delete { test, limit, nested } => {
                let limit = limit.map(|limit| {
                    let mut keys = COLUMNS.map(|column| format!("{column} NULLS FIRST")).to_vec();
                    if *nested {
                        keys.push("d IS NOT NULL".to_owned());
                        keys.extend(FIELDS.map(|field| format!("t.d.{field} NULLS FIRST")));
                    }
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
            Statement::Evolve(evolution) => evolution.statements().join("; "),
        }
    }

    /// Returns a condition for filtered reads.
    pub fn filter(&self) -> Option<&Test> {
        match self {
            Statement::Delete { test, .. } | Statement::Update { test, .. } => Some(test),
            _ => None,
        }
    }
}
