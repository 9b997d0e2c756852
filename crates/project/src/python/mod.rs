//! Python files: decorated functions, found in the syntax tree. Files are never executed.
//!
//! Names from `headwater` and `bauplan` are resolved through imports such as `import headwater as
//! hw` and `from headwater import model`. Arguments of decorators and inputs must be literals,
//! because nothing is evaluated.

mod bauplan;
mod code_check;
mod decorated_function;
mod decorator_checks;
mod decorator_settings;
mod decorator_triggers;
mod fingerprinted_code;
mod foreign_decorators;
mod imported_names;
mod lineage_argument;
mod literal;
mod literal_arguments;

use std::collections::BTreeMap;

use ruff_python_ast::{ModModule, Stmt};
use ruff_text_size::Ranged;

use self::bauplan::{BauplanReader, refuse_unsupported};
pub(super) use self::bauplan::{Schema, Schemas};
pub use self::code_check::check_definition;
use self::decorated_function::{FunctionReader, ParsedDefinition};
use self::decorator_checks::{refuse_both, refuse_inner};
use self::imported_names::{BAUPLAN, ImportedNames, PACKAGE};
use crate::source_location::SourceText;
use crate::{Callable, Error, Result, Step};

/// Definitions of one file, in source order.
#[derive(Default)]
pub(super) struct FileDefinitions {
    pub steps: Vec<Step>,
    pub callables: Vec<Callable>,
}

/// Parses the models, expectations and callable functions of one file.
pub(super) fn parse(
    source: &SourceText,
    namespace: &str,
    files: &BTreeMap<String, String>,
) -> Result<FileDefinitions> {
    let module = module(source)?;
    foreign_decorators::refuse(source, &module, files)?;
    let names = ImportedNames::of(&module, source, PACKAGE)?;
    let bauplan = ImportedNames::of(&module, source, BAUPLAN)?;
    refuse_unsupported(source, &module, &bauplan)?;
    if names.is_empty() && bauplan.is_empty() {
        return Ok(FileDefinitions::default());
    }
    let schemas = Schemas::of(source, &module, files)?;
    let reader = FunctionReader { source, names: &names, namespace };
    let bauplan = BauplanReader { source, names: &bauplan, namespace, schemas: &schemas };
    let (mut steps, mut callables) = (Vec::new(), Vec::new());
    for statement in &module.body {
        if let Stmt::FunctionDef(function) = statement {
            refuse_both(&reader, bauplan.names, function)?;
            let defined = match reader.read(function)? {
                Some(defined) => Some(defined),
                None => bauplan.read(function)?.map(|step| ParsedDefinition::Step(Box::new(step))),
            };
            match defined {
                Some(ParsedDefinition::Step(step)) => steps.push((*step, function.range())),
                Some(ParsedDefinition::Callable(callable)) => {
                    callables.push((*callable, function.range()));
                }
                None => {}
            }
        } else {
            refuse_inner(&reader, bauplan.names, std::slice::from_ref(statement))?;
        }
    }
    for function in module.body.iter().filter_map(Stmt::as_function_def_stmt) {
        refuse_inner(&reader, bauplan.names, &function.body)?;
    }
    fingerprinted_code::attach(source, &module, files, &mut steps, &mut callables);
    let steps = steps.into_iter().map(|(step, _)| step).collect();
    let callables = callables.into_iter().map(|(callable, _)| callable).collect();
    Ok(FileDefinitions { steps, callables })
}

fn module(source: &SourceText) -> Result<ModModule> {
    let parsed = ruff_python_parser::parse_module(source.text).map_err(|error| Error::Invalid {
        at: source.at(error.location.start().to_usize()),
        message: format!("invalid Python: {}", lower_first(&error.error.to_string())),
        hint: Some("Correct the syntax.".to_owned()),
    })?;
    Ok(parsed.into_syntax())
}

/// Returns the text with a lower-case first letter, for a message that continues a sentence.
pub(crate) fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().collect::<String>() + characters.as_str()
    })
}
