//! Parsing any text returns a statement or an error, and never panics. The tables of a query can be
//! listed without a catalog.

use std::collections::BTreeMap;

use headwater_engine::{PreparedStatement, parents};
use proptest::prelude::*;

/// Words of statements, so that some of the random texts parse.
const WORDS: [&str; 48] = [
    "SELECT",
    "*",
    "a",
    "b.c",
    "FROM",
    "t",
    "\"t@dev\"",
    "ns.t",
    "WHERE",
    "=",
    "1",
    "'x'",
    "(",
    ")",
    ",",
    "JOIN",
    "ON",
    "USING",
    "GROUP",
    "BY",
    "ALL",
    "ORDER",
    "LIMIT",
    "WITH",
    "AS",
    "RECURSIVE",
    "UNION",
    "count",
    "OVER",
    "w",
    "WINDOW",
    "PARTITION",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "EXISTS",
    "IN",
    "::int",
    "[",
    "]",
    "{",
    "}",
    "->",
    "INSERT",
    "INTO",
    "CREATE TABLE",
    "$p",
];

proptest! {
    #[test]
    fn any_words_are_parsed_or_refused(words in prop::collection::vec(0..WORDS.len(), 0..24)) {
        let sql = words.into_iter().map(|word| WORDS[word]).collect::<Vec<_>>().join(" ");
        let _ = parents(&sql);
    }

    #[test]
    fn every_parameter_that_is_found_is_bound(before in "[a-zé' ]{0,12}", after in "[ a-z\n]{0,12}") {
        let sql = format!("SELECT '{}', $p {after}", before.replace('\'', "''"));
        let values = BTreeMap::from([("p".to_owned(), serde_json::json!(7))]);
        if let Ok(prepared) = PreparedStatement::parse(&sql) {
            prop_assert_eq!(prepared.parameters().len(), 1);
            let bound = prepared.bind(&values).map_err(|error| TestCaseError::fail(error.to_string()))?.to_string();
            prop_assert!(bound.contains(", 7"), "{}", bound);
        }
    }
}

/// Checks the tables of a query, each with its line.
fn check_tables(sql: &str, expected: &[&str]) {
    let shown: Vec<String> = match parents(sql) {
        Ok(tables) => tables
            .iter()
            .map(|table| {
                let namespace = table.namespace.as_ref().map(|n| format!("{n}."));
                let reference = table.reference.as_ref().map(|r| format!("@{r}"));
                let (before, after) =
                    (namespace.unwrap_or_default(), reference.unwrap_or_default());
                format!("{before}{}{after}:{}", table.name, table.line)
            })
            .collect(),
        Err(error) => vec![error.to_string()],
    };
    assert_eq!(shown, expected, "`{sql}`");
}

#[test]
fn every_table_of_a_query_is_found_wherever_it_stands() {
    check_tables("SELECT 1", &[]);
    check_tables("SELECT * FROM a, ns.b JOIN \"c@dev\" ON true", &["a:1", "ns.b:1", "c@dev:1"]);
    check_tables(
        "SELECT (SELECT max(x) FROM a)\nFROM b\nWHERE y IN (SELECT y FROM c)\n\
         AND EXISTS (SELECT 1 FROM d) ORDER BY (SELECT 1 FROM e)",
        &["a:1", "b:2", "c:3", "d:4", "e:4"],
    );
    check_tables("SELECT * FROM a UNION ALL SELECT * FROM b", &["a:1", "b:1"]);
    check_tables("SELECT * FROM generate_series(1, 3), unnest([1, 2])", &[]);
    check_tables("FROM a", &["a:1"]);
    check_tables("FROM a AT BRANCH dev, \"b~1\", c FOR VERSION AS OF 7", &["a@dev:1"]);
}

#[test]
fn common_table_expressions_are_excluded_within_their_scope() {
    check_tables("WITH a AS (SELECT * FROM a) SELECT * FROM A", &["a:1"]);
    check_tables("WITH x AS (SELECT * FROM t), y AS (SELECT * FROM x) SELECT * FROM y", &["t:1"]);
    check_tables("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) JOIN x ON true", &["x:1"]);
    check_tables(
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3)\n\
         SELECT * FROM n, t",
        &["t:2"],
    );
}

#[test]
fn statements_other_than_queries_are_rejected_by_name() {
    check_tables("DROP TABLE a", &["DROP TABLE here is not supported"]);
    check_tables("DELETE FROM a", &["DELETE here is not supported"]);
}
