//! A partially parsed project, and the errors of files that cannot be parsed.
//!
//! An error in a file affects only the definitions in that file. Each use of a project decides
//! which errors matter: a deployment accepts no errors. A run accepts errors in files without
//! models and expectations. A function call accepts errors in files other than its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{FileContent, ProjectFiles};
use headwater_sql::time_travel::ConstantEvaluatorFn;

use crate::command_function::CommandFunction;
use crate::project::{by_name, check_growing, check_names, check_view, deeply};
use crate::python_handler::PythonHandler;
use crate::source_location::SourceText;
use crate::{Callable, Error, Project, Result, Step};
use crate::{
    manifest, minimum_memory, parallel_map, parameter, partition_overwrite, python,
    row_expectation, sql_model_cache, trigger_checks,
};

/// A project with its parse errors.
#[derive(Debug)]
pub struct ParsedProject {
    project: Project,
    /// Errors of all files. Errors in the project file come first.
    errors: Vec<Error>,
    /// Errors of triggers, each with the name of the function to call: the function cannot be
    /// called, or the trigger's name is not unique. Only deployments use triggers.
    trigger_errors: Vec<(String, Error)>,
    /// The handlers of functions with a Python runtime. Only deployments check them.
    handlers: Vec<PythonHandler>,
}

impl ParsedProject {
    /// Parses a project's files, given by path relative to its root. `constants` evaluates constant
    /// expressions in SQL.
    ///
    /// Fails with `invalid_project` if there is no project file, or more than one.
    pub fn read(files: &ProjectFiles, constants: ConstantEvaluatorFn) -> Result<ParsedProject> {
        let texts = &texts(files);
        let file = manifest::file_name(texts)?;
        let mut errors = Vec::new();
        let mut manifest = manifest::parse(file, texts).unwrap_or_else(|error| {
            errors.push(error);
            manifest::Manifest::default()
        });
        errors.extend(manifest.model_files.check(texts).err());
        let (mut steps, mut callables): (Vec<Step>, Vec<Callable>) = Default::default();
        let defines_models =
            |path: &str| manifest.model_files.contains(path) && !is_in_function(&manifest, path);
        let model_files: Vec<_> = texts.iter().filter(|(path, _)| defines_models(path)).collect();
        let namespace = &manifest.defaults.namespace;
        let read =
            |(path, text): &(&String, &String)| read_file(path, text, namespace, texts, constants);
        for found in parallel_map::map(&model_files, read) {
            match found {
                Ok(found) => {
                    steps.extend(found.steps);
                    callables.extend(found.callables);
                }
                Err(error) => errors.push(error),
            }
        }
        let files = Arc::new(files.clone());
        let mut sandbox_files = Arc::clone(&files);
        let handlers = manifest.commands.iter().filter_map(PythonHandler::of).collect();
        for CommandFunction { callable, module, .. } in std::mem::take(&mut manifest.commands) {
            let path = callable.function.file.to_string();
            Arc::make_mut(&mut sandbox_files).insert(path, module.into());
            callables.push(callable);
        }
        errors.extend(check_names(&steps).err());
        errors.extend(row_expectation::check(&steps).err());
        let callables = by_name(callables, &mut errors);
        let defaults = &manifest.defaults;
        errors.extend(callables.values().filter_map(|one| one.check_budget(defaults).err()));
        errors.extend(steps.iter().filter_map(|step| check_growing(step).err()));
        errors.extend(steps.iter().filter_map(|step| check_view(step).err()));
        errors.extend(steps.iter().filter_map(|step| partition_overwrite::check(step).err()));
        errors.extend(steps.iter().filter_map(|step| check_outputs(step).err()));
        let manifest::Manifest { name, defaults, parameters, rates, triggers: mut located, .. } =
            manifest;
        located.extend(callables.values().flat_map(|callable| callable.triggers.iter().cloned()));
        let triggers = located.iter().map(|located| located.trigger.clone()).collect();
        let mut project = Project {
            file,
            name,
            defaults,
            parameters,
            rates,
            triggers,
            steps,
            callables,
            files,
            sandbox_files,
        };
        errors.extend(parameter::check_uses(&project).err());
        errors.extend(parameter::use_secrets(&mut project).err());
        let trigger_errors = trigger_checks::check(&located, &project, &errors);
        Ok(ParsedProject { project, errors, trigger_errors, handlers })
    }

