//! Projects defined in the tests, and their errors.

use headwater_model::{Problem, ProjectFiles, ToProblem};
use headwater_project::{Project, Result};

/// Returns a project's files: a manifest, and others by path.
pub fn files(manifest: &str, others: &[(&str, &str)]) -> ProjectFiles {
    let manifest = format!("[project]\nname = \"test\"\n{manifest}");
    let others = others.iter().map(|(path, text)| ((*path).to_owned(), (*text).into()));
    others.chain([("headwater.toml".to_owned(), manifest.into())]).collect()
}

/// Returns the files of a project for Bauplan: a manifest, and others by path.
pub fn bauplan_files(manifest: &str, others: &[(&str, &str)]) -> ProjectFiles {
    let project = "project:\n  id: 6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11\n  name: taxis\n";
    let others = others.iter().map(|(path, text)| ((*path).to_owned(), (*text).into()));
    others
        .chain([("bauplan_project.yml".to_owned(), format!("{project}{manifest}").into())])
        .collect()
}

/// Parses a project whose SQL has no constant expressions to compute.
pub fn parse(files: &ProjectFiles) -> Result<Project> {
    Project::parse(files, |_| None)
}

/// Formats an error as the command line shows it.
pub fn shown(problem: &Problem) -> String {
    let mut text = format!("{}: {}", problem.code, problem.message);
    for excerpt in problem.excerpts() {
        text.push_str(&format!("\n{excerpt}"));
    }
    for cause in &problem.causes {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    if let Some(hint) = &problem.hint {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

/// Returns the error of parsing a project.
pub fn refusal(files: &ProjectFiles) -> String {
    match parse(files) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(error) => shown(&error.to_problem()),
    }
}
