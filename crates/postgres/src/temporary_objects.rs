//! Temporary tables and views, which exist until the end of their transaction.
//!
//! Temporary objects are tables and views of the transaction's branch, and are dropped before the
//! branch is merged. So other clients never see the temporary objects. Temporary objects need the
//! same rights as other tables. `ROLLBACK TO` restores the list of the temporary objects, because
//! it also restores the tables and views.

use headwater_model::{DEFAULT_NAMESPACE, ErrorCode, Problem, ResultExt, name};
use headwater_service::PreparedStatement;

use crate::backend_message::ReplyWriter;
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
    /// The name without quotes, with its namespace if it has one.
    name: String,
    /// The kind of object: `TABLE` or `VIEW`.
    kind: &'static str,
}

/// The temporary tables and views of a transaction.
#[derive(Debug, Default)]
pub struct TemporaryRelations {
    /// The relations with qualified names, in the order of their creation.
    current: Vec<TemporaryRelation>,
    /// Copies of `current`, one for each savepoint.
    savepoints: Vec<SavepointRelations>,
}

/// The temporary tables and views at a savepoint.
#[derive(Debug)]
struct SavepointRelations {
    name: String,
    relations: Vec<TemporaryRelation>,
}

impl TemporaryRelations {
    /// Adds a savepoint.
    pub fn add_savepoint(&mut self, name: &str) {
        let relations = self.current.clone();
        self.savepoints.push(SavepointRelations { name: name.to_owned(), relations });
    }

    /// Removes a savepoint and all later savepoints.
    pub fn release(&mut self, name: &str) {
        if let Some(index) = self.find_savepoint(name) {
            self.savepoints.truncate(index);
        }
    }

    /// Restores the relations at a savepoint, and removes all later savepoints.
    pub fn roll_back_to(&mut self, name: &str) {
        if let Some(index) = self.find_savepoint(name) {
            self.savepoints.truncate(index + 1);
            self.current.clone_from(&self.savepoints[index].relations);
        }
    }

    /// Returns the index of the latest savepoint with this name.
    fn find_savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name)
    }

    /// Returns true if there is a temporary relation with this qualified name.
    fn contains(&self, name: &str) -> bool {
        self.current.iter().any(|known| same(&known.name, name))
    }

    /// Applies a statement to the list of temporary objects: removes the objects that the statement
    /// drops or replaces by permanent objects, and renames the objects that it renames. `namespace`
    /// is the namespace of unqualified names.
    fn apply(&mut self, sql: &str, namespace: &str) {
        if self.current.is_empty() {
            return;
        }
        for RelationChange { object, new_name } in changes(sql) {
            let changed = qualified(&object.name, namespace);
            let is_changed = |known: &TemporaryRelation| {
                known.kind == object.kind && same(&known.name, &changed)
            };
            let Some(new_name) = new_name else {
                self.current.retain(|known| !is_changed(known));
                continue;
            };
            for known in &mut self.current {
                if !is_changed(known) {
                    continue;
                }
                // A renamed object remains in its namespace.
                let namespace = known.name.rsplit_once(name::LEVEL_SEPARATOR);
                known.name = qualified(&new_name, namespace.map_or("", |(namespace, _)| namespace));
            }
        }
    }
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
        let kind = kind_of(words.next()?)?;
        let if_not_exists = words.clone().next().is_some_and(|word| is(word, "IF"));
        if if_not_exists {
            removed.extend(words.by_ref().take(3));
        }
        let name = read_name(&mut words)?;
        let rest: Vec<&str> = words.collect();
        let on_commit = rest
            .windows(3)
            .find(|three| is(three[0], "ON") && is(three[1], "COMMIT") && is(three[2], "DROP"));
        removed.extend(on_commit.into_iter().flatten());
        let object = TemporaryRelation { name, kind };
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

/// A table or view that a statement drops, renames or replaces.
#[derive(Debug, PartialEq, Eq)]
struct RelationChange {
    object: TemporaryRelation,
    /// The new name of a renamed object; `None` if the statement drops the object, or creates a
    /// permanent object with this name.
    new_name: Option<String>,
}

