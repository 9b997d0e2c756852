//! Compares all measurements with the limits and the exceptions.

use std::collections::BTreeMap;
use std::path::Path;

use super::exceptions::Exceptions;
use super::files::{self, File};
use super::rules::{self, Measurement, RULES, Rule};
use super::{crates, functions, source};
use crate::process::{self, Outcome};

/// Checks every rule, prints the lines of each crate, and lists all violations.
pub fn check() -> Outcome {
    let (measurements, mut faults) = measure()?;
    let exceptions = Exceptions::read()?;
    for one in &measurements {
        let limit = exceptions.number(one.rule, &one.subject).unwrap_or(one.rule.limit);
        if one.number > limit {
            let Measurement { rule, subject, number, details } = one;
            let details = if details.is_empty() { String::new() } else { format!(" ({details})") };
            faults.push(format!("{subject}: {number} {} (limit {limit}){details}", rule.unit));
        }
    }
    let needed = Exceptions::from_measurements(&measurements);
    let needed: Vec<_> = needed.entries().collect();
    let stale: Vec<_> = exceptions.entries().filter(|entry| !needed.contains(entry)).collect();
    for (section, subject) in &stale {
        faults.push(format!("{subject}: its exception from `{section}` is not needed any more"));
    }
    print_lines(&measurements);
    for rule in RULES {
        let (subjects, sum) = exceptions.excess(rule);
        eprintln!("  {:<18}{sum:>6} in {subjects} exceptions", rule.name);
    }
    if faults.is_empty() {
        return Ok(());
    }
    faults.push("for moved files and stale exceptions run `cargo xtask tidy --update`".to_owned());
    Err(faults.join("\n"))
}

/// Rewrites the exceptions file. The subjects of a section may change, but the number of violations
/// may not grow.
pub fn update() -> Outcome {
    let (measurements, faults) = measure()?;
    let new = Exceptions::from_measurements(&measurements);
    let old = if Exceptions::exist() { Exceptions::read()? } else { new.clone() };
    let grown = RULES.into_iter().filter(|rule| new.excess(*rule).1 > excess_max(&old, *rule));
    let grown: Vec<_> = grown
        .map(|rule| {
            format!("`{}` grows from {} to {}", rule.name, old.excess(rule).1, new.excess(rule).1)
        })
        .collect();
    if !grown.is_empty() {
        return Err(format!("{}; `cargo xtask tidy` lists the files", grown.join(", ")));
    }
    new.write()?;
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Returns the largest sum of excesses that an update accepts for a rule. For rules about sizes, it
/// may grow by 1 %, because rewrapped comments add lines.
fn excess_max(old: &Exceptions, rule: Rule) -> usize {
    let excess = old.excess(rule).1;
    if rule.limit == 0 { excess } else { excess + excess / 100 }
}

/// Counts the violations of each rule in the source tree. Also returns the violations that
/// `tidy-exceptions.toml` does not list.
fn measure() -> Result<(Vec<Measurement>, Vec<String>), String> {
    let root = process::root();
    let mut measurements = Vec::new();
    let mut faults = crates::check_graph(&root)?;
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut methods: BTreeMap<String, usize> = BTreeMap::new();
    let tracked = process::output(process::command("git", &["ls-files"]))?;
    for path in tracked.lines() {
        // A tracked file may be deleted or binary.
        let Ok(text) = std::fs::read_to_string(root.join(path)) else { continue };
        let is_rust = Path::new(path).extension().is_some_and(|extension| extension == "rs");
        if is_rust && !text.starts_with("//!") && !text.starts_with("#!") {
            faults.push(format!("{path}:1: the file does not open with `//!`"));
        }
        let has_folder = is_rust && root.join(path.trim_end_matches(".rs")).is_dir();
        measurements.extend(files::measure(&File { path, text: &text, has_folder }));
        if let Some(name) = crate_of(path).filter(|_| is_rust) {
            *lines.entry(name.clone()).or_default() += text.lines().count();
            for function in functions::list(&source::blank(&text)) {
                if let Some(of_type) = function.of_type.filter(|_| function.is_public) {
                    *methods.entry(format!("{name} {of_type}")).or_default() += 1;
                }
            }
        }
    }
    let totals = [(rules::CRATE_LINES, lines), (rules::PUBLIC_METHODS, methods)];
    for (rule, numbers) in totals {
        measurements.extend(numbers.into_iter().map(|(subject, number)| Measurement {
            rule,
            subject,
            number,
            details: String::new(),
        }));
    }
    Ok((measurements, faults))
}

/// Returns `crates/NAME` for a source file of that crate.
fn crate_of(path: &str) -> Option<String> {
    let (name, rest) = path.strip_prefix("crates/")?.split_once('/')?;
    rest.starts_with("src/").then(|| format!("crates/{name}"))
}

fn print_lines(measurements: &[Measurement]) {
    let of_crates = measurements.iter().filter(|one| one.rule == rules::CRATE_LINES);
    let mut total = 0;
    for one in of_crates {
        eprintln!("  {:<22}{:>7} lines", one.subject, one.number);
        total += one.number;
    }
    eprintln!("  {:<22}{total:>7} lines", "all crates");
}
