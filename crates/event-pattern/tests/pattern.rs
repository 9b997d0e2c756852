//! Tables of patterns, events and results.

use headwater_event_pattern::{FieldSchema, Pattern, ValueSchema};
use serde_json::{Value, json};

fn event() -> Value {
    json!({
        "source": "s3://landing", "name": "Ada", "empty": "", "none": null, "list": [],
        "yes": true, "count": 3, "price": 3.5, "big": 9_007_199_254_740_993_u64,
        "address": "10.0.0.17", "six": "2001:db8::17", "star": "a*b\\c",
        "tags": ["red", "green"], "object": {"key": "in/a.CSV", "size": 1024},
        "files": [{"path": "a.csv", "size": 1}, {"path": "b.txt", "size": 99}],
    })
}

fn check(cases: &[(Value, bool)]) {
    for (pattern, expected) in cases {
        let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(parsed.matches(&event()), *expected, "{pattern}");
    }
}

#[test]
fn exact_values_and_texts_match_as_in_eventbridge() {
    check(&[
        // Exact values, of each type.
        (json!({"name": ["Ada"]}), true),
        (json!({"name": ["ada"]}), false),
        (json!({"name": ["Bob", "Ada"]}), true),
        (json!({"name": ["Ada"], "count": [4]}), false),
        (json!({"yes": [true]}), true),
        (json!({"yes": ["true"]}), false),
        (json!({"none": [null]}), true),
        (json!({"missing": [null]}), false),
        (json!({"empty": [""]}), true),
        (json!({"count": [3]}), true),
        (json!({"count": [3.0]}), true),
        (json!({"count": ["3"]}), false),
        (json!({"big": [9_007_199_254_740_992_u64]}), false),
        // Arrays: one item must match.
        (json!({"tags": ["green"]}), true),
        (json!({"tags": ["blue"]}), false),
        (json!({"tags": [{"anything-but": "red"}]}), true),
        (json!({"tags": [{"anything-but": ["red", "green"]}]}), false),
        // Objects in arrays: the same object must fulfil all conditions.
        (json!({"files": {"path": ["a.csv"], "size": [1]}}), true),
        (json!({"files": {"path": ["a.csv"], "size": [99]}}), false),
        // Strings.
        (json!({"object": {"key": [{"prefix": "in/"}]}}), true),
        (json!({"object": {"key": [{"prefix": "out/"}]}}), false),
        (json!({"object": {"key": [{"prefix": {"equals-ignore-case": "IN/"}}]}}), true),
        (json!({"object": {"key": [{"suffix": ".csv"}]}}), false),
        (json!({"object": {"key": [{"suffix": {"equals-ignore-case": ".csv"}}]}}), true),
        (json!({"name": [{"equals-ignore-case": "aDA"}]}), true),
        (json!({"count": [{"prefix": "3"}]}), false),
        (json!({"object": {"key": [{"wildcard": "in/*.CSV"}]}}), true),
        (json!({"object": {"key": [{"wildcard": "*a*"}]}}), true),
        (json!({"object": {"key": [{"wildcard": "in/a.CSV"}]}}), true),
        (json!({"object": {"key": [{"wildcard": "in/*.CSV*V"}]}}), false),
        (json!({"star": [{"wildcard": "a\\*b\\\\c"}]}), true),
        (json!({"name": [{"wildcard": "A\\*a"}]}), false),
    ]);
}

