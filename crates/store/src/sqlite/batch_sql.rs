//! Translates a batch into one SQL script, which needs one round trip to the connection's thread.
//!
//! The script starts with guards. If a precondition does not hold, its guard inserts a row into the
//! table `guard`, whose check constraint rejects every row. After the guards, only disk errors can
//! occur. So a rejected batch has written nothing, and the surrounding transaction can continue.
//! The script depends only on the number and types of a batch's changes, not on their values, so
//! SQLite can cache the prepared statements.

use std::collections::HashMap;
use std::fmt::Write as _;

use sqlx::Arguments as _;
use sqlx::sqlite::SqliteArguments;

use crate::{Error, JournalAppend, RefChange, RefPrecondition, Result, UniqueKey, WriteBatch};
use headwater_model::ObjectId;

/// The maximum number of rows of one INSERT.
const INSERT_ROWS_MAX: usize = 16;

/// The maximum number of parameters of a script in the statement cache; larger scripts rarely
/// repeat.
const CACHED_PARAMETERS_MAX: usize = 120;

/// An SQL script with the values of its parameters.
#[derive(Debug, Default)]
pub(super) struct BatchSql {
    sql: String,
    values: SqliteArguments,
    count: usize,
}

impl BatchSql {
    /// Builds the script of a batch, without BEGIN and COMMIT. The script returns one row per
    /// journal with new entries, in the order in which the batch first mentions the journals. The
    /// row contains the new last position of the journal.
    pub(super) fn of(batch: WriteBatch) -> Result<BatchSql> {
        let mut script = BatchSql::default();
        for change in &batch.refs {
            script.guard_ref(change)?;
        }
        for unique in &batch.unique {
            script.guard_unique(unique)?;
        }
        script.insert_objects(batch.objects)?;
        for change in batch.refs {
            script.change_ref(change)?;
        }
        for UniqueKey { scope, key } in batch.unique {
            script.sql.push_str("INSERT INTO uniques VALUES (?, ?);");
            script.bind(scope)?;
            script.bind(key)?;
        }
        script.append(batch.entries)?;
        Ok(script)
    }

    /// Returns the SQL, the parameter values, and true if the statements should be cached. The SQL
    /// includes BEGIN and COMMIT if `own_transaction` is set.
    pub(super) fn into_parts(self, own_transaction: bool) -> (String, SqliteArguments, bool) {
        let cache = self.count <= CACHED_PARAMETERS_MAX;
        let sql =
            if own_transaction { format!("BEGIN IMMEDIATE;{}COMMIT", self.sql) } else { self.sql };
        (sql, self.values, cache)
    }

