//! Formats of `to_date` and `to_timestamp` in PostgreSQL and Spark, as formats of chrono:
//! `YYYY-MM-DD` and `yyyy-MM-dd` become `%Y-%m-%d`.
//!
//! A format with `%` is chrono's already. A format with an unknown pattern remains as it is.

/// Patterns of PostgreSQL, which are case-insensitive. A longer pattern is listed before its
/// prefixes.
const POSTGRES: [(&str, &str); 21] = [
    ("FM", ""),
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("MONTH", "%B"),
    ("MON", "%b"),
    ("MM", "%m"),
    ("MI", "%M"),
    ("MS", "%3f"),
    ("DDD", "%j"),
    ("DD", "%d"),
    ("DAY", "%A"),
    ("DY", "%a"),
    ("HH24", "%H"),
    ("SS", "%S"),
    ("US", "%6f"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("TZH:TZM", "%z"),
    ("TZH", "%#z"),
    ("OF", "%#z"),
    ("T", "T"),
];

/// Patterns of Spark, which are case-sensitive.
const SPARK: [(&str, &str); 11] = [
    ("yyyy", "%Y"),
    ("yy", "%y"),
    ("MMMM", "%B"),
    ("MMM", "%b"),
    ("MM", "%m"),
    ("dd", "%d"),
    ("HH", "%H"),
    ("hh", "%I"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("a", "%p"),
];

/// Returns the chrono format of a pattern; `None` if the pattern already is a chrono format, or is
/// unknown.
pub(crate) fn chrono_format(pattern: &str) -> Option<String> {
    if pattern.contains('%') {
        return None;
    }
    if pattern.contains("yy") && pattern.contains("MM") {
        return convert(pattern, &SPARK, |text, name| text == name);
    }
    let upper = pattern.to_ascii_uppercase();
    // If the pattern has no AM or PM, `HH` is the hour from 0 to 23, not from 1 to 12.
    let has_half = upper.contains("AM") || upper.contains("PM");
    let hour = if has_half { "%I" } else { "%H" };
    let patterns = [&POSTGRES[..], &[("HH12", hour), ("HH", hour)][..]].concat();
    convert(pattern, &patterns, str::eq_ignore_ascii_case)
}

fn convert(
    pattern: &str,
    patterns: &[(&str, &str)],
    is_same: fn(&str, &str) -> bool,
) -> Option<String> {
    let mut format = String::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        let begins = |name: &str| rest.get(..name.len()).is_some_and(|text| is_same(text, name));
        if let Some((name, specifier)) = patterns.iter().find(|(name, _)| begins(name)) {
            format.push_str(specifier);
            rest = &rest[name.len()..];
            continue;
        }
        let after = &rest[letter.len_utf8()..];
        rest = match letter {
            '"' | '\'' => {
                let (text, after) = after.split_once(letter)?;
                format.push_str(text);
                after
            }
            letter if letter.is_alphanumeric() => return None,
            letter => {
                format.push(letter);
                after
            }
        };
    }
    Some(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_specifiers() {
        for (pattern, expected) in [
            ("YYYY-MM-DD", Some("%Y-%m-%d")),
            ("yyyymmdd", Some("%Y%m%d")),
            ("DD Mon YYYY", Some("%d %b %Y")),
            ("YYYY-MM-DD\"T\"HH24:MI:SS.US", Some("%Y-%m-%dT%H:%M:%S.%6f")),
            ("FMMonth DD, YYYY HH12:MI PM", Some("%B %d, %Y %I:%M %p")),
            ("HH:MI", Some("%H:%M")),
            ("yyyy-MM-dd HH:mm:ss", Some("%Y-%m-%d %H:%M:%S")),
            ("YYYY-XX", None),
            ("%Y-%m-%d", None),
        ] {
            assert_eq!(chrono_format(pattern).as_deref(), expected, "{pattern}");
        }
    }
}
