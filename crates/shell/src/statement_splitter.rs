//! Splits text into statements at semicolons outside quotes and comments.
//!
//! The server splits scripts by the tokens of its dialect. The shell needs its own function: its
//! text can be incomplete, and text that is not SQL must reach the server, which reports the error.
//! A test checks that the shell and the server split complete SQL in the same way.

/// Text split into statements.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statements<'t> {
    /// The statements that end with a semicolon, without the semicolon.
    pub complete: Vec<&'t str>,
    /// The text after the last statement that ends with a semicolon; empty if it is only whitespace
    /// and comments.
    pub rest: &'t str,
}

/// Splits text into statements. Empty statements are left out.
pub fn statements(text: &str) -> Statements<'_> {
    let mut found = Statements::default();
    let (mut start, mut at, mut is_empty) = (0, 0, true);
    while let Some(character) = text[at..].chars().next() {
        let after = &text[at..];
        let length = match character {
            ';' => {
                if !is_empty {
                    found.complete.push(text[start..at].trim());
                }
                (start, is_empty) = (at + 1, true);
                1
            }
            _ if after.starts_with("--") => after.find('\n').unwrap_or(after.len()),
            _ if after.starts_with("/*") => comment_length(after),
            _ if character.is_whitespace() => character.len_utf8(),
            _ => {
                is_empty = false;
                quoted_length(after).unwrap_or(character.len_utf8())
            }
        };
        at += length;
    }
    if !is_empty {
        found.rest = text[start..].trim();
    }
    found
}

/// Returns the length in bytes of the block comment at the start of the text. Comments can be
/// nested.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let after = &text[at..];
        if after.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if after.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += after.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Returns the length in bytes of the quoted text at the start; `None` if the text does not begin
/// with a quote. Text without a closing quote extends to the end.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = match text.as_bytes().first()? {
        b'\'' => "'",
        b'"' => "\"",
        b'`' => "`",
        b'$' => dollar_quote(text)?,
        _ => return None,
    };
    let inner = &text[quote.len()..];
    Some(inner.find(quote).map_or(text.len(), |at| quote.len() + at + quote.len()))
}

/// Returns the dollar quote at the start: `$$` or `$tag$`. `$1` and `$name` are parameters.
fn dollar_quote(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, complete: &[&str], rest: &str) {
        let expected = Statements { complete: complete.to_vec(), rest };
        assert_eq!(statements(text), expected, "{text}");
    }

    #[test]
    fn semicolons_end_statements() {
        check("", &[], "");
        check("SELECT 1", &[], "SELECT 1");
        check("SELECT 1; ; SELECT\n2 ;\n", &["SELECT 1", "SELECT\n2"], "");
        check("SELECT 1; SELECT", &["SELECT 1"], "SELECT");
        check("SELECT 'ä'; x", &["SELECT 'ä'"], "x");
    }

    #[test]
    fn the_shell_and_the_server_split_statements_equally() {
        for text in [
            "SELECT 1; ; SELECT\n2 ;\n",
            "SELECT 'it''s;', \"a;\"\"b\", `;`; SELECT 2",
            "SELECT $$;$$, $a$;$$;$a$, $1; SELECT $name",
            "-- a; b\nSELECT 1; SELECT 2 /* ; /* ; */ ; */ + 1; SELECT 3 -- ;",
        ] {
            let found = statements(text);
            let rest = Some(found.rest).filter(|rest| !rest.is_empty());
            let here: Vec<&str> = found.complete.into_iter().chain(rest).collect();
            let there = headwater_sql::split_script(text).expect("tokens");
            assert_eq!(here.len(), there.len(), "{text}: {here:?}, {there:?}");
            for (here, there) in here.iter().zip(there) {
                assert!(here.contains(there), "{here:?}, {there:?}");
            }
        }
    }

    #[test]
    fn quotes_and_comments_can_contain_semicolons() {
        check("SELECT ';', 'it''s;', \";\", `;`;", &["SELECT ';', 'it''s;', \";\", `;`"], "");
        check("SELECT $$;$$, $a$;$$;$a$; x", &["SELECT $$;$$, $a$;$$;$a$"], "x");
        check("SELECT $1, $name; x$", &["SELECT $1, $name"], "x$");
        check("-- a; b\nSELECT 1; -- c;", &["-- a; b\nSELECT 1"], "");
        check("/* ; /* ; */ ; */ SELECT 1;", &["/* ; /* ; */ ; */ SELECT 1"], "");
        check("SELECT ';", &[], "SELECT ';");
        check("/* ; ", &[], "");
    }
}
