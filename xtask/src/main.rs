//! Development tasks: `cargo xtask test | bench | soak | codegen | tidy`.
//!
//! It has no dependency, so that it is built in a second on a new machine.

mod codegen;
mod features;
mod process;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "Usage: cargo xtask TASK

  test                 everything that CI runs: format, lints, generated files, every test
  bench SUITE          measure beside a reference, in release: first-light, tables, functions
  soak [--seed N]      the long tests with their full counts, in release, on programs of new seeds
  codegen [--check]    write the generated docs and lists, or say which are stale
  tidy                 the style rules that no lint knows
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => test::all(),
        ["bench", suite, rest @ ..] => test::bench(suite, rest),
        ["soak", rest @ ..] => test::soak(rest),
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        ["tidy"] => tidy::check(),
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
