//! Checks of decorators: they have parentheses, decorate functions at the top level of a file, and
//! come from one package (`headwater` or `bauplan`) per function.

use ruff_python_ast::statement_visitor::{StatementVisitor, walk_stmt};
use ruff_python_ast::{Decorator, Stmt, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::decorated_function::FunctionReader;
use super::imported_names::ImportedNames;
use crate::source_location::SourceText;
use crate::{Error, Result};

/// Returns the error of a decorator without parentheses.
pub(super) fn without_parentheses(
    source: &SourceText<'_>,
    member: &str,
    decorator: &Decorator,
) -> Error {
    let written = &source.text[decorator.expression.range()];
    let message = format!("the decorator `{member}` has no parentheses");
    let at = source.at(decorator.range().start().to_usize());
    Error::invalid(at, message, format!("Write `@{written}()`."))
}

/// Rejects a function with decorators of both packages.
pub(super) fn refuse_both(
    reader: &FunctionReader,
    bauplan: &ImportedNames,
    function: &StmtFunctionDef,
) -> Result<()> {
    if !(is_decorated(reader.names, function) && is_decorated(bauplan, function)) {
        return Ok(());
    }
    let message = format!("`{}` has decorators of both `headwater` and `bauplan`", function.name);
    let at = reader.source.at(function.name.range().start().to_usize());
    Err(Error::invalid(at, message, "Use the decorators of one package."))
}

/// Rejects decorated functions that are not at the top level of the file.
pub(super) fn refuse_inner(
    reader: &FunctionReader,
    bauplan: &ImportedNames,
    body: &[Stmt],
) -> Result<()> {
    let mut inner = NestedDecoratorVisitor { names: [reader.names, bauplan], found: None };
    inner.visit_body(body);
    let Some((name, offset)) = inner.found else { return Ok(()) };
    let message = format!("`{name}` is decorated inside another statement");
    let hint = "Define models and expectations at the top level of their file.";
    Err(Error::invalid(reader.source.at(offset), message, hint))
}

/// Finds the first decorated function that is not at the top level.
struct NestedDecoratorVisitor<'a> {
    names: [&'a ImportedNames; 2],
    found: Option<(String, usize)>,
}

impl StatementVisitor<'_> for NestedDecoratorVisitor<'_> {
    fn visit_stmt(&mut self, statement: &Stmt) {
        if let Stmt::FunctionDef(function) = statement
            && self.names.into_iter().any(|names| is_decorated(names, function))
            && self.found.is_none()
        {
            let offset = function.name.range().start().to_usize();
            self.found = Some((function.name.to_string(), offset));
        }
        walk_stmt(self, statement);
    }
}

fn is_decorated(names: &ImportedNames, function: &StmtFunctionDef) -> bool {
    function.decorator_list.iter().any(|one| names.resolve_decorator(one).is_some())
}
