//! Steps of a project: SQL models, Python models and expectations, as their files define them.
//!
//! A step contains the names of its inputs. The graph determines whether a name is a model or a
//! lake table, and planning checks that the table exists at a ref.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{PartitionField, Priority, RefSpec, TableName};
use headwater_sandbox::{EnvironmentVariables, Limits, NetworkAccess};
use headwater_sql::CalledFunction;

use crate::{DeclaredColumn, Defaults, Location, RowExpectation};

/// A model or an expectation.
#[derive(Debug, Clone)]
pub struct Step {
    /// Display name: the model's table, or the expectation's function.
    pub name: String,
    /// Table of a model. For an expectation, a placeholder that is not used.
    pub table: TableName,
    /// SQL model, Python model or expectation.
    pub kind: StepKind,
    /// Location of the definition.
    pub at: Location,
    /// The docstring of a function, or the comments above a query; empty if there are none.
    pub description: String,
    /// Materialization of the model's rows.
    pub materialization: Materialization,
    /// Key columns of a model with `merge`.
    pub keys: Vec<String>,
    /// Partition fields of the table, in order.
    pub partition_by: Vec<PartitionField>,
    /// Location of the partition fields, or of the definition if there are none.
    pub partition_at: Location,
    /// True if the model may take over a table that no model of its project wrote.
    pub allow_takeover: bool,
    /// Declared output columns, which are checked after the model has run.
    pub columns: Option<Vec<String>>,
    /// True if a run that is not strict only warns about output columns that differ from the
    /// declaration.
    pub lenient_columns: bool,
    /// The declared types and nullability of output columns.
    pub contract: Vec<DeclaredColumn>,
    /// The declared input columns from which each output column is computed. For Python models
    /// only; in SQL models, the query's columns are traced.
    pub lineage: BTreeMap<String, Vec<InputColumn>>,
    /// Condition that selects the rows to be replaced by `overwrite_partitions`, as SQL with
    /// `$parameters`. If `None`, the partitions of the new rows are replaced.
    pub overwrite_filter: Option<String>,
    /// True if the step always runs, even if none of its dependencies changed.
    pub always_runs: bool,
    /// Tags, which selectors can refer to.
    pub tags: Vec<String>,
    /// Addresses to which the rows of the model's table are written after a run is merged.
    pub outputs: Vec<String>,
    /// Consequence of a failed expectation.
    pub severity: Severity,
    /// Conditions for the rows of a model's result.
    pub row_expectations: Vec<RowExpectation>,
    /// Memory limit in bytes; `None` uses the project's default.
    pub memory_bytes: Option<u64>,
    /// Time limit; `None` uses the project's default.
    pub timeout: Option<Duration>,
    /// Retries of a SQL model. The retries of a Python step are settings of the step's function.
    pub retries: Retries,
    /// Input tables, in source order.
    pub inputs: Vec<StepInput>,
    /// Functions that the query of a SQL model calls.
    pub calls: Vec<CalledFunction>,
    /// Parameters that the step uses.
    pub parameters: Vec<ParameterInput>,
    /// SQL text or Python function.
    pub body: StepCode,
}

impl Step {
    /// Returns true for an expectation.
    pub fn is_expectation(&self) -> bool {
        self.kind == StepKind::Expectation
    }

    /// Returns true if a run writes the rows to a table.
    pub fn is_materialized(&self) -> bool {
        !self.is_expectation()
            && !matches!(self.materialization, Materialization::None | Materialization::View)
    }

    /// Returns true if a run creates a view instead of a table.
    pub fn is_view(&self) -> bool {
        !self.is_expectation() && self.materialization == Materialization::View
    }

    /// Returns true if any input is read incrementally.
    pub fn is_incremental(&self) -> bool {
        self.inputs.iter().any(|input| input.incremental)
    }

    /// Returns the Python function of the step; `None` for a SQL model.
    pub fn function(&self) -> Option<&PythonFunction> {
        match &self.body {
            StepCode::Python(function) => Some(function),
            StepCode::Sql(_) => None,
        }
    }

    /// Returns true if the step may access the network. Its output then does not depend on its
    /// inputs alone.
    pub fn reads_network(&self) -> bool {
        matches!(&self.body, StepCode::Python(function) if !function.network.denies_all())
    }
}

