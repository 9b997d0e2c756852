//! Projects written for Bauplan.

mod contracts;
mod inputs;
mod manifest;
mod models;
mod sql;

use headwater_project::{Project, Step};

use crate::support::{bauplan_files, refusal};

/// Parses a project with the parameters `day`, `size` and `token`, and one Python file.
fn parse(code: &str) -> Project {
    let files = bauplan_files(PARAMETERS, &[("models.py", code)]);
    crate::support::parse(&files).unwrap_or_else(|_| panic!("{}", refusal(&files)))
}

/// Returns the first step of a Python file.
fn step(code: &str) -> Step {
    parse(code).steps.remove(0)
}

/// Returns the error for a Python file below `import bauplan`, which is on the first line.
fn refused(code: &str) -> String {
    refusal(&bauplan_files(PARAMETERS, &[("models.py", &format!("import bauplan\n{code}"))]))
}

const PARAMETERS: &str = "parameters:\n  day: {default: '2026-01-01'}\n  size: {type: int, default: 2}\n  token: {type: secret}\n";

/// Checks that parsing each file fails with the given message.
fn check_refused(cases: &[(&str, &str)]) {
    for (code, expected) in cases {
        let refused = refused(code);
        assert!(refused.contains(expected), "{code}\n{refused}\nlacks {expected}");
    }
}
