//! The exceptions file: tolerated numbers that exceed a limit. These numbers may only shrink.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::rules::{Measurement, RULES, Rule};
use crate::process;

/// Path of the file, relative to the repository's root.
const PATH: &str = "xtask/tidy-exceptions.toml";

const HEAD: &str = "\
# Limits of `cargo xtask tidy` that the tree exceeds today: each subject and its number.
# `cargo xtask tidy --update` rewrites this file; the sum of a section may only shrink.
";

/// Tolerated numbers by section and subject.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exceptions(BTreeMap<String, BTreeMap<String, usize>>);

impl Exceptions {
    /// Reads the file.
    pub fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(process::root().join(PATH));
        Self::parse(&text.map_err(|error| format!("{PATH}: {error}"))?)
    }

    /// Returns true if the file exists.
    pub fn exist() -> bool {
        process::root().join(PATH).exists()
    }

    /// Collects the numbers that exceed their limits.
    pub fn from_measurements(measurements: &[Measurement]) -> Self {
        let mut exceptions = Self::default();
        for one in measurements.iter().filter(|one| one.number > one.rule.limit) {
            let section = exceptions.0.entry(one.rule.name.to_owned()).or_default();
            section.insert(one.subject.clone(), one.number);
        }
        exceptions
    }

    /// Writes the file.
    pub fn write(&self) -> Result<(), String> {
        std::fs::write(process::root().join(PATH), self.text())
            .map_err(|error| format!("{PATH}: {error}"))
    }

    /// Returns the tolerated number, if there is an exception.
    pub fn number(&self, rule: Rule, subject: &str) -> Option<usize> {
        self.0.get(rule.name)?.get(subject).copied()
    }

    /// Returns the number of subjects and the sum of their excess over the limit.
    pub fn excess(&self, rule: Rule) -> (usize, usize) {
        let Some(section) = self.0.get(rule.name) else { return (0, 0) };
        (section.len(), section.values().map(|number| number.saturating_sub(rule.limit)).sum())
    }

    /// Lists the entries as section and subject.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let sections = self.0.iter();
        sections.flat_map(|(section, entries)| {
            entries.keys().map(move |subject| (section.as_str(), subject.as_str()))
        })
    }

    /// Parses the file; skips the markers of a merge conflict, which `--update` resolves.
    fn parse(text: &str) -> Result<Self, String> {
        let mut exceptions = Self::default();
        let mut section = String::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if !line.is_empty() && !line.starts_with(['#', '<', '=', '>', '|']) {
                let entry = line.split_once(" = ").and_then(|(subject, number)| {
                    Some((subject.trim_matches('"').to_owned(), number.parse().ok()?))
                });
                let (subject, number) = entry.ok_or_else(|| {
                    format!("{PATH}:{}: an entry is `\"SUBJECT\" = NUMBER`", index + 1)
                })?;
                exceptions.0.entry(section.clone()).or_default().insert(subject, number);
            }
        }
        Ok(exceptions)
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for rule in RULES {
            let Some(section) = self.0.get(rule.name) else { continue };
            let _ = writeln!(text, "\n[{}]", rule.name);
            for (subject, number) in section {
                let _ = writeln!(text, "\"{subject}\" = {number}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::rules::FILE_LINES;

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let measurement = Measurement {
            rule: FILE_LINES,
            subject: "crates/a/src/b.rs".to_owned(),
            number: 612,
            details: String::new(),
        };
        let exceptions = Exceptions::from_measurements(&[measurement]);
        assert_eq!(Exceptions::parse(&exceptions.text()), Ok(exceptions));
    }
}
