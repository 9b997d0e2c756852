//! Development tasks: `cargo xtask test | bench | soak | dist | codegen | tidy`.
//!
//! This program has no dependencies, so that it builds in a second.

mod codegen;
mod dist;
mod features;
mod process;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "Usage: cargo xtask TASK

  test                    run what CI runs: format, lints, generated files, all tests
  bench SUITE             measure against a reference: access, first-light, functions,
                          pipelines, sql, tables
  soak [--seed N]         run the long tests with full counts, in release, with new seeds
  dist [--profile NAME]   build, check and test the published wheel
  codegen [--check]       write the generated docs and lists, or list the stale ones
  tidy [--update]         check the style rules that no lint covers, or update their exceptions
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => test::all(),
        ["bench", suite, rest @ ..] => test::bench(suite, rest),
        ["soak", rest @ ..] => test::soak(rest),
        ["dist", rest @ ..] => dist::dist(rest),
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        ["tidy"] => tidy::check(),
        ["tidy", "--update"] => tidy::update(),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