/// Returns the changes of a statement that creates, drops or renames tables or views.
fn changes(sql: &str) -> Vec<RelationChange> {
    let mut words = StatementWords::new(sql);
    let Some(verb) = words.next() else { return Vec::new() };
    if !["CREATE", "DROP", "ALTER"].iter().any(|known| is(verb, known)) {
        return Vec::new();
    }
    // Skip other statements, such as `CREATE ROW FILTER f ON TABLE t`, in which the word TABLE
    // comes later.
    let Some(kind) = words.by_ref().take(3).find_map(kind_of) else { return Vec::new() };
    if words.clone().next().is_some_and(|word| is(word, "IF")) {
        words.next();
        let is_negated = words.clone().next().is_some_and(|word| is(word, "NOT"));
        if is_negated {
            // IF NOT EXISTS changes no object that exists.
            return Vec::new();
        }
        words.next();
    }
    let mut changes = Vec::new();
    while let Some(name) = read_name(&mut words) {
        changes.push(RelationChange { object: TemporaryRelation { name, kind }, new_name: None });
        if !is(verb, "DROP") || words.clone().next() != Some(",") {
            break;
        }
        words.next();
    }
    if is(verb, "ALTER") {
        let renames = words.next().is_some_and(|word| is(word, "RENAME"))
            && words.next().is_some_and(|word| is(word, "TO"));
        let new_name = if renames { read_name(&mut words) } else { None };
        changes.retain_mut(|change| {
            change.new_name.clone_from(&new_name);
            change.new_name.is_some()
        });
    }
    changes
}

/// Returns the kind of object that a word of a statement names.
fn kind_of(word: &str) -> Option<&'static str> {
    ["TABLE", "VIEW"].into_iter().find(|known| is(word, known))
}

/// Reads a name such as `shop."Orders"`. Returns its parts without quotes, separated by periods.
fn read_name(words: &mut StatementWords<'_>) -> Option<String> {
    let part = |word: &str| {
        let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        inner.map_or_else(|| word.to_owned(), |inner| inner.replace("\"\"", "\""))
    };
    let mut name = part(words.next()?);
    loop {
        let mut ahead = words.clone();
        match ahead.next() {
            Some(next) if name.ends_with('.') || next.starts_with('.') => {
                name.push_str(&part(next));
                *words = ahead;
            }
            _ => return Some(name),
        }
    }
}

/// Adds the namespace to an unqualified name.
fn qualified(name: &str, namespace: &str) -> String {
    if name.contains(name::LEVEL_SEPARATOR) {
        return name.to_owned();
    }
    format!("{namespace}{}{name}", name::LEVEL_SEPARATOR)
}

