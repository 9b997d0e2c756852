//! Python files: decorated functions, found in the syntax tree. Files are never executed.
//!
//! Names of `headwater` are resolved through `import headwater as hw` and `from headwater import
//! model`. Arguments of decorators and inputs must be literals, because nothing is evaluated.

mod arguments;
mod code;
mod foreign;
mod function;
mod literal;
mod names;

use std::collections::BTreeMap;

use ruff_python_ast::statement_visitor::{StatementVisitor, walk_stmt};
use ruff_python_ast::{ModModule, Stmt, StmtFunctionDef};
use ruff_text_size::Ranged;

use self::function::{Defined, Reader};
use self::names::Names;
use crate::source::SourceText;
use crate::{Callable, Error, Result, Step};

/// Definitions of one file, in source order.
#[derive(Default)]
pub(super) struct Found {
    pub steps: Vec<Step>,
    pub callables: Vec<Callable>,
}

/// Parses the models, expectations and callable functions of one file.
pub(super) fn parse(
    source: &SourceText,
    namespace: &str,
    files: &BTreeMap<String, String>,
) -> Result<Found> {
    let module = module(source)?;
    foreign::refuse(source, &module, files)?;
    let names = Names::of(&module, source)?;
    if names.is_empty() {
        return Ok(Found::default());
    }
    let reader = Reader { source, names: &names, namespace };
    let (mut steps, mut callables) = (Vec::new(), Vec::new());
    for statement in &module.body {
        if let Stmt::FunctionDef(function) = statement {
            match reader.read(function)? {
                Some(Defined::Step(step)) => steps.push((*step, function.range())),
                Some(Defined::Callable(callable)) => callables.push((*callable, function.range())),
                None => {}
            }
        } else {
            refuse_inner(&reader, std::slice::from_ref(statement))?;
        }
    }
    for function in module.body.iter().filter_map(Stmt::as_function_def_stmt) {
        refuse_inner(&reader, &function.body)?;
    }
    code::attach(source, &module, files, &mut steps, &callables);
    let steps = steps.into_iter().map(|(step, _)| step).collect();
    let callables = callables.into_iter().map(|(callable, _)| callable).collect();
    Ok(Found { steps, callables })
}

fn module(source: &SourceText) -> Result<ModModule> {
    let parsed = ruff_python_parser::parse_module(source.text).map_err(|error| Error::Invalid {
        at: source.at(error.location.start().to_usize()),
        message: format!("this is no Python: {}", lower_first(&error.error.to_string())),
        hint: Some("Mend the syntax.".to_owned()),
    })?;
    Ok(parsed.into_syntax())
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().collect::<String>() + characters.as_str()
    })
}

/// Rejects decorated functions that are not at the top level of the file.
fn refuse_inner(reader: &Reader, body: &[Stmt]) -> Result<()> {
    let mut inner = Inner { reader, found: None };
    inner.visit_body(body);
    let Some((name, offset)) = inner.found else { return Ok(()) };
    let message = format!("`{name}` is decorated inside another statement");
    let hint = "Define models and expectations at the top level of their file.";
    Err(Error::invalid(reader.source.at(offset), message, hint))
}

struct Inner<'a> {
    reader: &'a Reader<'a>,
    found: Option<(String, usize)>,
}

impl StatementVisitor<'_> for Inner<'_> {
    fn visit_stmt(&mut self, statement: &Stmt) {
        if let Stmt::FunctionDef(function) = statement
            && is_decorated(self.reader, function)
            && self.found.is_none()
        {
            let offset = function.name.range().start().to_usize();
            self.found = Some((function.name.to_string(), offset));
        }
        walk_stmt(self, statement);
    }
}

fn is_decorated(reader: &Reader, function: &StmtFunctionDef) -> bool {
    function.decorator_list.iter().any(|decorator| {
        let expression = &decorator.expression;
        let target = expression.as_call_expr().map_or(expression, |call| &*call.func);
        reader.names.resolve(target).is_some()
    })
}
