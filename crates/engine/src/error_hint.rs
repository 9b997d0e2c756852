//! Hints for errors of DataFusion, and clearer words for some of them.

/// Errors by a part of their message: the message in our words, if DataFusion's is not clear, and
/// the hint.
const ERRORS: &[(&str, Option<&str>, &str)] = &[
    (
        "ggregate functions are not allowed in the WHERE clause",
        Some("aggregate functions are not allowed in WHERE"),
        "Write the condition in HAVING.",
    ),
    (
        "queries have different number of columns",
        None,
        "Select the same number of columns in both queries.",
    ),
    (
        "he subquery should only return one column",
        Some("the subquery returns several columns, but one is compared"),
        "Select one column, or compare several: `(a, b) IN (SELECT a, b FROM t)`.",
    ),
    (
        "HAVING clause references",
        Some("HAVING uses a column that is neither in GROUP BY nor in an aggregate function"),
        "Write the condition in WHERE, or aggregate the column.",
    ),
    (
        "scalar subquery returned more than one row",
        None,
        "Aggregate the rows of the subquery, as in `max(x)`, or add LIMIT 1.",
    ),
    ("division by zero", None, "Write `nullif(x, 0)` for the divisor to get NULL."),
    ("to coerce", None, "Cast one of the values, as in `CAST(x AS VARCHAR)`."),
    ("date part '", None, "Use year, quarter, month, week, day, hour, minute or second."),
    (
        "cannot access field at argument 1: type LIST",
        Some("a list has no fields"),
        "Write `list[1]` for an element, or `unnest(list)` for one row per element.",
    ),
    ("cannot cast string '", None, "Correct the value, or use TRY_CAST, which gives NULL."),
    (
        "aggregate function calls cannot be nested",
        None,
        "Compute the inner aggregate in a subquery.",
    ),
];

/// Returns the hint for an error; `None` if its message says enough.
pub(crate) fn hint(message: &str) -> Option<String> {
    let found = ERRORS.iter().find(|(part, ..)| message.contains(part));
    found.map(|(.., hint)| (*hint).to_owned())
}

/// Returns the message in clearer words.
pub(crate) fn reworded(message: String) -> String {
    let found = ERRORS.iter().find(|(part, ..)| message.contains(part));
    match found {
        Some((_, Some(words), _)) => (*words).to_owned(),
        _ => message,
    }
}