/// Kind of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// Model defined by one SELECT.
    Sql,
    /// Model defined by a Python function.
    Python,
    /// A Python function that takes tables and returns a boolean.
    Expectation,
}

impl StepKind {
    /// Returns `sql`, `python` or `expectation`.
    pub const fn as_str(self) -> &'static str {
        match self {
            StepKind::Sql => "sql",
            StepKind::Python => "python",
            StepKind::Expectation => "expectation",
        }
    }
}

/// Consequence of a failed expectation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Fails the run if the run is strict, otherwise causes a warning.
    #[default]
    Fail,
    /// Causes only a warning.
    Warn,
    /// Writes the failing rows to another table; only for row expectations.
    Quarantine,
}

impl Severity {
    /// Parses `fail`, `warn` or `quarantine`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "fail" => Some(Severity::Fail),
            "warn" => Some(Severity::Warn),
            "quarantine" => Some(Severity::Quarantine),
            _ => None,
        }
    }
}

/// Storage of a model's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Materialization {
    /// The rows are dropped at the end of the run.
    #[default]
    None,
    /// The rows and their schema replace the rows and the schema of the table.
    Replace,
    /// The rows are appended to the table.
    Append,
    /// The rows are upserted by key.
    Merge,
    /// The rows replace the existing rows of the same partitions, or the rows selected by the
    /// overwrite filter.
    OverwritePartitions,
    /// The query becomes an SQL view of the lake, which stores no rows.
    View,
}

impl Materialization {
    /// All variants, in the order of the documentation.
    pub const ALL: [Materialization; 6] = [
        Materialization::None,
        Materialization::Replace,
        Materialization::Append,
        Materialization::Merge,
        Materialization::OverwritePartitions,
        Materialization::View,
    ];

    /// Returns the name: `none`, `replace`, `append`, `merge`, `overwrite_partitions` or
    /// `view`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Materialization::None => "none",
            Materialization::Replace => "replace",
            Materialization::Append => "append",
            Materialization::Merge => "merge",
            Materialization::OverwritePartitions => "overwrite_partitions",
            Materialization::View => "view",
        }
    }

    /// Returns true if the table keeps rows of earlier runs.
    pub const fn accumulates(self) -> bool {
        matches!(
            self,
            Materialization::Append | Materialization::Merge | Materialization::OverwritePartitions
        )
    }

    /// Parses the text form, case-insensitively.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text))
    }
}

/// A table that a step reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInput {
    /// Python argument that receives the table; `None` in SQL.
    pub argument: Option<String>,
    /// Table name. If the source has no namespace, the table is in the project's namespace.
    pub table: TableName,
    /// Explicit ref, if any. An input with a ref is always a lake table, even if a model has the
    /// same name.
    pub reference: Option<RefSpec>,
    /// Selected columns in order, Python only; `None` selects all.
    pub columns: Option<Vec<String>>,
    /// Declared types of the columns, Python only.
    pub contract: Vec<DeclaredColumn>,
    /// Row filter as SQL with `$parameters`, Python only.
    pub filter: Option<String>,
    /// If true, the model reads only rows that were appended since its last run.
    pub incremental: bool,
    /// If true, a Python function receives the table as a stream of record batches.
    pub batches: bool,
    /// Location in the source.
    pub at: Location,
}

impl StepInput {
    /// Returns the SELECT statement that reads the selected columns and rows.
    pub fn query(&self) -> String {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let columns = match &self.columns {
            Some(columns) => columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", "),
            None => "*".to_owned(),
        };
        let name = match &self.reference {
            Some(reference) => format!("{}@{reference}", self.table.name),
            None => self.table.name.clone(),
        };
        let table = format!("{}.{}", quote(&self.table.namespace), quote(&name));
        let filter = self.filter.as_ref().map(|filter| format!(" WHERE {filter}"));
        format!("SELECT {columns} FROM {table}{}", filter.unwrap_or_default())
    }
}

/// A column of one of a step's inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// Position of the input in [`Step::inputs`].
    pub input: usize,
    /// Column name.
    pub column: String,
}

