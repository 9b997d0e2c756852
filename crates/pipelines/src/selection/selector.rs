//! Parses selectors: dbt's syntax for sets of steps. Does no I/O; the parent module resolves names.

use headwater_model::{ErrorCode, Problem};

use headwater_project::suggest;

/// A selection method with its graph operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector {
    /// Text as written, for errors.
    pub text: String,
    pub method: Method,
    /// Depth of ancestors to add.
    pub parents: Depth,
    /// Depth of descendants to add.
    pub children: Depth,
    /// True for `@`: adds the descendants, and all ancestors of the descendants.
    pub closure: bool,
}

/// Number of generations to add to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    None,
    Levels(usize),
    All,
}

impl Depth {
    /// Returns the maximum number of generations.
    pub fn levels(self) -> usize {
        match self {
            Depth::None => 0,
            Depth::Levels(levels) => levels,
            Depth::All => usize::MAX,
        }
    }
}

/// A condition that selects steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Method {
    /// A step name or a glob of names.
    Name(String),
    Tag(String),
    /// A file, a folder, or a glob of paths.
    Path(String),
    /// `sql`, `python`, `expectation` or `model`.
    Kind(String),
    /// Table of the lake; selects the steps that read it.
    Source(String),
    State(State),
}

/// The state of a model, compared with the last build on the target branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Never built, or its code changed.
    Modified,
    /// Never built.
    New,
}

const METHODS: [&str; 7] = ["name", "tag", "path", "kind", "type", "source", "state"];
const KINDS: [&str; 4] = ["sql", "python", "expectation", "model"];
const STATES: [&str; 2] = ["modified", "new"];

/// Parses a list of selectors. The result is a union of intersections.
pub(super) fn parse(items: &[String]) -> Result<Vec<Vec<Selector>>, Problem> {
    let union = items.iter().flat_map(|item| item.split_whitespace());
    union.map(|item| item.split(',').map(parse_one).collect()).collect()
}

fn parse_one(text: &str) -> Result<Selector, Problem> {
    let (closure, rest) = match text.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (parents, rest) = leading(rest);
    let (rest, children) = trailing(rest);
    if rest.is_empty() {
        return Err(invalid(text, "has no name", "Write a name, as in `+orders`."));
    }
    if closure && (parents != Depth::None || children != Depth::None) {
        let hint = "Write `@NAME`, which includes all parents and children, or `+NAME+`.";
        return Err(invalid(text, "combines `@` with `+`", hint));
    }
    let method = method(text, rest)?;
    if matches!(method, Method::Source(_)) && (children.levels() == 0 || parents != Depth::None) {
        let hint = format!("Write `{rest}+` for the models that read it.");
        return Err(invalid(
            text,
            "selects a table of the lake, which is not part of the project",
            hint,
        ));
    }
    Ok(Selector { text: text.to_owned(), method, parents, children, closure })
}

/// Splits a leading `+` or `2+` off the text.
fn leading(text: &str) -> (Depth, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text[digits..].strip_prefix('+') {
        Some(rest) => (depth(&text[..digits]), rest),
        None => (Depth::None, text),
    }
}

/// Splits a trailing `+` or `+2` off the text.
fn trailing(text: &str) -> (&str, Depth) {
    let digits = text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (rest, number) = text.split_at(text.len() - digits);
    match rest.strip_suffix('+') {
        Some(rest) => (rest, depth(number)),
        None => (text, Depth::None),
    }
}

/// A number that is too large to parse means no limit.
fn depth(number: &str) -> Depth {
    if number.is_empty() {
        return Depth::All;
    }
    number.parse().map_or(Depth::All, Depth::Levels)
}

fn method(text: &str, rest: &str) -> Result<Method, Problem> {
    let Some((method, value)) = rest.split_once(':') else {
        let is_file = [".sql", ".py"].iter().any(|ending| rest.ends_with(ending));
        let is_path = is_file || rest.contains('/');
        let make = if is_path { Method::Path } else { Method::Name };
        return Ok(make(rest.to_owned()));
    };
    if value.is_empty() {
        let hint = format!("Write a value after `{method}:`.");
        return Err(invalid(text, "has no value", hint));
    }
    let one_of = |what: &str, values: &[&str]| {
        if values.contains(&value) {
            return Ok(());
        }
        let hint = suggest::hint(value, values.iter().copied(), what);
        Err(invalid(text, &format!("has the unknown value `{value}`"), hint))
    };
    Ok(match method {
        "name" => Method::Name(value.to_owned()),
        "tag" => Method::Tag(value.to_owned()),
        "path" => Method::Path(value.to_owned()),
        "source" => Method::Source(value.to_owned()),
        "kind" | "type" => {
            one_of("kinds", &KINDS)?;
            Method::Kind(value.to_owned())
        }
        "state" => {
            one_of("states", &STATES)?;
            Method::State(if value == "new" { State::New } else { State::Modified })
        }
        other => {
            let hint = suggest::hint(other, METHODS, "methods");
            return Err(invalid(text, &format!("has the unknown method `{other}:`"), hint));
        }
    })
}

/// Creates the error for an invalid selector.
pub(super) fn invalid(text: &str, what: &str, hint: impl Into<String>) -> Problem {
    let message = format!("the selector `{text}` {what}");
    Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse_one(text) {
            Err(problem) => problem.message,
            Ok(one) => {
                let closure = if one.closure { "@" } else { "" };
                format!("{closure}{:?} {:?} {:?}", one.parents, one.method, one.children)
            }
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn selectors_have_the_syntax_of_dbt() {
        check("orders", r#"None Name("orders") None"#);
        check("+orders+", r#"All Name("orders") All"#);
        check("2+orders+13", r#"Levels(2) Name("orders") Levels(13)"#);
        check("@orders", r#"@None Name("orders") None"#);
        check("orders2", r#"None Name("orders2") None"#);
        check("1+2", r#"Levels(1) Name("2") None"#);
        check("99999999999999999999+a", r#"All Name("a") None"#);
        check("tag:daily", r#"None Tag("daily") None"#);
        check("type:sql", r#"None Kind("sql") None"#);
        check("state:modified+", "None State(Modified) All");
        check("models/a.sql", r#"None Path("models/a.sql") None"#);
        check("a.sql+", r#"None Path("a.sql") All"#);
        check("path:models", r#"None Path("models") None"#);
        check("source:orders+", r#"None Source("orders") All"#);
    }

    #[test]
    fn wrong_selectors_are_named() {
        check("", "the selector `` has no name");
        check("+", "the selector `+` has no name");
        check("@+a", "the selector `@+a` combines `@` with `+`");
        check("@a+", "the selector `@a+` combines `@` with `+`");
        check("tag:", "the selector `tag:` has no value");
        check("tga:x", "the selector `tga:x` has the unknown method `tga:`");
        check("kind:rust", "the selector `kind:rust` has the unknown value `rust`");
        check("state:old", "the selector `state:old` has the unknown value `old`");
        check(
            "source:orders",
            "the selector `source:orders` selects a table of the lake, which is not part of the \
             project",
        );
    }

    #[test]
    fn spaces_unite_and_commas_intersect() {
        let items = ["a b,tag:c".to_owned(), " d ".to_owned()];
        let parsed = parse(&items).unwrap();
        let shown: Vec<Vec<&str>> =
            parsed.iter().map(|all| all.iter().map(|one| one.text.as_str()).collect()).collect();
        assert_eq!(shown, [vec!["a"], vec!["b", "tag:c"], vec!["d"]]);
        assert!(parse(&["a,,b".to_owned()]).is_err());
    }
}