    fn bind<T>(&mut self, value: T) -> Result<()>
    where
        T: for<'q> sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.count += 1;
        self.values.add(value).map_err(|source| Error::Storage {
            what: "bind a parameter of the database".to_owned(),
            source: std::sync::Arc::from(source),
        })
    }

    fn guard_ref(&mut self, change: &RefChange) -> Result<()> {
        match &change.expected {
            RefPrecondition::Anything => Ok(()),
            RefPrecondition::Absent => {
                self.sql.push_str(
                    "INSERT INTO guard SELECT 0 WHERE EXISTS (SELECT 1 FROM refs WHERE name = ?);",
                );
                self.bind(change.name.clone())
            }
            RefPrecondition::Value(value) => {
                self.sql.push_str(
                    "INSERT INTO guard SELECT 0 WHERE NOT EXISTS \
                     (SELECT 1 FROM refs WHERE name = ? AND value = ?);",
                );
                self.bind(change.name.clone())?;
                self.bind(value.to_vec())
            }
        }
    }

    fn guard_unique(&mut self, unique: &UniqueKey) -> Result<()> {
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
            let rows: Vec<bytes::Bytes> = objects.by_ref().take(INSERT_ROWS_MAX).collect();
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
            // Write nothing, because the ref does not change. The guard checks the precondition.
            (None, RefPrecondition::Absent) => Ok(()),
            (Some(value), RefPrecondition::Value(before)) if value == before => Ok(()),
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

    fn append(&mut self, entries: Vec<JournalAppend>) -> Result<()> {
        let mut journals = Journals::default();
        let mut newest: HashMap<(String, String), usize> = HashMap::new();
        let mut slots = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            slots.push(journals.count(&entry.journal));
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
        let offset = |index: usize| {
            let (journal, slot): (usize, usize) = slots[index];
            (journals.counts[journal].1 - 1 - slot) as i64
        };
        let mut last: Vec<usize> = newest.into_values().collect();
        last.sort_unstable();
        self.mark_newest(&entries, &last, offset)?;
        self.insert_entries(entries, offset)
    }

    /// Updates the table `newest`, which [`Store::latest`](crate::Store::latest) and
    /// [`Store::scan`](crate::Store::scan) read.
    fn mark_newest(
        &mut self,
        entries: &[JournalAppend],
        last: &[usize],
        offset: impl Fn(usize) -> i64,
    ) -> Result<()> {
        let (upserted, deleted): (Vec<usize>, Vec<usize>) =
            last.iter().partition(|index| entries[**index].value.is_some());
        for chunk in upserted.chunks(INSERT_ROWS_MAX) {
            self.rows("INSERT INTO newest VALUES ", NEWEST_ROW, chunk.len());
            self.sql.push_str(
                " ON CONFLICT (journal, key) DO UPDATE SET position = excluded.position;",
            );
            for &index in chunk {
                self.bind(entries[index].journal.clone())?;
                self.bind(entries[index].key.clone())?;
                self.bind(entries[index].journal.clone())?;
                self.bind(offset(index))?;
            }
        }
        for index in deleted {
            self.sql.push_str("DELETE FROM newest WHERE journal = ? AND key = ?;");
            self.bind(entries[index].journal.clone())?;
            self.bind(entries[index].key.clone())?;
        }
        Ok(())
    }

    fn insert_entries(
        &mut self,
        entries: Vec<JournalAppend>,
        offset: impl Fn(usize) -> i64,
    ) -> Result<()> {
        let mut entries = entries.into_iter().enumerate().peekable();
        while entries.peek().is_some() {
            let rows: Vec<(usize, JournalAppend)> =
                entries.by_ref().take(INSERT_ROWS_MAX).collect();
            self.rows("INSERT INTO entries VALUES ", ENTRY_ROW, rows.len());
            self.sql.push(';');
            for (index, entry) in rows {
                self.bind(entry.journal.clone())?;
                self.bind(entry.journal)?;
                self.bind(offset(index))?;
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

/// A row to insert into `entries`. An earlier statement of the script has already increased the
/// last position of the journal by the number of new entries. So the position of an entry is this
/// last position minus an offset.
const ENTRY_ROW: &str = "(?, (SELECT position FROM journals WHERE name = ?) - ?, ?, ?)";
const NEWEST_ROW: &str = "(?, ?, (SELECT position FROM journals WHERE name = ?) - ?)";

/// The journals of a batch, each with its number of new entries, in the order in which the batch
/// first mentions them.
#[derive(Debug, Default)]
pub(super) struct Journals {
    counts: Vec<(String, usize)>,
}

impl Journals {
    /// Counts an entry of a journal. Returns the index of the journal in the batch, and the index
    /// of the entry among the batch's entries of this journal.
    fn count(&mut self, journal: &str) -> (usize, usize) {
        let index = self.counts.iter().position(|(name, _)| name == journal);
        let index = index.unwrap_or_else(|| {
            self.counts.push((journal.to_owned(), 0));
            self.counts.len() - 1
        });
        self.counts[index].1 += 1;
        (index, self.counts[index].1 - 1)
    }
}

/// Computes the positions of a batch's entries from the rows that the script returns.
#[derive(Debug)]
pub(super) struct EntrySlots {
    counts: Vec<usize>,
    /// For each entry of the batch: the index of its journal, and its index among the new entries
    /// of this journal.
    slots: Vec<(usize, usize)>,
}

impl EntrySlots {
    pub(super) fn of(entries: &[JournalAppend]) -> Self {
        let mut journals = Journals::default();
        let slots = entries.iter().map(|entry| journals.count(&entry.journal)).collect();
        EntrySlots { counts: journals.counts.into_iter().map(|(_, count)| count).collect(), slots }
    }

    /// Returns the position of each entry. `last` contains the last position of each journal.
    pub(super) fn positions(&self, last: &[i64]) -> Option<Vec<u64>> {
        let position = |&(journal, slot): &(usize, usize)| {
            let last = u64::try_from(*last.get(journal)?).ok()?;
            Some(last + 1 + slot as u64 - self.counts.get(journal).copied()? as u64)
        };
        self.slots.iter().map(position).collect()
    }
}
