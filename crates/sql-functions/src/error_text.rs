//! Messages of DataFusion, Arrow and sqlparser in SQL terms.
//!
//! [`clean`] removes prefixes, backtraces and advice about DataFusion's settings, and formats types
//! and literals as SQL.

use headwater_sql::debug_text_detection::lower_first;

/// Nested types of Arrow and their SQL names, without element types.
const NESTED: [(&str, &str); 7] = [
    ("Struct(", "STRUCT"),
    ("LargeList(", "LIST"),
    ("FixedSizeList(", "LIST"),
    ("ListView(", "LIST"),
    ("List(", "LIST"),
    ("Map(", "MAP"),
    ("Dictionary(", "DICTIONARY"),
];

/// Formats nested types without element types: `Struct("b": Float64)` as `STRUCT`.
fn short_types(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let follows_letter = short.ends_with(|letter: char| letter.is_alphanumeric());
        let nested = NESTED.iter().find(|(arrow, _)| !follows_letter && rest.starts_with(arrow));
        let end =
            nested.and_then(|(arrow, _)| closing(&rest[arrow.len()..]).map(|at| at + arrow.len()));
        if let (Some((_, name)), Some(end)) = (nested, end) {
            short.push_str(name);
            rest = &rest[end..];
        } else {
            short.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    short
}

/// Finds the closing parenthesis that belongs to the opening parenthesis directly before `text`.
/// Returns the position after it; `None` if there is none.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, letter)| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at + 1)
    })
}

/// Returns a message on one line, without prefixes, backtraces and advice about DataFusion's
/// settings.
pub fn clean(message: &str) -> String {
    const PREFIXES: [&str; 9] = [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Internal error: ",
        "Parquet error: ",
        "External error: ",
        "Cast error: ",
        "Compute error: ",
        "Invalid argument error: ",
    ];
    const ENDINGS: [&str; 4] = [
        "\n\nbacktrace",
        "\nThis issue was likely caused by",
        "\n\tCandidate functions",
        "\nThis was likely caused by",
    ];
    let mut text = message.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    for ending in ENDINGS {
        text = text.split_once(ending).map_or(text, |(before, _)| before);
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    lower_first(sql_words(&short_types(&line.join(" "))).trim_end_matches('.'))
}

/// Formats Arrow's types and literals as SQL: `Int64(5)` as `5`, `Utf8View` as `VARCHAR`.
pub fn sql_words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        words.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let Some((_, name)) = TYPES.iter().find(|(arrow, _)| *arrow == word) else {
            words.push_str(word);
            continue;
        };
        match rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            // Format `Decimal128(10, 2)` with its arguments, but `Timestamp(ns)` without the unit.
            Some((arguments, after)) if word.starts_with("Decimal") => {
                words.push_str(&format!("{name}({arguments})"));
                rest = after;
            }
            Some((_, after))
                if matches!(word, "Timestamp" | "Interval" | "Duration" | "Time64") =>
            {
                words.push_str(name);
                rest = after;
            }
            Some((value, after)) => {
                words.push_str(&value.replace('"', "'"));
                rest = after;
            }
            None => words.push_str(name),
        }
    }
    words.push_str(rest);
    words
}

/// Arrow's type names and the SQL names of these types.
const TYPES: [(&str, &str); 27] = [
    ("Boolean", "BOOLEAN"),
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("Float16", "FLOAT"),
    ("Float32", "FLOAT"),
    ("Float64", "DOUBLE"),
    ("Utf8", "VARCHAR"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8View", "VARCHAR"),
    ("Binary", "BINARY"),
    ("LargeBinary", "BINARY"),
    ("BinaryView", "BINARY"),
    ("Date32", "DATE"),
    ("Date64", "DATE"),
    ("Time64", "TIME"),
    ("Timestamp", "TIMESTAMP"),
    ("Interval", "INTERVAL"),
    ("IntervalMonthDayNano", "INTERVAL"),
    ("Duration", "INTERVAL"),
    ("Decimal128", "DECIMAL"),
    ("Decimal256", "DECIMAL"),
];
