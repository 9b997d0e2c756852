//! Table evolution: partition fields, sort order, columns and format version.

use crate::model::{COLUMNS, FIELDS, Names, Row, Value};
use crate::random::Random;

/// A partition field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The value of the column without a transform.
    Same(usize),
    /// A number that is rounded down to a multiple of ten, or the first letter of a text.
    Cut(usize),
}

#[derive(Debug, Clone)]
pub enum Evolution {
    AddPart(Part),
    DropPart(Part),
    ReplacePart(Part, Part),
    Order(Vec<usize>),
    /// Drops a column and adds it again without values, or with a default.
    Recreate {
        column: usize,
        default: Option<Value>,
    },
    Upgrade,
    /// Renames a column of both tables. Struct fields are numbered after the columns.
    Rename {
        column: usize,
        name: &'static str,
    },
    /// Changes `n` from INT to BIGINT.
    Widen,
    /// Drops a struct field of both tables and adds it again without values.
    ReaddedField(usize),
}

/// Column names; a name may be reused by another column.
const NAMES: [&str; 8] = ["id", "n", "w", "p", "q", "v", "x", "y"];

impl Part {
    pub fn column(self) -> usize {
        match self {
            Part::Same(column) | Part::Cut(column) => column,
        }
    }

    pub fn to_sql(self) -> String {
        match self {
            Part::Same(column) => COLUMNS[column].to_owned(),
            Part::Cut(2) => format!("truncate(1, {})", COLUMNS[2]),
            Part::Cut(column) => format!("truncate(10, {})", COLUMNS[column]),
        }
    }

    pub fn value(self, row: &Row) -> Value {
        match (self, &row[self.column()]) {
            (Part::Cut(_), Value::Number(number)) => Value::Number(number - number.rem_euclid(10)),
            (Part::Cut(_), Value::Text(text)) => Value::Text(text.chars().take(1).collect()),
            (_, value) => value.clone(),
        }
    }
}

/// The current state of a table's evolution.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    parts: Vec<Part>,
    /// Columns that are or were partition columns.
    used: Vec<usize>,
    /// The names that the columns in `used` had when they became partition columns. Partition
    /// fields keep these names, so no other column may use them.
    taken: Vec<String>,
    order: Vec<usize>,
    upgraded: bool,
    names: Names,
    /// True if `n` is a BIGINT.
    pub widened: bool,
}

impl Shape {
    pub fn partitioned(column: usize) -> Self {
        let mut shape = Shape { parts: vec![Part::Same(column)], ..Shape::default() };
        shape.uses(column);
        shape
    }

    pub fn evolve(&mut self, random: &mut Random) -> Evolution {
        match random.below(6) {
            0 if !self.parts.is_empty() => {
                let part = self.parts.remove(random.below(self.parts.len()));
                Evolution::DropPart(part)
            }
            1 if !self.parts.is_empty() => {
                let place = random.below(self.parts.len());
                let Some(part) = self.new_part(random) else { return self.order(random) };
                let old = std::mem::replace(&mut self.parts[place], part);
                Evolution::ReplacePart(old, part)
            }
            2 => self.order(random),
            3 if !self.upgraded => {
                self.upgraded = true;
                Evolution::Upgrade
            }
            4 => self.recreate(random),
            _ => match self.new_part(random) {
                Some(part) => {
                    self.parts.push(part);
                    Evolution::AddPart(part)
                }
                None => self.order(random),
            },
        }
    }

    /// Returns a random evolution, possibly one that needs a struct.
    pub fn evolve_more(&mut self, random: &mut Random) -> Evolution {
        match random.below(5) {
            0 | 1 => self.rename(random),
            2 if !self.widened && !self.used.contains(&1) => {
                self.widened = true;
                Evolution::Widen
            }
            3 => Evolution::ReaddedField(random.below(FIELDS.len())),
            _ => self.evolve(random),
        }
    }

    fn rename(&mut self, random: &mut Random) -> Evolution {
        let is_free =
            |name: &&str| !self.names.has(name) && !self.taken.iter().any(|taken| taken == name);
        let free: Vec<&str> = NAMES.into_iter().filter(is_free).collect();
        if free.is_empty() {
            return self.order(random);
        }
        let (column, name) = (random.below(COLUMNS.len() + FIELDS.len()), random.pick(&free));
        self.names.rename(column, name);
        Evolution::Rename { column, name }
    }