#[test]
fn other_conditions_match_as_in_eventbridge() {
    check(&[
        // Anything but.
        (json!({"name": [{"anything-but": "Bob"}]}), true),
        (json!({"name": [{"anything-but": ["Bob", "Ada"]}]}), false),
        (json!({"count": [{"anything-but": [1, 2]}]}), true),
        (json!({"count": [{"anything-but": 3}]}), false),
        (json!({"missing": [{"anything-but": "x"}]}), false),
        (json!({"name": [{"anything-but": {"prefix": "A"}}]}), false),
        (json!({"name": [{"anything-but": {"prefix": ["B", "C"]}}]}), true),
        (json!({"name": [{"anything-but": {"suffix": "a"}}]}), false),
        (json!({"name": [{"anything-but": {"equals-ignore-case": ["ADA"]}}]}), false),
        (json!({"name": [{"anything-but": {"wildcard": "A*"}}]}), false),
        // Numbers.
        (json!({"count": [{"numeric": ["=", 3]}]}), true),
        (json!({"price": [{"numeric": [">", 3, "<=", 3.5]}]}), true),
        (json!({"price": [{"numeric": [">=", 0, "<", 3.5]}]}), false),
        (json!({"name": [{"numeric": [">", 0]}]}), false),
        // Existence.
        (json!({"name": [{"exists": true}]}), true),
        (json!({"none": [{"exists": true}]}), true),
        (json!({"missing": [{"exists": false}]}), true),
        (json!({"name": [{"exists": false}]}), false),
        (json!({"list": [{"exists": true}]}), false),
        (json!({"missing": {"field": [{"exists": false}]}}), true),
        (json!({"name": [{"exists": false}, {"prefix": "A"}]}), true),
        // Addresses.
        (json!({"address": [{"cidr": "10.0.0.0/24"}]}), true),
        (json!({"address": [{"cidr": "10.0.1.0/24"}]}), false),
        (json!({"address": [{"cidr": "0.0.0.0/0"}]}), true),
        (json!({"six": [{"cidr": "2001:db8::/32"}]}), true),
        (json!({"six": [{"cidr": "::/0"}]}), true),
        (json!({"six": [{"cidr": "0.0.0.0/0"}]}), false),
        (json!({"name": [{"cidr": "0.0.0.0/0"}]}), false),
        // Alternatives.
        (json!({"$or": [{"name": ["Bob"]}, {"count": [3]}]}), true),
        (json!({"$or": [{"name": ["Bob"]}, {"count": [4]}]}), false),
        (json!({"yes": [false], "$or": [{"name": ["Ada"]}, {"count": [3]}]}), false),
        (json!({"object": {"$or": [{"size": [1]}, {"key": [{"prefix": "in"}]}]}}), true),
        (json!({"$or": [{"name": ["Bob"]}, {"$or": [{"count": [1]}, {"count": [3]}]}]}), true),
    ]);
}

#[test]
fn malformed_patterns_are_errors() {
    let deep = (0..20).fold(json!(["x"]), |inner, _| json!({"a": inner}));
    let many: Vec<Value> = (0..1_001).map(Value::from).collect();
    let cases = [
        (json!(null), "is not an object"),
        (json!([]), "is not an object"),
        (json!({}), "without fields"),
        (json!({"a": {}}), "`a` is a pattern without fields"),
        (json!({"a": "x"}), "`a` is neither array nor object"),
        (json!({"a": []}), "has no values"),
        (json!({"a": [["x"]]}), "array inside an array"),
        (json!({"a": {"b": [{}]}}), "`a.b` has a condition with 0 operators, instead of one"),
        (json!({"a": [{"prefix": "x", "suffix": "y"}]}), "with 2 operators"),
        (json!({"a": [{"contains": "x"}]}), "unknown operator `contains`"),
        (json!({"a": [{"prefix": 1}]}), "not a string"),
        (json!({"a": [{"prefix": {"suffix": "x"}}]}), "not a string"),
        (json!({"a": [{"suffix": "x".repeat(5_000)}]}), "longer than 4096"),
        (json!({"a": ["x".repeat(5_000)]}), "longer than 4096"),
        (json!({"a": [{"wildcard": "a**b"}]}), "two consecutive `*`"),
        (json!({"a": [{"wildcard": "a\\"}]}), "precedes neither"),
        (json!({"a": [{"wildcard": "a\\b"}]}), "precedes neither"),
        (json!({"a": [{"exists": "yes"}]}), "not a boolean"),
        (json!({"a": [{"cidr": "10.0.0.0"}]}), "not a range"),
        (json!({"a": [{"cidr": "10.0.0.0/33"}]}), "not a range"),
        (json!({"a": [{"cidr": "10.0.0.0/+8"}]}), "not a range"),
        (json!({"a": [{"numeric": []}]}), "needs comparisons"),
        (json!({"a": [{"numeric": [">"]}]}), "needs comparisons"),
        (json!({"a": [{"numeric": ["~", 1]}]}), "needs comparisons"),
        (json!({"a": [{"numeric": [">", "1"]}]}), "needs comparisons"),
        (json!({"a": [{"numeric": [">", 1, ">", 2]}]}), "needs comparisons"),
        (json!({"a": [{"numeric": ["=", 1, "<", 2]}]}), "needs comparisons"),
        (json!({"a": [{"numeric": [">", 5, "<", 3]}]}), "an empty range"),
        (json!({"a": [{"numeric": [">", 3, "<=", 3]}]}), "an empty range"),
        (json!({"a": [{"anything-but": []}]}), "needs 1 to 1000"),
        (json!({"a": [{"anything-but": ["x", 1]}]}), "both strings and numbers"),
        (json!({"a": [{"anything-but": [null]}]}), "neither a string nor a number"),
        (json!({"a": [{"anything-but": {"numeric": [">", 1]}}]}), "operator"),
        (json!({"a": [{"anything-but": {"prefix": 1}}]}), "not a string"),
        (json!({"$or": {"a": ["x"]}}), "`$or` needs at least two patterns"),
        (json!({"$or": [{"a": ["x"]}]}), "`$or` needs at least two patterns"),
        (json!({"$or": [{"a": ["x"]}, {}]}), "without fields"),
        (deep, "nested more than 16"),
        (json!({"a": many}), "limit of 1000"),
    ];
    for (pattern, expected) in cases {
        let error = Pattern::parse(&pattern).expect_err(expected);
        assert!(error.to_string().contains(expected), "{pattern}: {error}");
        assert!(!error.hint.is_empty());
    }
}