/// Returns true if two qualified names are the same table. Statements find a table ignoring case,
/// even if its name is in quotes, so a namespace has no two tables that differ only in case.
fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
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
        let name = qualified(&object.name, &self.default_namespace());
        if if_not_exists && self.temporary.contains(&name) {
            self.wire.output.complete(&format!("CREATE {}", object.kind));
            return Ok(());
        }
        let StatementAction::Sql(prepared) = StatementAction::parse(&sql, &self.identity())? else {
            let message = format!("the temporary {kind} `{}` cannot be created", object.name);
            return Err(Problem::new(ErrorCode::InvalidSql, message).into());
        };
        let mut cursor = self.start(prepared, &[]).await?;
        cursor.send(u64::MAX, &mut self.wire).await?;
        self.temporary.current.push(TemporaryRelation { name, kind: object.kind });
        self.wire.output.complete(&cursor.tag());
        Ok(())
    }

    /// Updates the list of temporary objects before a statement runs. If the statement fails, its
    /// transaction fails too, and `ROLLBACK TO` restores the list.
    pub fn update_temporary(&mut self, sql: &str) {
        let namespace = self.default_namespace();
        self.temporary.apply(sql, &namespace);
    }

    /// Drops the temporary objects of the transaction, the latest first. `ROLLBACK TO` can restore
    /// them.
    ///
    /// The session's `search_path` may name a namespace that does not exist, so it is not used.
    /// Dropping is a write, which a read-only transaction would reject.
    pub async fn drop_temporary(&mut self) -> MessageResult {
        let (settings, is_read_only) = (self.settings.clone(), self.is_read_only);
        self.settings.set("search_path", DEFAULT_NAMESPACE)?;
        self.is_read_only = false;
        let dropped = self.drop_latest_first().await;
        (self.settings, self.is_read_only) = (settings, is_read_only);
        dropped
    }

    async fn drop_latest_first(&mut self) -> MessageResult {
        while let Some(TemporaryRelation { name, kind }) = self.temporary.current.pop() {
            let sql = format!("DROP {kind} IF EXISTS {}", name::quoted(&name));
            let prepared = PreparedStatement::parse(&sql).or_problem()?;
            let mut cursor = self.start(prepared, &[]).await?;
            cursor.send(u64::MAX, &mut self.wire).await?;
        }
        Ok(())
    }

    fn default_namespace(&self) -> String {
        self.settings.namespace().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
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
            "T 1",
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

    fn checked_changes(sql: &str, expected: &[(&str, &str, Option<&str>)]) {
        let changes = changes(sql);
        let changes: Vec<(&str, &str, Option<&str>)> = changes
            .iter()
            .map(|it| (it.object.kind, it.object.name.as_str(), it.new_name.as_deref()))
            .collect();
        assert_eq!(changes, expected, "{sql}");
    }

    #[test]
    fn statements_change_names() {
        checked_changes("CREATE OR REPLACE TABLE a AS SELECT 1", &[("TABLE", "a", None)]);
        checked_changes("CREATE TABLE IF NOT EXISTS a AS SELECT * FROM b", &[]);
        checked_changes(
            "drop table if exists a, \"s\".\"B\", s . \"c\"",
            &[("TABLE", "a", None), ("TABLE", "s.B", None), ("TABLE", "s.c", None)],
        );
        checked_changes("ALTER VIEW IF EXISTS a RENAME TO b", &[("VIEW", "a", Some("b"))]);
        checked_changes("ALTER TABLE a RENAME COLUMN b TO c", &[]);
        checked_changes("ALTER TABLE a ADD COLUMN b INT", &[]);
        checked_changes("CREATE ROW FILTER f ON TABLE a USING (b > 0)", &[]);
        checked_changes("SELECT * FROM a", &[]);
    }

    fn relations(names: &[&str]) -> TemporaryRelations {
        let relation =
            |name: &&str| TemporaryRelation { name: format!("public.{name}"), kind: "TABLE" };
        let current = names.iter().map(relation).collect();
        TemporaryRelations { current, ..TemporaryRelations::default() }
    }

    fn check_names(relations: &TemporaryRelations, expected: &[&str]) {
        let names: Vec<&str> = relations.current.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_savepoint_restores_temporary_objects() {
        let mut temporary = relations(&["t"]);
        temporary.add_savepoint("s");
        temporary.apply("DROP TABLE t", "public");
        check_names(&temporary, &[]);
        temporary.current.extend(relations(&["later"]).current);
        temporary.add_savepoint("inner");
        temporary.roll_back_to("s");
        check_names(&temporary, &["public.t"]);
        temporary.apply("CREATE TABLE t (a INT)", "public");
        temporary.roll_back_to("inner");
        check_names(&temporary, &[]);
        temporary.roll_back_to("s");
        check_names(&temporary, &["public.t"]);
        temporary.release("s");
        temporary.apply("DROP TABLE t", "public");
        temporary.roll_back_to("s");
        check_names(&temporary, &[]);
    }

    #[test]
    fn an_object_is_temporary_until_it_is_dropped_or_replaced() {
        let mut temporary = relations(&["T", "u", "v"]);
        for kept in [
            "ALTER TABLE t ADD COLUMN b INT",
            "CREATE TABLE IF NOT EXISTS t (a INT)",
            "DROP TABLE shop.t",
            "DROP VIEW IF EXISTS t",
        ] {
            temporary.apply(kept, "public");
        }
        temporary.apply("DROP TABLE t", "shop");
        check_names(&temporary, &["public.T", "public.u", "public.v"]);
        temporary.apply("ALTER TABLE u RENAME TO w", "public");
        temporary.apply("DROP TABLE \"public\".\"t\"", "shop");
        check_names(&temporary, &["public.w", "public.v"]);
    }
}
