//! Projects as their files define them: settings, parameters, triggers and steps. Files are parsed,
//! never executed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{DEFAULT_NAMESPACE, Priority, ProjectFiles, RateCard, Trigger, name};
use headwater_sql::time_travel::ConstantEvaluatorFn;

use crate::{
    Callable, Error, Location, Materialization, Parameter, ParsedProject, Result, Step, StepKind,
};
use crate::{manifest, parameter, parsed_project};

/// A parsed project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Name of the project file.
    pub file: &'static str,
    /// Project name.
    pub name: String,
    /// The default settings of steps.
    pub defaults: Defaults,
    /// Declared parameters by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Rates for the cost of a run.
    pub rates: RateCard,
    /// Triggers of the project file and of functions.
    pub triggers: Vec<Trigger>,
    /// Models and expectations, sorted by file.
    pub steps: Vec<Step>,
    /// Callable functions by name.
    pub callables: BTreeMap<String, Callable>,
    /// All files by path.
    pub files: Arc<ProjectFiles>,
    /// The files as copied into sandboxes, with the modules that start programs.
    pub sandbox_files: Arc<ProjectFiles>,
}

/// The settings of a project that are also needed outside of runs.
#[derive(Debug, Clone)]
pub struct ProjectSettings {
    /// Project name.
    pub name: String,
    /// Rates for the cost of a run.
    pub rates: RateCard,
}

/// The default settings of steps and functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Python version.
    pub python: Option<String>,
    /// Location of the Python version.
    pub python_at: Option<Location>,
    /// Packages of functions without `pip=`.
    pub packages: BTreeMap<String, String>,
    /// System programs of functions without `system=`.
    pub system: Vec<String>,
    /// Namespace of unqualified table names.
    pub namespace: String,
    /// Memory limit of a function, in bytes.
    pub memory_bytes: Option<u64>,
    /// Time limit of a function.
    pub timeout: Option<Duration>,
    /// Priority of queued function calls.
    pub priority: Option<Priority>,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            python: None,
            python_at: None,
            packages: BTreeMap::new(),
            system: Vec::new(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            memory_bytes: None,
            timeout: None,
            priority: None,
        }
    }
}

impl Project {
    /// Parses a project's files, given by path relative to its root. Returns the first error.
    /// `constants` evaluates constant expressions in SQL.
    pub fn parse(files: &ProjectFiles, constants: ConstantEvaluatorFn) -> Result<Project> {
        match ParsedProject::read(files, constants)?.into_whole(|_| false) {
            Err(Error::Several { mut errors }) => Err(errors.swap_remove(0)),
            other => other,
        }
    }

    /// Returns the name and rates from the project file. No other file is parsed.
    ///
    /// Error: `invalid_project` if the file is missing or invalid.
    pub fn read_settings(files: &ProjectFiles) -> Result<ProjectSettings> {
        let files = &parsed_project::texts(files);
        let manifest = manifest::parse(manifest::file_name(files)?, files)?;
        Ok(ProjectSettings { name: manifest.name, rates: manifest.rates })
    }

    /// Returns the name and rates from the project file. Errors in other sections are ignored.
    ///
    /// Error: `invalid_project` if the file is missing, or its name or rates are invalid.
    pub fn read_applied_settings(files: &ProjectFiles) -> Result<ProjectSettings> {
        let files = &parsed_project::texts(files);
        manifest::parse_settings(manifest::file_name(files)?, files)
    }

    /// Returns the models, SQL and Python.
    pub fn models(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.is_expectation())
    }

    /// Returns the expectations.
    pub fn expectations(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.is_expectation())
    }

    /// Returns the parameter values of a run: the given values, checked against their types, or the
    /// defaults.
    pub fn parameter_values(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, serde_json::Value>> {
        parameter::values(self, given)
    }
}

/// Indexes functions by name; adds an error for each duplicate.
pub(crate) fn by_name(
    callables: Vec<Callable>,
    errors: &mut Vec<Error>,
) -> BTreeMap<String, Callable> {
    let mut named: BTreeMap<String, Callable> = BTreeMap::new();
    for callable in callables {
        match named.get(&callable.name) {
            Some(first) => {
                let (first, second) = (first.at.clone(), callable.at.clone());
                errors.push(Error::Duplicate { name: callable.name, first, second });
            }
            None => {
                named.insert(callable.name.clone(), callable);
            }
        }
    }
    named
}

