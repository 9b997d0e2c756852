//! Completion of keywords, tables, columns and backslash commands.

use std::sync::{Arc, PoisonError, RwLock};

use headwater_model::Table;

use crate::backslash_command;

/// The names for completion: those that exist at a ref. The shell refreshes them.
#[derive(Debug, Clone, Default)]
pub struct CompletionNames {
    /// Tables and views, with the columns of tables.
    pub relations: Vec<Relation>,
    /// Branches and tags.
    pub refs: Vec<String>,
}

/// A table or view.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Name of the relation, qualified unless the namespace is the default namespace.
    pub name: String,
    /// The names of its columns; empty for a view.
    pub columns: Vec<String>,
}

impl From<Table> for Relation {
    fn from(table: Table) -> Self {
        let columns = table.columns.into_iter().map(|column| column.name).collect();
        Relation { name: table.name.to_string(), columns }
    }
}

/// Names for completion, shared by the editor, which reads them, and the shell, which refreshes
/// them.
#[derive(Debug, Clone, Default)]
pub struct SharedNames(Arc<RwLock<CompletionNames>>);

impl SharedNames {
    /// Replaces the names for completion.
    pub fn set(&self, names: CompletionNames) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Completes the word before the cursor. Returns the start of the word, and the possible
    /// completions.
    pub fn complete(&self, text: &str, position: usize) -> (usize, Vec<String>) {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        complete(&names, &text[..position])
    }
}

fn complete(names: &CompletionNames, before: &str) -> (usize, Vec<String>) {
    if let Some((command, argument)) = backslash_argument(before) {
        let candidates: Vec<String> = match command {
            "\\c" => names.refs.clone(),
            "\\d" => names.relations.iter().map(|relation| relation.name.clone()).collect(),
            "\\o" => ["table", "json", "csv", "ndjson"].map(str::to_owned).to_vec(),
            _ => Vec::new(),
        };
        return (before.len() - argument.len(), matching(candidates.into_iter(), argument));
    }
    if before.trim_start().starts_with('\\') {
        let word = before.trim_start();
        let candidates = backslash_command::NAMES.iter().map(|name| (*name).to_owned());
        return (before.len() - word.len(), matching(candidates, word));
    }
    let word = last_word(before);
    let start = before.len() - word.len();
    if let Some((qualifier, column)) = word.rsplit_once('.') {
        let columns = columns_of(names, before, qualifier);
        if !columns.is_empty() {
            return (before.len() - column.len(), matching(columns.into_iter(), column));
        }
    }
    if word.is_empty() {
        return (start, Vec::new());
    }
    let relations = names.relations.iter().map(|relation| quoted(&relation.name));
    let columns = names.relations.iter().flat_map(|relation| &relation.columns);
    let columns = columns.map(|column| quoted(column));
    let lower = word.chars().any(char::is_lowercase);
    let keywords =
        KEYWORDS.iter().map(|word| if lower { word.to_lowercase() } else { (*word).to_owned() });
    (start, matching(relations.chain(columns).chain(keywords), word))
}

/// Returns the name and the argument of a backslash command; `None` for other lines.
fn backslash_argument(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let (command, argument) = line.split_once(' ')?;
    command.starts_with('\\').then(|| (command, argument.trim_start()))
}

/// Returns the sorted candidates that begin with the word, ignoring case.
fn matching(candidates: impl Iterator<Item = String>, word: &str) -> Vec<String> {
    let word = word.to_lowercase();
    let begins = |name: &String| {
        name.trim_start_matches('"').to_lowercase().starts_with(word.trim_start_matches('"'))
    };
    let mut found: Vec<String> = candidates.filter(begins).collect();
    found.sort();
    found.dedup();
    found
}

fn last_word(text: &str) -> &str {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"');
    let start = text.char_indices().rev().take_while(|(_, c)| in_word(*c)).last();
    start.map_or("", |(at, _)| &text[at..])
}

/// Returns the columns of the table to which a qualifier refers, by the table's name or by its
/// alias in the text.
fn columns_of(names: &CompletionNames, text: &str, qualifier: &str) -> Vec<String> {
    let find = |name: &str| {
        names.relations.iter().find(|relation| relation.name.eq_ignore_ascii_case(name))
    };
    let relation = find(qualifier).or_else(|| {
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')')).collect();
        let words: Vec<&str> = words
            .into_iter()
            .filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("as"))
            .collect();
        let alias = |pair: &&[&str]| pair[1].eq_ignore_ascii_case(qualifier);
        words.windows(2).filter(alias).find_map(|pair| find(pair[0]))
    });
    relation.map_or_else(Vec::new, |relation| {
        relation.columns.iter().map(|column| quoted(column)).collect()
    })
}

/// Quotes a name for SQL if it needs quotes.
fn quoted(name: &str) -> String {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let parts = name.split('.').map(|part| {
        if plain(part) { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Keywords for completion.
const KEYWORDS: [&str; 76] = [
    "ALL",
    "ALTER",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BETWEEN",
    "BRANCH",
    "BY",
    "CASE",
    "CAST",
    "COLUMN",
    "COMMENT",
    "CREATE",
    "CROSS",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXCLUDE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FIRST",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MERGE",
    "NAMESPACE",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "QUALIFY",
    "REPLACE",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "SUMMARIZE",
    "TABLE",
    "THEN",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> CompletionNames {
        let relation = |name: &str, columns: &[&str]| Relation {
            name: name.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
        };
        CompletionNames {
            relations: vec![
                relation("flights", &["carrier", "delay", "Tail Number"]),
                relation("sales.orders", &["id"]),
            ],
            refs: vec!["main".into(), "maintenance".into(), "dev".into()],
        }
    }

    fn check(before: &str, start: usize, expected: &[&str]) {
        let (at, found) = complete(&names(), before);
        assert_eq!(
            (at, found),
            (start, expected.iter().map(|&e| e.to_owned()).collect()),
            "{before}"
        );
    }

    #[test]
    fn names_and_keywords_are_completed() {
        check("SELECT * FROM fli", 14, &["flights"]);
        check("SELECT * FROM FLI", 14, &["flights"]);
        check("sel", 0, &["select"]);
        check("SELECT delay f", 13, &["false", "filter", "first", "flights", "from", "full"]);
        check("SELECT sales.or", 7, &["sales.orders"]);
        check("SELECT tail", 7, &["\"Tail Number\""]);
        check("SELECT * FROM ", 14, &[]);
    }

    #[test]
    fn columns_are_completed_after_a_table_or_alias() {
        check("SELECT flights.d", 15, &["delay"]);
        check("SELECT 1 FROM flights AS f WHERE f.ca", 35, &["carrier"]);
        check("SELECT 1 FROM sales.orders o, flights WHERE o.", 46, &["id"]);
    }

    #[test]
    fn backslash_commands_and_their_arguments_are_completed() {
        check("\\d", 0, &["\\d", "\\dn", "\\dt", "\\dv"]);
        check("\\c ma", 3, &["main", "maintenance"]);
        check("\\d fl", 3, &["flights"]);
        check("\\o n", 3, &["ndjson"]);
    }
}
