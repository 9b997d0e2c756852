//! Parses the text form of arrays in PostgreSQL: `{1,NULL,"a b"}`, and `{{1,2},{3}}` for nested
//! arrays.
//!
//! Also parses the text form of lists in DuckDB: `[1, NULL, 'a b']`, which is also the form of a
//! list that is cast to text.

use std::iter::Peekable;
use std::str::Chars;

/// Maximum nesting of arrays. It bounds the recursion of the parser.
const DEPTH_MAX: usize = 32;

/// The special characters of one of the text forms of arrays.
#[derive(Clone, Copy)]
struct ArraySyntax {
    open: char,
    close: char,
    /// Characters that can quote an element.
    quotes: &'static str,
    /// Characters that end an element without quotes.
    reserved: &'static str,
}

const BRACES: ArraySyntax = ArraySyntax { open: '{', close: '}', quotes: "\"", reserved: ",{}\"" };
const BRACKETS: ArraySyntax =
    ArraySyntax { open: '[', close: ']', quotes: "\"'", reserved: ",[]{}" };

/// An element of an array, before it is cast to its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ArrayItem {
    /// Null.
    Null,
    /// Text of the element, without quotes and escapes.
    Text(String),
    /// A nested array.
    Array(Vec<ArrayItem>),
    /// The text of a JSON value other than null, from a JSON array or object.
    Json(String),
}

/// Parses an array in PostgreSQL's form; `None` if it is malformed. Bounds before the array, as in
/// `[0:1]={1,2}`, are ignored.
pub(crate) fn parse(text: &str) -> Option<Vec<ArrayItem>> {
    parse_whole(without_bounds(text.trim()), BRACES)
}

/// Parses a list in DuckDB's form; `None` if it is malformed.
pub(crate) fn parse_list(text: &str) -> Option<Vec<ArrayItem>> {
    parse_whole(text.trim(), BRACKETS)
}

fn parse_whole(text: &str, syntax: ArraySyntax) -> Option<Vec<ArrayItem>> {
    let mut letters = text.chars().peekable();
    let items = array(&mut letters, syntax, DEPTH_MAX)?;
    letters.next().is_none().then_some(items)
}

fn without_bounds(text: &str) -> &str {
    let is_bounds = |bounds: &str| {
        bounds.starts_with('[')
            && bounds.trim_end().ends_with(']')
            && bounds.chars().all(|it| it.is_ascii_digit() || "[]:+- ".contains(it))
    };
    match text.split_once('=') {
        Some((bounds, rest)) if is_bounds(bounds) => rest.trim_start(),
        _ => text,
    }
}

fn array(
    letters: &mut Peekable<Chars<'_>>,
    syntax: ArraySyntax,
    depth: usize,
) -> Option<Vec<ArrayItem>> {
    letters.next_if_eq(&syntax.open)?;
    let depth = depth.checked_sub(1)?;
    let mut items = Vec::new();
    skip_spaces(letters);
    if letters.next_if_eq(&syntax.close).is_some() {
        return Some(items);
    }
    loop {
        skip_spaces(letters);
        items.push(match letters.peek().copied()? {
            first if first == syntax.open => ArrayItem::Array(array(letters, syntax, depth)?),
            first if syntax.quotes.contains(first) => ArrayItem::Text(quoted(letters)?),
            _ => unquoted(letters, syntax)?,
        });
        skip_spaces(letters);
        match letters.next()? {
            ',' => {}
            end if end == syntax.close => return Some(items),
            _ => return None,
        }
    }
}

/// Skips spaces. As in PostgreSQL, other white space of Unicode is part of an element.
fn skip_spaces(letters: &mut Peekable<Chars<'_>>) {
    while letters.next_if(char::is_ascii_whitespace).is_some() {}
}

fn quoted(letters: &mut Peekable<Chars<'_>>) -> Option<String> {
    let quote = letters.next()?;
    let mut text = String::new();
    loop {
        match letters.next()? {
            end if end == quote => return Some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

/// Reads an element without quotes: null, or a text, without the spaces at its end.
fn unquoted(letters: &mut Peekable<Chars<'_>>, syntax: ArraySyntax) -> Option<ArrayItem> {
    let (mut text, mut end, mut has_escape) = (String::new(), 0, false);
    while let Some(letter) = letters.next_if(|letter| !syntax.reserved.contains(*letter)) {
        if letter == '\\' {
            text.push(letters.next()?);
            has_escape = true;
        } else {
            text.push(letter);
        }
        if letter == '\\' || !letter.is_ascii_whitespace() {
            end = text.len();
        }
    }
    text.truncate(end);
    match text.as_str() {
        "" => None,
        null if !has_escape && null.eq_ignore_ascii_case("null") => Some(ArrayItem::Null),
        _ => Some(ArrayItem::Text(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> ArrayItem {
        ArrayItem::Text(text.to_owned())
    }

    fn check(written: &str, expected: Option<Vec<ArrayItem>>) {
        assert_eq!(parse(written), expected, "`{written}`");
    }

    #[test]
    fn elements_have_quotes_escapes_and_null() {
        check("{}", Some(vec![]));
        check(" { } ", Some(vec![]));
        check("{a,b}", Some(vec![text("a"), text("b")]));
        check("{ a b , NULL,null }", Some(vec![text("a b"), ArrayItem::Null, ArrayItem::Null]));
        check(r#"{"", "NULL"," a"}"#, Some(vec![text(""), text("NULL"), text(" a")]));
        check(
            r#"{"a, \"b\"",c\,d,\NULL}"#,
            Some(vec![text("a, \"b\""), text("c,d"), text("NULL")]),
        );
        check("{\u{a0}a\u{a0}}", Some(vec![text("\u{a0}a\u{a0}")]));
        check("[0:1]={1,2}", Some(vec![text("1"), text("2")]));
    }

    #[test]
    fn arrays_are_nested() {
        let inner = ArrayItem::Array(vec![text("1"), ArrayItem::Null]);
        check("{{1,NULL},{}}", Some(vec![inner, ArrayItem::Array(vec![])]));
        let deep = "{".repeat(100_000);
        check(&deep, None);
    }

    #[test]
    fn lists_in_brackets_have_the_same_elements() {
        let check = |written: &str, expected: Option<Vec<ArrayItem>>| {
            assert_eq!(parse_list(written), expected, "`{written}`");
        };
        check("[]", Some(vec![]));
        check("[a, b c ,NULL]", Some(vec![text("a"), text("b c"), ArrayItem::Null]));
        check("['a, b', \"it's\", it's]", Some(vec![text("a, b"), text("it's"), text("it's")]));
        check("[[1], []]", Some(vec![ArrayItem::Array(vec![text("1")]), ArrayItem::Array(vec![])]));
        for written in ["", "a", "[", "[a", "[a,]", "[,a]", "[a]b", "['a", "[a[b]]", "[{'a': 1}]"] {
            check(written, None);
        }
        let deep = "[".repeat(100_000);
        check(deep.as_str(), None);
    }

    #[test]
    fn malformed_texts_are_rejected() {
        for written in [
            "", "a", "a,b", "{", "{a", "{a,}", "{,a}", "{a}b", "{\"a", "{\"a\"b}", "{a{b}}", "{a\\",
        ] {
            check(written, None);
        }
    }
}