    /// Adds an error for each handler whose file is invalid Python, or certainly does not define
    /// its function, and for each memory limit with which no call can succeed. Blocks on the disk
    /// for files in packages.
    #[must_use]
    pub fn with_deployment_errors(mut self) -> Self {
        let files = &self.project.files;
        // A file that may define models was parsed before, so its syntax error is already reported.
        let is_reported = |handler: &&PythonHandler| {
            self.errors.iter().filter_map(Error::file).any(|it| handler.is_in(it))
        };
        let checked = self.handlers.iter().filter(|handler| !is_reported(handler));
        let errors: Vec<Error> = checked.filter_map(|handler| handler.check(files).err()).collect();
        self.errors.extend(errors);
        self.errors.extend(minimum_memory::check(&self.project));
        self
    }

    /// Returns the project, or all errors of its files. Triggers may also call functions outside
    /// the project for which `exists` returns true.
    pub fn into_whole(self, exists: impl Fn(&str) -> bool) -> Result<Project> {
        let mut errors = self.errors;
        let is_error = |name: &String| self.project.callables.contains_key(name) || !exists(name);
        let of_triggers = self.trigger_errors.into_iter().filter(|(name, _)| is_error(name));
        errors.extend(of_triggers.map(|(_, error)| error));
        match errors.len() {
            0 => Ok(self.project),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several { errors }),
        }
    }

    /// Returns the project, or the first error in the files that a run needs.
    pub fn into_runnable(self) -> Result<Project> {
        let ParsedProject { project, errors, .. } = self;
        let needed = errors.into_iter().find(|error| is_needed_by_run(error, &project));
        needed.map_or(Ok(project), Err)
    }

    /// Returns the project with the function named `name`; `None` if no file defines this function.
    /// Fails if the file that defines the function cannot be parsed.
    pub fn into_callable(self, name: &str) -> Result<(Project, Option<Callable>)> {
        let ParsedProject { project, errors, .. } = self;
        let found = project.callables.get(name).cloned();
        let concerns = |error: &Error| match (error, error.file()) {
            (Error::Duplicate { name: duplicate, .. }, _) => duplicate == name,
            (_, Some(file)) if file == project.file => true,
            // A file that cannot be parsed may define the function if its text contains the
            // function's name.
            (_, Some(file)) => {
                found.is_none()
                    && project.files.get(file).is_some_and(|file| file.text().contains(name))
            }
            (_, None) => false,
        };
        match errors.into_iter().find(concerns) {
            Some(error) => Err(error),
            None => Ok((project, found)),
        }
    }
}

/// Returns the texts of files; the texts of binary files are empty.
pub(super) fn texts(files: &ProjectFiles) -> BTreeMap<String, String> {
    files.iter().map(|(path, file)| (path.clone(), file.text().to_owned())).collect()
}

/// Checks that a model with outputs has a table, because outputs are read from the table.
fn check_outputs(step: &Step) -> Result<()> {
    if step.outputs.is_empty() || step.is_materialized() {
        return Ok(());
    }
    let message = format!("`{}` has `outputs`, but is not stored as a table", step.name);
    Err(Error::invalid(step.at.clone(), message, "Set `materialization`, for example `replace`."))
}

/// Returns true if a file is in the folder of a function with a runtime.
fn is_in_function(manifest: &manifest::Manifest, path: &str) -> bool {
    let mut folders = manifest.commands.iter().filter_map(|function| function.folder.as_deref());
    folders.any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

/// Returns true if a run needs the file with the error. A run does not need a Python file that
/// certainly defines no step.
fn is_needed_by_run(error: &Error, project: &Project) -> bool {
    let Some(file) = error.file() else { return true };
    let text = project.files.get(file).map_or("", FileContent::text);
    let is_python = file.rsplit_once('.').is_some_and(|(_, ending)| ending == "py");
    let names_step = ["model", "expectation", "bauplan"].iter().any(|word| text.contains(word));
    // The decorator of a step may be misspelled. So any file that contains the word `headwater` may
    // define a step. A file that also contains the word `function` is assumed to define only
    // callable functions.
    !is_python || names_step || (text.contains("headwater") && !text.contains("function"))
}

fn read_file(
    path: &str,
    text: &str,
    namespace: &str,
    files: &BTreeMap<String, String>,
    constants: ConstantEvaluatorFn,
) -> Result<python::FileDefinitions> {
    let source = SourceText::new(path, text);
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("sql") => {
            let steps = vec![sql_model_cache::parse(&source, namespace, files, constants)?];
            Ok(python::FileDefinitions { steps, ..python::FileDefinitions::default() })
        }
        Some("py") => deeply(|| python::parse(&source, namespace, files)),
        _ => Ok(python::FileDefinitions::default()),
    }
}