    fn new_part(&mut self, random: &mut Random) -> Option<Part> {
        let all = [Part::Same(3), Part::Same(2), Part::Cut(0), Part::Cut(1), Part::Cut(2)];
        let part = random.pick(&all);
        if self.parts.contains(&part) {
            return None;
        }
        self.uses(part.column());
        Some(part)
    }

    fn uses(&mut self, column: usize) {
        self.used.push(column);
        self.taken.push(self.names.of(column).to_owned());
    }

    fn order(&mut self, random: &mut Random) -> Evolution {
        self.order = (0..COLUMNS.len()).filter(|_| random.one_in(3)).collect();
        Evolution::Order(self.order.clone())
    }

    fn recreate(&mut self, random: &mut Random) -> Evolution {
        let free = |column: &usize| !self.used.contains(column) && !self.order.contains(column);
        let columns: Vec<usize> = (1..COLUMNS.len()).filter(free).collect();
        if columns.is_empty() {
            return self.order(random);
        }
        let column = random.pick(&columns);
        self.widened |= column == 1;
        let default = (self.upgraded && random.one_in(2)).then(|| match column {
            2 => Value::Text("new".to_owned()),
            _ => Value::Number(random.below(5) as i64),
        });
        Evolution::Recreate { column, default }
    }
}

impl Evolution {
    /// Returns the statements, one for each affected table.
    pub fn statements(&self) -> Vec<String> {
        let both = |change: &dyn Fn(&str) -> String| ["t", "s"].map(change).to_vec();
        match self {
            Evolution::Rename { column, name } => {
                let old = column_name(*column);
                both(&|table| format!("ALTER TABLE {table} RENAME COLUMN {old} TO {name}"))
            }
            Evolution::ReaddedField(field) => {
                let (name, data_type) = (FIELDS[*field], ["BIGINT", "VARCHAR"][*field]);
                let place = if *field == 0 { "FIRST" } else { "AFTER {q}" };
                both(&|table| {
                    format!(
                        "ALTER TABLE {table} DROP COLUMN d.{name}, \
                         ADD COLUMN d.{name} {data_type} {place}"
                    )
                })
            }
            _ => vec![self.to_sql()],
        }
    }

    fn to_sql(&self) -> String {
        match self {
            Evolution::Widen => {
                format!("ALTER TABLE t ALTER COLUMN {} TYPE BIGINT", COLUMNS[1])
            }
            Evolution::Rename { .. } | Evolution::ReaddedField(_) => unreachable!("made above"),
            Evolution::AddPart(part) => {
                format!("ALTER TABLE t ADD PARTITION FIELD {}", part.to_sql())
            }
            Evolution::DropPart(part) => {
                format!("ALTER TABLE t DROP PARTITION FIELD {}", part.to_sql())
            }
            Evolution::ReplacePart(old, new) => {
                let (old, new) = (old.to_sql(), new.to_sql());
                format!("ALTER TABLE t REPLACE PARTITION FIELD {old} WITH {new}")
            }
            Evolution::Order(columns) if columns.is_empty() => {
                "ALTER TABLE t WRITE UNORDERED".to_owned()
            }
            Evolution::Order(columns) => {
                let names: Vec<&str> = columns.iter().map(|column| COLUMNS[*column]).collect();
                format!("ALTER TABLE t WRITE ORDERED BY {} DESC", names.join(", "))
            }
            Evolution::Recreate { column, default } => {
                let (name, before) = (COLUMNS[*column], COLUMNS[column - 1]);
                let data_type = if *column == 2 { "VARCHAR" } else { "BIGINT" };
                let default = default.as_ref().map(|value| format!(" DEFAULT {}", value.to_sql()));
                let default = default.unwrap_or_default();
                format!(
                    "ALTER TABLE t DROP COLUMN {name}, \
                     ADD COLUMN {name} {data_type}{default} AFTER {before}"
                )
            }
            Evolution::Upgrade => {
                "ALTER TABLE t SET TBLPROPERTIES ('format-version' = '3')".to_owned()
            }
        }
    }
}

/// Returns a column's name with its path.
fn column_name(column: usize) -> String {
    match column.checked_sub(COLUMNS.len()) {
        None => COLUMNS[column].to_owned(),
        Some(field) => format!("d.{}", FIELDS[field]),
    }
}
