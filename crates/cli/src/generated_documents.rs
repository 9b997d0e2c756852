//! The generated documents: command reference, error index, OpenAPI description.
//!
//! The tests of this module write the documents if `HEADWATER_CODEGEN=write` is set. Otherwise they
//! fail if a document is stale. `cargo xtask codegen` runs the tests.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;
use headwater_model::ErrorCode;

use crate::arguments::Arguments;

/// Writes the document `name`, or compares it with the existing file.
fn write_or_compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var("HEADWATER_CODEGEN").is_ok_and(|mode| mode == "write") {
        std::fs::write(&path, text).expect("the document is written");
        return;
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(present == text, "docs/reference/{name} is stale: run `cargo xtask codegen`");
}

#[test]
fn generated_commands() {
    let mut text = String::from("# Commands\n\nWritten by `cargo xtask codegen`.\n");
    let mut root = Arguments::command();
    root.build();
    describe(&root, &mut text);
    write_or_compare("commands.md", &text);
}

fn describe(command: &clap::Command, text: &mut String) {
    let title = command.get_bin_name().unwrap_or("headwater").to_owned();
    let help = command.clone().term_width(100).render_long_help().to_string();
    let _ = write!(text, "\n## `{title}`\n\n```text\n");
    for line in help.trim_end().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        describe(inner, text);
    }
}

#[test]
fn generated_errors() {
    let mut text = String::from(
        "# Error codes\n\nWritten by `cargo xtask codegen`. Every error response of the API has a \
         code; commands exit with the exit code.\n\n\
         | code | HTTP | SQLSTATE | exit |\n|---|---|---|---|\n",
    );
    for code in ErrorCode::all() {
        let (http, state, exit) = (code.http_status(), code.sqlstate(), code.exit_code());
        let _ = writeln!(text, "| `{code}` | {http} | {state} | {exit} |");
    }
    write_or_compare("errors.md", &text);
}

#[test]
fn generated_openapi() {
    let text = serde_json::to_string_pretty(&headwater_server::openapi()).expect("JSON");
    write_or_compare("openapi.json", &(text + "\n"));
}

#[test]
fn every_command_has_an_example_that_parses() {
    let mut root = Arguments::command();
    root.build();
    let mut seen = 0;
    check_examples(&root, &mut seen);
    assert!(seen >= 30, "only {seen} examples");
}

fn check_examples(command: &clap::Command, seen: &mut usize) {
    let leaf = command.get_subcommands().next().is_none();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    if leaf {
        assert!(help.contains("headwater "), "`{name}` has no example");
        for line in help.lines().filter(|line| line.trim_start().starts_with("headwater ")) {
            let first = line.split(" && ").next().unwrap_or_default();
            let first = first.split(" > ").next().unwrap_or_default();
            let words = words(first.split(" < ").next().unwrap_or_default());
            let parsed = Arguments::command().try_get_matches_from(&words);
            if let Err(error) = parsed {
                panic!("`{line}`: {error}");
            }
            *seen += 1;
        }
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        check_examples(inner, seen);
    }
}

/// Splits a shell line into words, without quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.trim().chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().expect("a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
