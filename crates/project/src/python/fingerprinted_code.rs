//! Source code that a function's fingerprint covers.
//!
//! The code consists of the function's file and all project modules that the file imports, directly
//! or indirectly. Other steps and callable functions in the file are excluded unless the function
//! mentions them. A change of one model therefore does not change the fingerprints of other models
//! in the same file. Imports by computed names are not detected.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, ModModule, Stmt};
use ruff_text_size::{Ranged, TextRange};

use crate::source_location::SourceText;
use crate::{Callable, Step, StepCode};

/// Determines the code of every step in a file, and the files of every callable function.
pub(super) fn attach(
    source: &SourceText,
    module: &ModModule,
    files: &BTreeMap<String, String>,
    steps: &mut [(Step, TextRange)],
    callables: &mut [(Callable, TextRange)],
) {
    let helpers = helpers(&source.path, module, files);
    let called = callables.iter().map(|(one, range)| (one.function.name.clone(), *range));
    let others: Vec<(String, TextRange)> = steps
        .iter()
        .filter_map(|(step, range)| match &step.body {
            StepCode::Python(function) => Some((function.name.clone(), *range)),
            StepCode::Sql(_) => None,
        })
        .chain(called)
        .collect();
    for (step, own) in steps {
        let StepCode::Python(function) = &mut step.body else { continue };
        let hidden = hidden(module, &others, *own);
        let mut code = without(source.text, &hidden);
        for path in &helpers {
            code.push_str("\n# ");
            code.push_str(path);
            code.push('\n');
            code.push_str(&files[*path]);
        }
        function.code = code.into();
        function.modules = helpers.iter().map(|path| (*path).into()).collect();
    }
    for (callable, _) in callables {
        callable.files.extend(helpers.iter().map(|path| (*path).to_owned()));
    }
}

/// Returns the source ranges of the steps and functions that the fingerprint of the function at
/// `own` does not cover, because the other code of the file does not mention them.
fn hidden(module: &ModModule, others: &[(String, TextRange)], own: TextRange) -> Vec<TextRange> {
    let mut hidden: Vec<&(String, TextRange)> =
        others.iter().filter(|(_, range)| *range != own).collect();
    loop {
        let mut used = ReadNameCollector::default();
        for statement in &module.body {
            if !hidden.iter().any(|(_, range)| *range == statement.range()) {
                used.visit_stmt(statement);
            }
        }
        let before = hidden.len();
        hidden.retain(|(name, _)| !used.names.contains(name.as_str()));
        if hidden.len() == before {
            return hidden.into_iter().map(|(_, range)| *range).collect();
        }
    }
}

fn without(text: &str, hidden: &[TextRange]) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for range in hidden {
        kept.push_str(text.get(at..range.start().to_usize()).unwrap_or_default());
        at = range.end().to_usize();
    }
    kept.push_str(text.get(at..).unwrap_or_default());
    kept
}

/// Collector of the names that statements read.
#[derive(Default)]
struct ReadNameCollector<'a> {
    names: BTreeSet<&'a str>,
}

impl<'a> Visitor<'a> for ReadNameCollector<'a> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Name(name) = expression {
            self.names.insert(name.id.as_str());
        }
        visitor::walk_expr(self, expression);
    }
}

/// Returns the project modules that a file imports, directly or indirectly, excluding the file
/// itself.
fn helpers<'f>(
    path: &str,
    module: &ModModule,
    files: &'f BTreeMap<String, String>,
) -> BTreeSet<&'f str> {
    let mut found = BTreeSet::new();
    let mut open = imported(path, module, files);
    while let Some(next) = open.pop() {
        if next == path || !found.insert(next) {
            continue;
        }
        if let Ok(parsed) = ruff_python_parser::parse_module(&files[next]) {
            open.extend(imported(next, parsed.syntax(), files));
        }
    }
    found
}

fn imported<'f>(
    path: &str,
    module: &ModModule,
    files: &'f BTreeMap<String, String>,
) -> Vec<&'f str> {
    let mut imports = ImportedModuleCollector::default();
    imports.visit_body(&module.body);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    imports
        .modules
        .iter()
        .flat_map(|(level, name)| candidates(folder, *level, name, files))
        .collect()
}

/// Returns the files that an imported module may refer to, in the importing file's folder, or at
/// the root.
pub(super) fn candidates<'f>(
    folder: &str,
    level: u32,
    name: &str,
    files: &'f BTreeMap<String, String>,
) -> Vec<&'f str> {
    let mut base = folder;
    for _ in 1..level {
        base = base.rsplit_once('/').map_or("", |(above, _)| above);
    }
    let mut roots = vec![base];
    if level == 0 && !base.is_empty() {
        roots.push("");
    }
    let mut found = Vec::new();
    for root in roots {
        // `import a.b.c` runs `a/__init__.py`, `a/b/__init__.py` and `a/b/c.py`.
        let mut inner = String::from(root);
        for part in name.split('.').filter(|part| !part.is_empty()) {
            if !inner.is_empty() {
                inner.push('/');
            }
            inner.push_str(part);
            for file in [format!("{inner}.py"), format!("{inner}/__init__.py")] {
                found.extend(files.get_key_value(&file).map(|(path, _)| path.as_str()));
            }
        }
    }
    found
}

/// Collector of the modules that a file imports, with the leading dots.
#[derive(Default)]
struct ImportedModuleCollector {
    modules: Vec<(u32, String)>,
}

impl Visitor<'_> for ImportedModuleCollector {
    fn visit_stmt(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Import(import) => {
                self.modules.extend(import.names.iter().map(|alias| (0, alias.name.to_string())));
            }
            Stmt::ImportFrom(import) => {
                let module = import.module.as_ref().map_or("", |name| name.as_str());
                let full = |name: &str| format!("{module}.{name}");
                let names = import.names.iter().map(|alias| (import.level, full(&alias.name)));
                self.modules.extend(names);
            }
            _ => visitor::walk_stmt(self, statement),
        }
    }
}
