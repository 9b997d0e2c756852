//! A batch as one text of SQL, so that it costs one trip to the connection's thread.
//!
//! First come the guards: each puts a row into the table `guard`, which refuses every row, where an
//! expectation does not hold. Past them nothing in the text can fail but the disk, so a refused batch has
//! written nothing and the transaction around it may go on. Texts depend on the shape of a batch and not
//! on its values, so that SQLite keeps the usual ones compiled.

use std::collections::HashMap;
use std::fmt::Write as _;

use sqlx::Arguments as _;
use sqlx::sqlite::SqliteArguments;

use crate::{Append, Batch, Error, Expected, RefChange, Result, Unique};
use headwater_model::ObjectId;

/// The most rows of one INSERT.
const ROWS_MAX: usize = 16;

/// Texts with more values than this are seen once, and not worth keeping compiled.
const KEPT_VALUES_MAX: usize = 120;

/// SQL with the values for its parameters.
#[derive(Debug, Default)]
pub(super) struct Program {
    sql: String,
    values: SqliteArguments,
    count: usize,
}

impl Program {
    /// What carries out the batch, within a transaction that someone else begins and ends. Each journal
    /// it appends to gives a row with the journal's last position, in the order of first mention.
    pub(super) fn of(batch: Batch) -> Result<Program> {
        let mut program = Program::default();
        for change in &batch.refs {
            program.guard_ref(change)?;
        }
        for unique in &batch.unique {
            program.guard_unique(unique)?;
        }
        program.insert_objects(batch.objects)?;
        for change in batch.refs {
            program.change_ref(change)?;
        }
        for Unique { scope, key } in batch.unique {
            program.sql.push_str("INSERT INTO uniques VALUES (?, ?);");
            program.bind(scope)?;
            program.bind(key)?;
        }
        program.append(batch.entries)?;
        Ok(program)
    }

    /// The text, within a transaction of its own where it is `alone`; the values; and whether it is worth
    /// keeping compiled.
    pub(super) fn into_parts(self, alone: bool) -> (String, SqliteArguments, bool) {
        let keep = self.count <= KEPT_VALUES_MAX;
        let sql = if alone { format!("BEGIN IMMEDIATE;{}COMMIT", self.sql) } else { self.sql };
        (sql, self.values, keep)
    }