/// A parameter that a step uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInput {
    /// Python argument that receives the value; `None` in SQL and in filters.
    pub argument: Option<String>,
    /// Parameter name.
    pub name: String,
    /// Location in the source.
    pub at: Location,
}

/// Retries of a model or function after failures that may be transient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of retries.
    pub count: u32,
    /// The wait before the first retry. The wait doubles before each further retry.
    pub backoff: Duration,
}

impl Retries {
    /// Maximum number of retries that a project may declare.
    pub const COUNT_MAX: u32 = 100;

    /// Maximum wait before a retry.
    const WAIT_MAX: Duration = Duration::from_secs(300);

    /// Returns the wait before the retry with this number. Retries are numbered from 1.
    pub fn wait(&self, repetition: u32) -> Duration {
        let factor = 2u32.saturating_pow(repetition.saturating_sub(1));
        self.backoff.saturating_mul(factor).min(Self::WAIT_MAX.max(self.backoff))
    }
}

impl Default for Retries {
    fn default() -> Self {
        Retries { count: 0, backoff: Duration::from_secs(1) }
    }
}

/// Code of a step.
#[derive(Debug, Clone)]
pub enum StepCode {
    /// The text of one SELECT. The text includes comments, so that line numbers match the file.
    Sql(Arc<str>),
    /// A Python function.
    Python(Box<PythonFunction>),
}

impl StepCode {
    /// Returns the Python function; `None` for SQL.
    pub(crate) fn as_function_mut(&mut self) -> Option<&mut PythonFunction> {
        match self {
            StepCode::Python(function) => Some(function),
            StepCode::Sql(_) => None,
        }
    }
}

/// A Python function of a project.
#[derive(Debug, Clone)]
pub struct PythonFunction {
    /// File that defines the function.
    pub file: Arc<str>,
    /// Function name.
    pub name: String,
    /// Python version; `None` uses the project's default.
    pub python: Option<String>,
    /// Location of the version, or else of the function; `None` if the version is the project's
    /// default.
    pub python_at: Option<Location>,
    /// Package requirements; `None` uses the project's defaults.
    pub packages: Option<BTreeMap<String, String>>,
    /// System programs that the function runs; `None` uses the project's defaults.
    pub system: Option<Vec<String>>,
    /// Network access.
    pub network: NetworkAccess,
    /// Size of `/tmp` in bytes, if specified.
    pub temp_bytes: Option<u64>,
    /// CPU limit in thousandths of a CPU, if specified.
    pub cpu_millis: Option<u32>,
    /// Environment variables.
    pub variables: EnvironmentVariables,
    /// Names of secrets. The function receives their values as environment variables.
    pub secrets: Vec<String>,
    /// Priority of queued calls; `None` uses the project's default.
    pub priority: Option<Priority>,
    /// True if one process may execute several calls of the same callable, or several steps of one
    /// run.
    pub reuse: bool,
    /// True if the function's process starts another program as its Lambda runtime, such as Node.
    pub starts_runtime: bool,
    /// Retries after failures that may be transient.
    pub retries: Retries,
    /// Source code that the code fingerprint covers: the project modules that the function imports,
    /// and the function's file without other steps that the function does not use.
    pub code: Arc<str>,
    /// The paths of the project modules included in `code`, sorted.
    pub modules: Vec<Arc<str>>,
}

impl PythonFunction {
    /// Returns the limits of an instance. `memory_bytes` and `timeout` are the values of the step
    /// or callable. If `None`, the project's defaults apply.
    pub fn limits(
        &self,
        defaults: &Defaults,
        memory_bytes: Option<u64>,
        timeout: Option<Duration>,
    ) -> Limits {
        let standard = Limits::default();
        Limits {
            memory_bytes: memory_bytes.or(defaults.memory_bytes).unwrap_or(standard.memory_bytes),
            timeout: timeout.or(defaults.timeout).unwrap_or(standard.timeout),
            network: self.network.clone(),
            temp_bytes: self.temp_bytes.unwrap_or(standard.temp_bytes),
            cpu_millis: self.cpu_millis,
            variables: self.variables.clone(),
            settings: standard.settings,
        }
    }

    /// Returns the priority of the function's calls in the queue.
    pub fn priority(&self, defaults: &Defaults) -> Priority {
        self.priority.or(defaults.priority).unwrap_or_default()
    }
}
