//! A project as its files define it: settings, parameters, triggers and steps, parsed and never
//! run.

mod callable;
mod manifest;
mod parameter;
mod parsed;
mod python;
mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{DEFAULT_NAMESPACE, Priority, RateCard, Trigger, name};

use crate::{Error, Location, Materialization, Result, Step};
pub use callable::Callable;
pub use parameter::{Parameter, ParameterKind};
pub use parsed::Parsed;
pub(crate) use sql::located;

/// The file that makes a folder a project.
pub(crate) const MANIFEST: &str = "headwater.toml";

/// A project, parsed.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// What steps have that do not say otherwise.
    pub defaults: Defaults,
    /// The parameters it declares.
    pub parameters: BTreeMap<String, Parameter>,
    /// What its work costs.
    pub rates: RateCard,
    /// What starts work by itself.
    pub triggers: Vec<Trigger>,
    /// Models and expectations, by name.
    pub steps: Vec<Step>,
    /// Functions that are called by their names, in order of those.
    pub callables: BTreeMap<String, Callable>,
    /// Every file, as it travels into sandboxes.
    pub files: Arc<BTreeMap<String, String>>,
}

/// What steps have that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The Python version.
    pub python: Option<String>,
    /// Where that is written.
    pub python_at: Option<Location>,
    /// Packages of functions that have no `pip=`.
    pub packages: BTreeMap<String, String>,
    /// Programs of the machine that functions call which have no `system=`.
    pub system: Vec<String>,
    /// Where bare table names lie.
    pub namespace: String,
    /// Memory of a function, in bytes.
    pub memory_bytes: Option<u64>,
    /// Time of a function.
    pub timeout: Option<Duration>,
    /// How much a function matters where more calls wait than can run.
    pub priority: Option<Priority>,
    /// Whether what functions return is handed over without a copy, where the server allows that.
    pub arena: bool,
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
            arena: false,
        }
    }
}

impl Project {
    /// Parses a project's files, given by path relative to its root. The first error counts.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Project> {
        match Parsed::read(files)?.into_whole() {
            Err(Error::Several { mut errors }) => Err(errors.swap_remove(0)),
            other => other,
        }
    }

    /// The models, SQL and Python.
    pub fn models(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.is_expectation())
    }

    /// The expectations.
    pub fn expectations(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.is_expectation())
    }

    /// The values of a run: those given, checked against their types, over the defaults.
    pub fn parameter_values(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, serde_json::Value>> {
        parameter::values(&self.parameters, &self.steps, given)
    }
}

/// Functions by their names; an error for each further one of a name.
fn by_name(callables: Vec<Callable>, errors: &mut Vec<Error>) -> BTreeMap<String, Callable> {
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

/// Names that differ by case alone are the same to a query.
fn check_names(steps: &[Step]) -> Result<()> {
    let mut seen: BTreeMap<String, &Step> = BTreeMap::new();
    for step in steps {
        if name::is_system(&step.table.namespace) {
            let message = format!("`{}` lies in Headwater's own namespace", step.name);
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

/// Keys belong to models that are merged, and inputs of which only the new is read to models whose
/// tables grow.
fn check_growing(step: &Step) -> Result<()> {
    let refuse =
        |at: &Location, message: String, hint: &str| Err(Error::invalid(at.clone(), message, hint));
    let merges = step.materialization == Materialization::Merge;
    if merges && step.keys.is_empty() {
        let message = format!("`{}` is merged into its table, and has no keys", step.name);
        return refuse(&step.at, message, "Set `keys` to the columns that tell its rows apart.");
    }
    if !merges && !step.keys.is_empty() {
        let message = format!("`{}` has keys, and is not merged into its table", step.name);
        return refuse(&step.at, message, "Set `materialization` to `merge`, or leave `keys` out.");
    }
    let repeated = |at: usize| step.keys[..at].contains(&step.keys[at]);
    if let Some(at) = (0..step.keys.len()).find(|at| repeated(*at)) {
        let message = format!("`{}` has the key `{}` twice", step.name, step.keys[at]);
        return refuse(&step.at, message, "Name each key once.");
    }
    for input in step.inputs.iter().filter(|input| input.incremental) {
        if !step.materialization.accumulates() {
            let what = if step.is_expectation() { "an expectation" } else { "a model" };
            let message = format!(
                "`{}` reads only what is new of `{}`, and is {what} whose rows are not added to a table",
                step.name, input.table
            );
            let hint = "Set `materialization` to `append` or `merge`, or read all of it.";
            return refuse(&input.at, message, hint);
        }
        if input.reference.is_some() {
            let message =
                format!("`{}` reads only what is new of a table at another ref", step.name);
            return refuse(&input.at, message, "Read it at the run's own branch.");
        }
    }
    Ok(())
}

/// The stack for reading code, of which only what is used is ever backed by memory.
const STACK_BYTES: usize = 1 << 30;

/// Runs a reader of code on a stack of its own: syntax trees are as deep as whoever wrote the code
/// liked, and a server must not end by that.
fn deeply<T: Send>(read: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = || {
        headwater_model::Problem::new(
            headwater_model::ErrorCode::Internal,
            "the project's code cannot be read now",
        )
    };
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES);
        let reader = reader.spawn_scoped(scope, read).map_err(|_| failed())?;
        reader.join().map_err(|_| failed())?
    })
}
