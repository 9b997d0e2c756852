//! Checks Python code that is not a file of a project, such as the code of an SQL function.

use ruff_python_ast::Stmt;
use ruff_text_size::Ranged;

use super::module;
use crate::source_location::SourceText;
use crate::{Error, Result};

/// Checks that Python code is valid and defines a function at its top level. `path` is the name of
/// the code in errors.
pub fn check_definition(path: &str, code: &str, function: &str) -> Result<()> {
    let source = SourceText::new(path, code);
    let module = module(&source)?;
    let defines = |statement: &Stmt| match statement {
        Stmt::FunctionDef(defined) => defined.name.as_str() == function,
        Stmt::Assign(assigned) => assigned
            .targets
            .iter()
            .any(|target| target.as_name_expr().is_some_and(|name| name.id.as_str() == function)),
        Stmt::ImportFrom(import) => import
            .names
            .iter()
            .any(|alias| alias.asname.as_ref().unwrap_or(&alias.name).as_str() == function),
        _ => false,
    };
    let found = module.body.iter().find(|statement| defines(statement));
    let Some(found) = found else {
        let message = format!("the code does not define the function `{function}`");
        let hint = format!("Define it with `def {function}(…):`, or name another with HANDLER.");
        return Err(Error::invalid(source.line(1), message, hint));
    };
    match found {
        Stmt::FunctionDef(defined) if defined.is_async => {
            let message = format!("the function `{function}` is asynchronous");
            let at = source.at(found.range().start().to_usize());
            Err(Error::invalid(at, message, "Write `def` without `async`."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, expected: &str) {
        let checked = check_definition("f.py", code, "f");
        let shown = checked.map_or_else(|error| error.to_string(), |()| "valid".to_owned());
        assert!(shown.starts_with(expected), "{code}: {shown}");
    }

    #[test]
    fn code_must_define_the_function_at_its_top_level() {
        check("def f(a):\n    return a\n", "valid");
        check("f = lambda a: a", "valid");
        check("from math import sqrt as f", "valid");
        check("def g(a):\n    def f(b):\n        return b\n", "the code does not define");
        check("async def f(a):\n    return a\n", "the function `f` is asynchronous");
        check("def f(a:\n", "invalid Python: ");
    }
}