    fn bind<T>(&mut self, value: T) -> Result<()>
    where
        T: for<'q> sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.count += 1;
        self.values.add(value).map_err(|source| Error::Storage {
            what: "pass a value to the database".to_owned(),
            source: std::sync::Arc::from(source),
        })
    }

    fn guard_ref(&mut self, change: &RefChange) -> Result<()> {
        match &change.expected {
            Expected::Anything => Ok(()),
            Expected::Absent => {
                self.sql.push_str(
                    "INSERT INTO guard SELECT 0 WHERE EXISTS (SELECT 1 FROM refs WHERE name = ?);",
                );
                self.bind(change.name.clone())
            }
            Expected::Value(value) => {
                self.sql.push_str(
                    "INSERT INTO guard SELECT 0 WHERE NOT EXISTS \
                     (SELECT 1 FROM refs WHERE name = ? AND value = ?);",
                );
                self.bind(change.name.clone())?;
                self.bind(value.to_vec())
            }
        }
    }

    fn guard_unique(&mut self, unique: &Unique) -> Result<()> {
        self.sql.push_str(
            "INSERT INTO guard SELECT 0 WHERE EXISTS \
             (SELECT 1 FROM uniques WHERE scope = ? AND key = ?);",
        );
        self.bind(unique.scope.clone())?;
        self.bind(unique.key.clone())
    }

    fn insert_objects(&mut self, objects: Vec<bytes::Bytes>) -> Result<()> {
        let mut objects = objects.into_iter().peekable();
        while objects.peek().is_some() {
            let rows: Vec<bytes::Bytes> = objects.by_ref().take(ROWS_MAX).collect();
            self.rows("INSERT INTO objects VALUES ", "(?, ?)", rows.len());
            self.sql.push_str(" ON CONFLICT DO NOTHING;");
            for content in rows {
                self.bind(ObjectId::of(&content).as_bytes().to_vec())?;
                self.bind(Vec::from(content))?;
            }
        }
        Ok(())
    }

    fn change_ref(&mut self, change: RefChange) -> Result<()> {
        match (change.value, change.expected) {
            // Only checked: the guard has seen that nothing is to be done.
            (None, Expected::Absent) => Ok(()),
            (Some(value), Expected::Value(before)) if value == before => Ok(()),
            (Some(value), _) => {
                self.sql.push_str(
                    "INSERT INTO refs VALUES (?, ?) \
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value;",
                );
                self.bind(change.name)?;
                self.bind(Vec::from(value))
            }
            (None, _) => {
                self.sql.push_str("DELETE FROM refs WHERE name = ?;");
                self.bind(change.name)
            }
        }
    }

    fn append(&mut self, entries: Vec<Append>) -> Result<()> {
        let mut journals = Journals::default();
        let mut newest: HashMap<(String, String), usize> = HashMap::new();
        let mut places = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            places.push(journals.place(&entry.journal));
            newest.insert((entry.journal.clone(), entry.key.clone()), index);
        }
        for (name, count) in &journals.counts {
            self.sql.push_str(
                "INSERT INTO journals VALUES (?, ?) ON CONFLICT (name) \
                 DO UPDATE SET position = position + excluded.position RETURNING position;",
            );
            self.bind(name.clone())?;
            self.bind(*count as i64)?;
        }
        let back = |index: usize| {
            let (journal, place): (usize, usize) = places[index];
            (journals.counts[journal].1 - 1 - place) as i64
        };
        let mut last: Vec<usize> = newest.into_values().collect();
        last.sort_unstable();
        self.mark_newest(&entries, &last, back)?;
        self.insert_entries(entries, back)
    }

    /// Lets `latest` and `scan` find the last entry of each key.
    fn mark_newest(
        &mut self,
        entries: &[Append],
        last: &[usize],
        back: impl Fn(usize) -> i64,
    ) -> Result<()> {
        let (kept, removed): (Vec<usize>, Vec<usize>) =
            last.iter().partition(|index| entries[**index].value.is_some());
        for chunk in kept.chunks(ROWS_MAX) {
            self.rows("INSERT INTO newest VALUES ", NEWEST_ROW, chunk.len());
            self.sql.push_str(
                " ON CONFLICT (journal, key) DO UPDATE SET position = excluded.position;",
            );
            for &index in chunk {
                self.bind(entries[index].journal.clone())?;
                self.bind(entries[index].key.clone())?;
                self.bind(entries[index].journal.clone())?;
                self.bind(back(index))?;
            }
        }
        for index in removed {
            self.sql.push_str("DELETE FROM newest WHERE journal = ? AND key = ?;");
            self.bind(entries[index].journal.clone())?;
            self.bind(entries[index].key.clone())?;
        }
        Ok(())
    }

    fn insert_entries(&mut self, entries: Vec<Append>, back: impl Fn(usize) -> i64) -> Result<()> {
        let mut entries = entries.into_iter().enumerate().peekable();
        while entries.peek().is_some() {
            let rows: Vec<(usize, Append)> = entries.by_ref().take(ROWS_MAX).collect();
            self.rows("INSERT INTO entries VALUES ", ENTRY_ROW, rows.len());
            self.sql.push(';');
            for (index, entry) in rows {
                self.bind(entry.journal.clone())?;
                self.bind(entry.journal)?;
                self.bind(back(index))?;
                self.bind(entry.key)?;
                self.bind(entry.value.map(Vec::from))?;
            }
        }
        Ok(())
    }

    fn rows(&mut self, head: &str, row: &str, count: usize) {
        let _ = write!(self.sql, "{head}{row}");
        for _ in 1..count {
            let _ = write!(self.sql, ", {row}");
        }
    }
}

/// Positions count back from the journal's last, which an earlier statement has moved on.
const ENTRY_ROW: &str = "(?, (SELECT position FROM journals WHERE name = ?) - ?, ?, ?)";
const NEWEST_ROW: &str = "(?, ?, (SELECT position FROM journals WHERE name = ?) - ?)";

/// The journals of a batch, in the order of first mention, with how many entries each gets.
#[derive(Debug, Default)]
pub(super) struct Journals {
    counts: Vec<(String, usize)>,
}

impl Journals {
    /// Counts an entry; returns its journal's place here and the entry's place among the journal's.
    fn place(&mut self, journal: &str) -> (usize, usize) {
        let at = self.counts.iter().position(|(name, _)| name == journal);
        let at = at.unwrap_or_else(|| {
            self.counts.push((journal.to_owned(), 0));
            self.counts.len() - 1
        });
        self.counts[at].1 += 1;
        (at, self.counts[at].1 - 1)
    }
}

/// How to tell the positions of a batch's entries from the rows its program gives.
#[derive(Debug)]
pub(super) struct Layout {
    counts: Vec<usize>,
    places: Vec<(usize, usize)>,
}

impl Layout {
    pub(super) fn of(entries: &[Append]) -> Self {
        let mut journals = Journals::default();
        let places = entries.iter().map(|entry| journals.place(&entry.journal)).collect();
        Layout { counts: journals.counts.into_iter().map(|(_, count)| count).collect(), places }
    }

    /// The positions, given the last position of each journal.
    pub(super) fn positions(&self, last: &[i64]) -> Option<Vec<u64>> {
        let position = |&(journal, place): &(usize, usize)| {
            let last = u64::try_from(*last.get(journal)?).ok()?;
            Some(last + 1 + place as u64 - self.counts.get(journal).copied()? as u64)
        };
        self.places.iter().map(position).collect()
    }
}
