//! Temporary tables and views, which exist until the end of their transaction.
//!
//! Temporary objects are tables and views of the transaction's branch, and are dropped before the
//! branch is merged. So other clients never see the temporary objects. Temporary objects need the
//! same rights as other tables.

use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_service::PreparedStatement;

use crate::reply::Reply;
use crate::session::{MessageResult, Session, StatementAction};
use crate::session_command::StatementWords;

/// A statement that creates a temporary table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTemporaryStatement {
    /// The statement, in which spaces replace the words that make the object temporary.
    sql: String,
    /// The table or view.
    object: TemporaryRelation,
    /// True for IF NOT EXISTS.
    if_not_exists: bool,
}

/// A temporary table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryRelation {
    /// The name, as written in the statement.
    name: String,
    /// The kind of object: `TABLE` or `VIEW`.
    kind: &'static str,
}

impl CreateTemporaryStatement {
    /// Parses a statement; `None` if it creates no temporary object.
    pub fn parse(sql: &str) -> Option<Self> {
        let mut words = StatementWords::new(sql);
        let mut removed: Vec<&str> = Vec::new();
        words.next().filter(|word| is(word, "CREATE"))?;
        let mut word = words.next()?;
        if is(word, "OR") {
            removed.extend([word, words.next()?]);
            word = words.next()?;
        }
        if is(word, "GLOBAL") || is(word, "LOCAL") {
            removed.push(word);
            word = words.next()?;
        }
        if !is(word, "TEMP") && !is(word, "TEMPORARY") {
            return None;
        }
        removed.push(word);
        let kind = words.next()?;
        let kind = ["TABLE", "VIEW"].into_iter().find(|known| is(kind, known))?;
        let mut name = words.next()?;
        let if_not_exists = is(name, "IF");
        if if_not_exists {
            removed.extend([name, words.next()?, words.next()?]);
            name = words.next()?;
        }
        let rest: Vec<&str> = words.collect();
        let on_commit = rest
            .windows(3)
            .find(|three| is(three[0], "ON") && is(three[1], "COMMIT") && is(three[2], "DROP"));
        removed.extend(on_commit.into_iter().flatten());
        let object = TemporaryRelation { name: name.to_owned(), kind };
        Some(CreateTemporaryStatement { sql: blank(sql, &removed), object, if_not_exists })
    }
}

fn is(word: &str, wanted: &str) -> bool {
    word.eq_ignore_ascii_case(wanted)
}

/// Replaces words, which are slices of the text, by spaces. All positions stay the same.
fn blank(sql: &str, words: &[&str]) -> String {
    let mut text = sql.to_owned();
    for word in words {
        let start = word.as_ptr() as usize - sql.as_ptr() as usize;
        text.replace_range(start..start + word.len(), &" ".repeat(word.len()));
    }
    text
}

/// Returns the names of the tables or views that a statement creates, drops or renames, as written
/// in the statement.
fn targets(sql: &str) -> Vec<&str> {
    let mut words = StatementWords::new(sql);
    let Some(verb) = words.next() else { return Vec::new() };
    if !["CREATE", "DROP", "ALTER"].iter().any(|known| is(verb, known)) {
        return Vec::new();
    }
    let mut words = words.skip_while(|word| !is(word, "TABLE") && !is(word, "VIEW")).skip(1);
    let names =
        words.by_ref().filter(|word| !["IF", "NOT", "EXISTS"].iter().any(|no| is(word, no)));
    let count = if is(verb, "DROP") { usize::MAX } else { 1 };
    names.filter(|word| *word != ",").take(count).collect()
}

/// Returns true if two names are equal, ignoring quotes and case.
fn same(one: &str, other: &str) -> bool {
    one.trim_matches('"').eq_ignore_ascii_case(other.trim_matches('"'))
}

impl Session {
    /// Creates a temporary table or view.
    pub async fn create_temporary(&mut self, create: CreateTemporaryStatement) -> MessageResult {
        let CreateTemporaryStatement { sql, object, if_not_exists } = create;
        let kind = object.kind.to_lowercase();
        if self.transaction.is_none() {
            let message = format!("a temporary {kind} needs a transaction");
            let hint = "Send `BEGIN` first; temporary tables and views exist until `COMMIT` or \
                        `ROLLBACK`.";
            return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint).into());
        }
        let is_known = self.temporary.iter().any(|known| same(&known.name, &object.name));
        if is_known && if_not_exists {
            self.wire.output.complete(&format!("CREATE {}", object.kind));
            return Ok(());
        }
        let StatementAction::Sql(prepared) = StatementAction::parse(&sql, &self.identity())? else {
            let message = format!("the temporary {kind} `{}` cannot be created", object.name);
            return Err(Problem::new(ErrorCode::InvalidSql, message).into());
        };
        let mut cursor = self.start(prepared, &[]).await?;
        cursor.send(u64::MAX, &mut self.wire).await?;
        self.temporary.push(object);
        self.wire.output.complete(&cursor.tag());
        Ok(())
    }

    /// Removes the objects that a statement names from the list of temporary objects. The statement
    /// drops them, or creates permanent objects with their names.
    pub fn forget_temporary(&mut self, sql: &str) {
        if self.temporary.is_empty() {
            return;
        }
        let targets = targets(sql);
        self.temporary.retain(|known| !targets.iter().any(|name| same(name, &known.name)));
    }

    /// Drops the temporary objects of the transaction, the latest first.
    pub async fn drop_temporary(&mut self) -> MessageResult {
        while let Some(TemporaryRelation { name, kind }) = self.temporary.pop() {
            let sql = format!("DROP {kind} IF EXISTS {name}");
            let prepared = PreparedStatement::parse(&sql).or_problem()?;
            let mut cursor = self.start(prepared, &[]).await?;
            cursor.send(u64::MAX, &mut self.wire).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str, name: &str) {
        let create = CreateTemporaryStatement::parse(sql).expect(sql);
        assert_eq!((create.sql.as_str(), create.object.name.as_str()), (expected, name), "{sql}");
    }

    #[test]
    fn words_of_temporary_tables_become_spaces() {
        check("CREATE TEMP TABLE t (a INT)", "CREATE      TABLE t (a INT)", "t");
        check(
            "create local temporary table \"T 1\" as (select 'on commit drop')",
            "create                 table \"T 1\" as (select 'on commit drop')",
            "\"T 1\"",
        );
        check(
            "CREATE TEMP TABLE IF NOT EXISTS t (a INT) ON COMMIT DROP;",
            "CREATE      TABLE               t (a INT)               ;",
            "t",
        );
        check(
            "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
            "CREATE                 VIEW v AS SELECT 1",
            "v",
        );
        for sql in ["CREATE TABLE temp (a INT)", "SELECT 1", "CREATE VIEW temporary AS SELECT 1"] {
            assert_eq!(CreateTemporaryStatement::parse(sql), None);
        }
    }

    #[test]
    fn statements_have_targets() {
        assert_eq!(targets("CREATE TABLE IF NOT EXISTS a AS SELECT * FROM b"), ["a"]);
        assert_eq!(targets("drop table if exists a, \"b\""), ["a", "\"b\""]);
        assert_eq!(targets("ALTER TABLE a RENAME TO b"), ["a"]);
        assert_eq!(targets("SELECT * FROM a"), [""; 0]);
    }
}
