//! Measures one file of the repository.

use std::path::Path;

use super::rules::{self, Measurement, Rule};
use super::{functions, source, words};

/// Files that are generated, or that define the banned words.
const WITHOUT_WORDS: [&str; 4] =
    ["Cargo.lock", "xtask/src/tidy/", "xtask/tidy-exceptions.toml", "docs/reference/openapi.json"];

/// A tracked file.
pub struct File<'a> {
    /// The path from the repository's root.
    pub path: &'a str,
    /// The text.
    pub text: &'a str,
    /// True if a folder of the same name, without the extension, is next to the file.
    pub has_folder: bool,
}

impl File<'_> {
    fn ends_with(&self, extension: &str) -> bool {
        Path::new(self.path).extension().is_some_and(|found| found == extension)
    }

    fn is_code(&self) -> bool {
        self.ends_with("rs") || self.ends_with("py")
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Measures a file by every rule that applies to it.
pub fn measure(file: &File) -> Vec<Measurement> {
    let mut measurements = Vec::new();
    let mut add = |rule: Rule, lines: Vec<usize>| {
        let details = lines.iter().take(5).map(|line| format!("line {line}"));
        measurements.push(Measurement {
            rule,
            subject: file.path.to_owned(),
            number: lines.len(),
            details: details.collect::<Vec<_>>().join(", "),
        });
    };
    if !WITHOUT_WORDS.iter().any(|path| file.path.starts_with(path)) {
        add(
            rules::BANNED_WORDS,
            words::find(file.text).into_iter().map(|(line, _)| line).collect(),
        );
    }
    if file.is_code() && !file.is_test() {
        add(rules::WIDE_LINES, wide_lines(file.text));
    }
    if file.ends_with("rs") {
        let text = source::blank(file.text);
        if ["lib.rs", "mod.rs"].contains(&file.name()) && !file.is_test() {
            add(rules::MODULE_LOGIC, items(&text));
        }
        add(rules::MODULE_ROOTS, if file.has_folder { vec![1] } else { Vec::new() });
        measure_functions(&text, &mut add);
    }
    if file.is_code() {
        measurements.push(Measurement {
            rule: rules::FILE_LINES,
            subject: file.path.to_owned(),
            number: file.text.lines().count(),
            details: String::new(),
        });
    }
    measurements
}

fn measure_functions(text: &str, add: &mut impl FnMut(Rule, Vec<usize>)) {
    let functions = functions::list(text);
    let lines = |holds: &dyn Fn(&functions::Function) -> bool| {
        functions.iter().filter(|one| holds(one)).map(|one| one.line).collect::<Vec<_>>()
    };
    add(rules::LONG_FUNCTIONS, lines(&|one| one.body_lines > rules::FUNCTION_LINES_MAX));
    let is_own = |one: &functions::Function| !one.is_trait_impl;
    let has_many =
        |one: &functions::Function| is_own(one) && one.parameters.len() > rules::PARAMETERS_MAX;
    add(rules::MANY_PARAMETERS, lines(&has_many));
    add(rules::TUPLE_PARAMETERS, lines(&|one| is_own(one) && one.tuple_parameters() > 0));
}

fn wide_lines(text: &str) -> Vec<usize> {
    let is_wide = |line: &str| {
        line.chars().count() > rules::LINE_COLUMNS_MAX
            && !line.contains("://")
            && !line.contains('"')
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_wide(line));
    lines.map(|(index, _)| index + 1).collect()
}

/// Lists the lines of items other than `mod`, `use` and macros at the top level.
fn items(text: &str) -> Vec<usize> {
    const ITEMS: [&str; 9] =
        ["fn", "async", "struct", "enum", "impl", "trait", "const", "static", "type"];
    let first_word =
        |line: &str| {
            let line =
                line.strip_prefix("pub").map_or(line, |rest| {
                    rest.split_once(") ").map_or(rest, |(scope, rest)| {
                        if scope.starts_with('(') { rest } else { line }
                    })
                });
            let end = line.trim_start().find(|c: char| !c.is_alphanumeric()).unwrap_or(line.len());
            line.trim_start()[..end.min(line.trim_start().len())].to_owned()
        };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with([' ', '}']));
    lines
        .filter(|(_, line)| ITEMS.contains(&first_word(line).as_str()))
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_module_root_are_found() {
        let text = "mod a;\npub mod b;\npub use c;\npub(crate) fn d() {\n    fn e() {}\n}\n\
                    pub struct F;\nimpl F {}\n#[cfg(test)]\nmod tests {}\nasync fn g() {}\n";
        assert_eq!(items(text), [4, 7, 8, 11]);
    }
}