#[test]
fn patterns_that_no_event_matches_are_errors() {
    let shape = ValueSchema::Object(vec![
        FieldSchema::new("type", ValueSchema::OneOf(vec!["created".into(), "removed".into()])),
        FieldSchema::optional("subject", ValueSchema::Text),
        FieldSchema::new(
            "data",
            ValueSchema::Object(vec![FieldSchema::new("size", ValueSchema::Count)]),
        ),
    ]);
    let cases = [
        (json!({"type": ["created"]}), None),
        (json!({"type": [{"anything-but": "created"}]}), None),
        (json!({"subject": [{"exists": false}, {"suffix": ".csv"}]}), None),
        (json!({"data": {"size": [0, {"numeric": [">", 10]}]}}), None),
        (json!({"data": {"size": [{"numeric": ["<=", 0]}]}}), None),
        (json!({"type": ["created", "changed"]}), Some("`type` is never `changed`")),
        (json!({"type": [{"prefix": "x"}]}), Some("no event meets")),
        (json!({"type": [{"anything-but": ["created", "removed"]}]}), Some("no event meets")),
        (json!({"type": [{"exists": false}]}), Some("`type` always exists")),
        (json!({"subjekt": ["x"]}), Some("`subjekt` is not a field")),
        (json!({"subject": {"key": ["x"]}}), Some("`subject` has no fields")),
        (json!({"subject": [1]}), Some("is never `1`")),
        (json!({"subject": [{"numeric": [">", 1]}]}), Some("no event meets")),
        (json!({"subject": [{"anything-but": {"prefix": ""}}]}), Some("no event meets")),
        (json!({"data": [{"exists": true}]}), Some("`data` is an object")),
        (json!({"data": {"size": [-1]}}), Some("is never `-1`")),
        (json!({"data": {"size": ["10"]}}), Some("is never `10`")),
        (json!({"data": {"size": [{"prefix": "1"}]}}), Some("no event meets")),
        (json!({"data": {"size": [{"numeric": ["<", 0]}]}}), Some("no event meets")),
        (json!({"$or": [{"type": ["created"]}, {"a": ["x"]}]}), Some("`a` is not a field")),
    ];
    for (pattern, expected) in cases {
        let parsed = Pattern::parse(&pattern).expect("a pattern");
        match (parsed.check(&shape), expected) {
            (Ok(()), None) => {}
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{pattern}: {error}");
                assert!(!error.hint.is_empty());
            }
            (found, expected) => panic!("{pattern}: {found:?} instead of {expected:?}"),
        }
    }
}
