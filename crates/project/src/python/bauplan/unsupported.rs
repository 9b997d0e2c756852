//! Parts of Bauplan's package that are not supported. A file that uses such a part is rejected.

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, ModModule, Stmt};
use ruff_text_size::{Ranged, TextRange};

use crate::python::imported_names::ImportedNames;
use crate::source_location::SourceText;
use crate::{Error, Result};

/// Names that functions cannot use, each with a hint.
const UNSUPPORTED: [(&str, &str); 1] =
    [("store", "Return the object as a table, for example with one binary column.")];

/// Rejects a file that uses an unsupported part of Bauplan's package. `names` are the names that
/// the file imports from this package.
pub(in crate::python) fn refuse_unsupported(
    source: &SourceText<'_>,
    module: &ModModule,
    names: &ImportedNames,
) -> Result<()> {
    let mut uses = UnsupportedUseFinder { names, found: None };
    uses.visit_body(&module.body);
    let Some((range, name)) = uses.found else { return Ok(()) };
    let hint = UNSUPPORTED.iter().find(|(known, _)| *known == name).map_or("", |(_, hint)| hint);
    let at = source.at(range.start().to_usize());
    Err(Error::invalid(at, format!("`bauplan.{name}` is not supported"), hint))
}

/// A visitor that finds the first use of an unsupported name.
struct UnsupportedUseFinder<'a> {
    names: &'a ImportedNames,
    found: Option<(TextRange, &'static str)>,
}

impl UnsupportedUseFinder<'_> {
    fn note(&mut self, node: &impl Ranged, name: &str) {
        let known = UNSUPPORTED.iter().find(|(known, _)| *known == name);
        if let (None, Some((name, _))) = (self.found, known) {
            self.found = Some((node.range(), name));
        }
    }
}

impl<'a> Visitor<'a> for UnsupportedUseFinder<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    if let Some(name) = alias.name.as_str().strip_prefix("bauplan.") {
                        self.note(alias, name);
                    }
                }
            }
            Stmt::ImportFrom(import) => {
                let from = import.module.as_ref().map_or("", |name| name.as_str());
                if let Some(name) = from.strip_prefix("bauplan.") {
                    self.note(import, name);
                }
                for alias in import.names.iter().filter(|_| from == "bauplan") {
                    self.note(alias, alias.name.as_str());
                }
            }
            _ => visitor::walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Some(name) = self.names.resolve(expression) {
            self.note(expression, name);
        }
        visitor::walk_expr(self, expression);
    }
}
