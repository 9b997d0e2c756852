//! Parser of selectors.

use headwater_model::{ErrorCode, Problem};

use super::{Attribute, GraphDepth, LastStepResult, ModelState, Selector, SelectorMethod};
use crate::{Materialization, StepKind, unknown_name_hints};

const METHODS: [&str; 15] = [
    "name",
    "tag",
    "path",
    "file",
    "fqn",
    "package",
    "kind",
    "type",
    "resource_type",
    "test_type",
    "source",
    "state",
    "result",
    "config.materialized",
    "config.tags",
];
const KINDS: [&str; 4] = ["sql", "python", "expectation", "model"];
const RESOURCE_TYPES: [&str; 3] = ["model", "test", "data_test"];
const TEST_TYPES: [&str; 2] = ["data", "singular"];
const STATES: [(&str, ModelState); 4] = [
    ("modified", ModelState::Modified),
    ("new", ModelState::New),
    ("old", ModelState::Old),
    ("unmodified", ModelState::Unmodified),
];
const RESULTS: [(&str, LastStepResult); 6] = [
    ("error", LastStepResult::Error),
    ("fail", LastStepResult::Fail),
    ("warn", LastStepResult::Warn),
    ("skipped", LastStepResult::Skipped),
    ("success", LastStepResult::Success),
    ("pass", LastStepResult::Pass),
];
/// Names of materializations: first the names of dbt, then the names of Headwater.
const MATERIALIZATIONS: [&str; 9] = [
    "table",
    "ephemeral",
    "incremental",
    "none",
    "replace",
    "append",
    "merge",
    "overwrite_partitions",
    "view",
];

/// Parses a list of selectors. The result is a union of intersections. Errors: `invalid_argument`.
pub fn parse(items: &[String]) -> Result<Vec<Vec<Selector>>, Problem> {
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
    if closure && (parents != GraphDepth::None || children != GraphDepth::None) {
        let hint = "Write `@NAME`, which includes all parents and children, or `+NAME+`.";
        return Err(invalid(text, "combines `@` with `+`", hint));
    }
    let method = method(text, rest)?;
    if matches!(method, SelectorMethod::Source(_))
        && (children.levels() == 0 || parents != GraphDepth::None)
    {
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
fn leading(text: &str) -> (GraphDepth, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text[digits..].strip_prefix('+') {
        Some(rest) => (depth(&text[..digits]), rest),
        None => (GraphDepth::None, text),
    }
}

/// Splits a trailing `+` or `+2` off the text.
fn trailing(text: &str) -> (&str, GraphDepth) {
    let digits = text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (rest, number) = text.split_at(text.len() - digits);
    match rest.strip_suffix('+') {
        Some(rest) => (rest, depth(number)),
        None => (text, GraphDepth::None),
    }
}

/// A number that is too large to parse means no limit.
fn depth(number: &str) -> GraphDepth {
    if number.is_empty() {
        return GraphDepth::All;
    }
    number.parse().map_or(GraphDepth::All, GraphDepth::Levels)
}

fn method(text: &str, rest: &str) -> Result<SelectorMethod, Problem> {
    let Some((method, value)) = rest.split_once(':') else {
        let is_file = [".sql", ".py"].iter().any(|ending| rest.ends_with(ending));
        return Ok(match (rest.contains('/'), is_file) {
            (true, _) => path(rest),
            (false, true) => SelectorMethod::Pattern(Attribute::File, rest.to_owned()),
            (false, false) => SelectorMethod::Pattern(Attribute::Name, rest.to_owned()),
        });
    };
    if value.is_empty() {
        let hint = format!("Write a value after `{method}:`.");
        return Err(invalid(text, "has no value", hint));
    }
    let pattern = |attribute| SelectorMethod::Pattern(attribute, value.to_owned());
    let value = SelectorValue { text, value };
    Ok(match method {
        "name" => pattern(Attribute::Name),
        "tag" | "config.tags" => pattern(Attribute::Tag),
        "path" => path(value.value),
        "file" => pattern(Attribute::File),
        "fqn" => pattern(Attribute::FullName),
        "package" => pattern(Attribute::Package),
        "source" => SelectorMethod::Source(value.value.to_owned()),
        "kind" | "type" => match value.one_of("kinds", &KINDS)? {
            "sql" => SelectorMethod::Kind(StepKind::Sql),
            "python" => SelectorMethod::Kind(StepKind::Python),
            "expectation" => SelectorMethod::Kind(StepKind::Expectation),
            _ => SelectorMethod::Models,
        },
        "resource_type" => match value.one_of("resource types", &RESOURCE_TYPES)? {
            "model" => SelectorMethod::Models,
            _ => SelectorMethod::Kind(StepKind::Expectation),
        },
        "test_type" => {
            value.one_of("types of tests", &TEST_TYPES)?;
            SelectorMethod::Kind(StepKind::Expectation)
        }
        "config.materialized" => value.materialized()?,
        "state" => value.state()?,
        "result" => {
            let result = value.one_of("results", &RESULTS.map(|(name, _)| name))?;
            let found = RESULTS.iter().find(|(name, _)| *name == result);
            SelectorMethod::Result(found.map_or(LastStepResult::Error, |(_, result)| *result))
        }
        other => {
            let hint = unknown_name_hints::hint(other, METHODS, "methods");
            return Err(invalid(text, &format!("has the unknown method `{other}:`"), hint));
        }
    })
}

fn path(path: &str) -> SelectorMethod {
    let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
    SelectorMethod::Pattern(Attribute::Path, path.to_owned())
}

/// The text of a selector and its value, for a method with a fixed set of values.
#[derive(Clone, Copy)]
struct SelectorValue<'a> {
    /// The selector as written.
    text: &'a str,
    value: &'a str,
}

impl<'a> SelectorValue<'a> {
    /// Returns the value if it is one of `values`; `what` describes `values` in the hint.
    fn one_of(self, what: &str, values: &[&str]) -> Result<&'a str, Problem> {
        if values.contains(&self.value) {
            return Ok(self.value);
        }
        let hint = unknown_name_hints::hint(self.value, values.iter().copied(), what);
        Err(self.unknown(hint))
    }

    fn unknown(self, hint: String) -> Problem {
        invalid(self.text, &format!("has the unknown value `{}`", self.value), hint)
    }

    fn state(self) -> Result<SelectorMethod, Problem> {
        // In dbt, `state:modified.body` and similar values compare only a part of a model.
        if self.value.starts_with("modified.") {
            let hint = "Write `state:modified`. It compares the code, settings, packages and \
                        parameters of a model together.";
            return Err(self.unknown(hint.to_owned()));
        }
        let state = self.one_of("states", &STATES.map(|(name, _)| name))?;
        let found = STATES.iter().find(|(name, _)| *name == state);
        Ok(SelectorMethod::State(found.map_or(ModelState::Modified, |(_, state)| *state)))
    }

    /// Parses a materialization by its name in dbt or in Headwater.
    fn materialized(self) -> Result<SelectorMethod, Problem> {
        let name = self.one_of("materializations", &MATERIALIZATIONS)?;
        Ok(SelectorMethod::Materialized(match name {
            "table" => vec![Materialization::Replace],
            "ephemeral" => vec![Materialization::None],
            "incremental" => {
                Materialization::ALL.into_iter().filter(|one| one.accumulates()).collect()
            }
            name => Materialization::parse(name).into_iter().collect(),
        }))
    }
}

