//! Whatever text comes in, parsing answers or refuses; it never panics.

use std::collections::BTreeMap;

use headwater_engine::{parents, placeholders, substitute};
use proptest::prelude::*;

/// Words that make up statements, so that some of them parse.
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
    fn text_without_parameters_stays_as_it_is(sql in "[^$]{0,60}") {
        if let Ok(text) = substitute(&sql, &BTreeMap::new()) {
            prop_assert_eq!(text, sql);
        }
    }

    #[test]
    fn every_parameter_that_is_found_is_replaced(before in "[a-zé'\n ]{0,12}", after in "[ a-z\n]{0,12}") {
        let sql = format!("{before} $p {after}");
        if let Ok(found) = placeholders(&sql) {
            let values = BTreeMap::from([("p".to_owned(), serde_json::json!(7))]);
            let text = substitute(&sql, &values).map_err(|error| error.to_string());
            let expected = if found.is_empty() { sql } else { format!("{before} (7) {after}") };
            prop_assert_eq!(text, Ok(expected));
        }
    }
}
