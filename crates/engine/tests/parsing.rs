//! Parsing any text returns a statement or an error, and never panics.

use std::collections::BTreeMap;

use headwater_engine::{Prepared, parents};
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
        if let Ok(prepared) = Prepared::parse(&sql) {
            prop_assert_eq!(prepared.parameters().len(), 1);
            let bound = prepared.bind(&values).map_err(|error| TestCaseError::fail(error.to_string()))?.to_string();
            prop_assert!(bound.contains(", 7"), "{}", bound);
        }
    }
}