/// Creates the error for an invalid selector.
pub fn invalid(text: &str, what: &str, hint: impl Into<String>) -> Problem {
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
        check("orders", r#"None Pattern(Name, "orders") None"#);
        check("+orders+", r#"All Pattern(Name, "orders") All"#);
        check("2+orders+13", r#"Levels(2) Pattern(Name, "orders") Levels(13)"#);
        check("@orders", r#"@None Pattern(Name, "orders") None"#);
        check("orders2", r#"None Pattern(Name, "orders2") None"#);
        check("1+2", r#"Levels(1) Pattern(Name, "2") None"#);
        check("99999999999999999999+a", r#"All Pattern(Name, "a") None"#);
        check("tag:daily", r#"None Pattern(Tag, "daily") None"#);
        check("config.tags:daily", r#"None Pattern(Tag, "daily") None"#);
        check("models/a.sql", r#"None Pattern(Path, "models/a.sql") None"#);
        check("a.sql+", r#"None Pattern(File, "a.sql") All"#);
        check("file:a", r#"None Pattern(File, "a") None"#);
        check("path:./models/", r#"None Pattern(Path, "models") None"#);
        check("fqn:shop.staging.*", r#"None Pattern(FullName, "shop.staging.*") None"#);
        check("package:shop", r#"None Pattern(Package, "shop") None"#);
        check("source:orders+", r#"None Source("orders") All"#);
    }

    #[test]
    fn methods_with_fixed_values_have_the_values_of_dbt() {
        check("type:sql", "None Kind(Sql) None");
        check("kind:model", "None Models None");
        check("resource_type:model", "None Models None");
        check("resource_type:test", "None Kind(Expectation) None");
        check("test_type:data", "None Kind(Expectation) None");
        check("state:modified+", "None State(Modified) All");
        check("state:new", "None State(New) None");
        check("state:old", "None State(Old) None");
        check("state:unmodified", "None State(Unmodified) None");
        check("result:error+", "None Result(Error) All");
        check("result:skipped", "None Result(Skipped) None");
        check("config.materialized:table", "None Materialized([Replace]) None");
        check("config.materialized:none", "None Materialized([None]) None");
        let incremental = "None Materialized([Append, Merge, OverwritePartitions]) None";
        check("config.materialized:incremental", incremental);
    }

    #[test]
    fn every_name_of_a_method_is_accepted() {
        for name in METHODS {
            let parsed = parse_one(&format!("{name}:?+"));
            let unknown = parsed.is_err_and(|error| error.message.contains("unknown method"));
            assert!(!unknown, "{name}");
        }
        for name in MATERIALIZATIONS {
            let parsed = parse_one(&format!("config.materialized:{name}")).unwrap();
            assert!(!matches!(parsed.method, SelectorMethod::Materialized(all) if all.is_empty()));
        }
    }

    #[test]
    fn wrong_selectors_are_named() {
        check("", "the selector `` has no name");
        check("+", "the selector `+` has no name");
        check("@+a", "the selector `@+a` combines `@` with `+`");
        check("@a+", "the selector `@a+` combines `@` with `+`");
        check("tag:", "the selector `tag:` has no value");
        check("tga:x", "the selector `tga:x` has the unknown method `tga:`");
        check("exposure:x", "the selector `exposure:x` has the unknown method `exposure:`");
        check("kind:rust", "the selector `kind:rust` has the unknown value `rust`");
        check("state:stale", "the selector `state:stale` has the unknown value `stale`");
        check("result:bad", "the selector `result:bad` has the unknown value `bad`");
        check("test_type:unit", "the selector `test_type:unit` has the unknown value `unit`");
        check(
            "state:modified.body",
            "the selector `state:modified.body` has the unknown value `modified.body`",
        );
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