/// Rejects step names that differ only by case, because SQL matches them case-insensitively.
pub(crate) fn check_names(steps: &[Step]) -> Result<()> {
    let mut seen: BTreeMap<String, &Step> = BTreeMap::new();
    for step in steps {
        if name::is_system(&step.table.namespace) {
            let message =
                format!("`{}` is in a namespace that is reserved for Headwater", step.name);
            return Err(Error::invalid(step.at.clone(), message, "Choose another namespace."));
        }
        let name = format!("{}.{}", step.table.namespace, step.table.name).to_lowercase();
        if let Some(first) = seen.insert(name, step) {
            return Err(Error::Duplicate {
                name: step.name.clone(),
                first: first.at.clone(),
                second: step.at.clone(),
            });
        }
    }
    Ok(())
}

/// Checks that models with `merge`, and only these, have keys, and that incremental inputs are used
/// only with `append` or `merge`.
pub(crate) fn check_growing(step: &Step) -> Result<()> {
    let refuse =
        |at: &Location, message: String, hint: &str| Err(Error::invalid(at.clone(), message, hint));
    let merges = step.materialization == Materialization::Merge;
    if merges && step.keys.is_empty() {
        let message = format!("`{}` has the materialization `merge`, but no `keys`", step.name);
        return refuse(&step.at, message, "Set `keys` to the columns that identify its rows.");
    }
    if !merges && !step.keys.is_empty() {
        let message =
            format!("`{}` has `keys`, which only the materialization `merge` uses", step.name);
        return refuse(&step.at, message, "Set `materialization` to `merge`, or leave `keys` out.");
    }
    let repeated = |at: usize| step.keys[..at].contains(&step.keys[at]);
    if let Some(at) = (0..step.keys.len()).find(|at| repeated(*at)) {
        let message = format!("`{}` lists the key `{}` twice", step.name, step.keys[at]);
        return refuse(&step.at, message, "Name each key once.");
    }
    for input in step.inputs.iter().filter(|input| input.incremental) {
        if !matches!(step.materialization, Materialization::Append | Materialization::Merge) {
            let what = if step.is_expectation() { "an expectation" } else { "a model" };
            let message = format!(
                "`{}` reads `{}` incrementally, but is {what} that does not add rows to a table",
                step.name, input.table
            );
            let hint = "Set `materialization` to `append` or `merge`, or read the whole table.";
            return refuse(&input.at, message, hint);
        }
        if input.reference.is_some() {
            let message = format!(
                "`{}` reads a table at another ref incrementally, which is not supported",
                step.name
            );
            return refuse(&input.at, message, "Read the table at the run's own branch.");
        }
    }
    Ok(())
}

/// Checks that a view is a SQL model without parameters and without settings of tables.
pub(crate) fn check_view(step: &Step) -> Result<()> {
    if !step.is_view() {
        return Ok(());
    }
    let (why, hint) = if step.kind != StepKind::Sql {
        ("is written in Python", "Use another materialization, or write the model in SQL.")
    } else if !step.parameters.is_empty() {
        ("uses parameters", "Use another materialization, or write the values into the query.")
    } else if !step.partition_by.is_empty() {
        (
            "has `partition_by`, which is for tables",
            "Omit `partition_by`, or use another materialization.",
        )
    } else if step.contract.iter().any(|column| !column.nullable) {
        (
            "has a `not null` column, which needs stored rows",
            "Omit `not null`, or use another materialization.",
        )
    } else if !step.row_expectations.is_empty() {
        ("has row expectations, which need stored rows", "Write the conditions as expectations.")
    } else {
        return Ok(());
    };
    let message = format!("`{}` is a view, but {why}", step.name);
    Err(Error::invalid(step.at.clone(), message, hint))
}

/// Stack size for parsing; untouched pages use no memory.
const STACK_BYTES: usize = 1 << 30;

/// Runs a parser on a thread with a large stack. Deeply nested code would overflow a stack of
/// normal size and crash the server.
pub(crate) fn deeply<T: Send>(read: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = || {
        headwater_model::Problem::new(
            headwater_model::ErrorCode::Internal,
            "no thread is available to read the project's code",
        )
    };
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES);
        let reader = reader.spawn_scoped(scope, read).map_err(|_| failed())?;
        reader.join().map_err(|_| failed())?
    })
}
