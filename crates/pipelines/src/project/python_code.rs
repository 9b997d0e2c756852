//! What the code of a Python step is, for telling whether it changed: its file without the other steps it
//! does not mention, and every helper module of the project that is imported from there.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::{Stmt, StmtFunctionDef};
use ruff_text_size::Ranged;

use crate::source::SourceText;

/// The code of one step.
pub(super) fn of(
    source: &SourceText<'_>,
    function: &StmtFunctionDef,
    steps: &[&StmtFunctionDef],
    files: &BTreeMap<String, String>,
) -> String {
    let own = slice(source.text, function);
    let mut code = String::new();
    let mut done = 0;
    for other in steps {
        let mentioned = other.name == function.name || mentions(own, other.name.as_str());
        if !mentioned {
            code.push_str(&source.text[done..other.range().start().to_usize()]);
            done = other.range().end().to_usize();
        }
    }
    code.push_str(&source.text[done..]);
    let mut seen = BTreeSet::from([source.path.to_string()]);
    for file in helpers(&source.path, &code, files) {
        add_helper(&file, files, &mut seen, &mut code);
    }
    code
}

fn slice<'a>(text: &'a str, node: &impl Ranged) -> &'a str {
    &text[node.range().start().to_usize()..node.range().end().to_usize()]
}

fn mentions(code: &str, name: &str) -> bool {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name)
}

fn add_helper(
    file: &str,
    files: &BTreeMap<String, String>,
    seen: &mut BTreeSet<String>,
    code: &mut String,
) {
    if !seen.insert(file.to_owned()) {
        return;
    }
    let Some(text) = files.get(file) else { return };
    code.push_str(&format!("\n# {file}\n"));
    code.push_str(text);
    for next in helpers(file, text, files) {
        add_helper(&next, files, seen, code);
    }
}

/// The project's files that some code imports.
fn helpers(path: &str, code: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    let Ok(parsed) = ruff_python_parser::parse_module(code) else { return Vec::new() };
    let mut found = Vec::new();
    for statement in &parsed.syntax().body {
        for module in modules(statement) {
            found.extend(
                candidates(path, &module).into_iter().find(|file| files.contains_key(file)),
            );
        }
    }
    found
}

fn modules(statement: &Stmt) -> Vec<String> {
    match statement {
        Stmt::Import(import) => import.names.iter().map(|alias| alias.name.to_string()).collect(),
        Stmt::ImportFrom(import) => {
            let base = import.module.as_ref().map(ToString::to_string);
            let names = import.names.iter().map(|alias| match &base {
                Some(base) => format!("{base}.{}", alias.name),
                None => alias.name.to_string(),
            });
            names.chain(base.clone()).collect()
        }
        _ => Vec::new(),
    }
}

fn candidates(path: &str, module: &str) -> Vec<String> {
    let module = module.replace('.', "/");
    let folder = path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    [folder, String::new()]
        .iter()
        .flat_map(|base| [format!("{base}{module}.py"), format!("{base}{module}/__init__.py")])
        .collect()
}
