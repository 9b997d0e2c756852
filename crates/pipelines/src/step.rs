//! A step of a project: a model in SQL or Python, or an expectation, as its file defines it.
//!
//! A step says what it reads by name. Whether a name is another model or a lake table is the
//! graph's affair; whether it exists at all is found out against a ref.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_functions::{Network, Variables};
use headwater_model::{PartitionField, Priority, RefSpec, TableName};

use crate::Location;

/// A model or an expectation.
#[derive(Debug, Clone)]
pub struct Step {
    /// The model's table, or the expectation's function, for people.
    pub name: String,
    /// The table a model stands for; expectations have one too, which is never written.
    pub table: TableName,
    /// SQL, Python or expectation.
    pub kind: StepKind,
    /// Where it is defined.
    pub at: Location,
    /// What becomes of a model's rows.
    pub materialization: Materialization,
    /// The columns that tell a merged model's rows apart.
    pub keys: Vec<String>,
    /// Partition fields of the table, in order.
    pub partition_by: Vec<PartitionField>,
    /// Where those are written, or else where the step is defined.
    pub partition_at: Location,
    /// Whether it may take over a table that no model of its project made.
    pub adopt: bool,
    /// The output columns that were declared, checked after the model ran.
    pub columns: Option<Vec<String>>,
    /// Memory it may hold, in bytes; the project's default where nothing is said.
    pub memory_bytes: Option<u64>,
    /// Time it may take; the project's default where nothing is said.
    pub timeout: Option<Duration>,
    /// The tables it reads, in the order they are written.
    pub inputs: Vec<Input>,
    /// The parameters it uses.
    pub parameters: Vec<ParameterInput>,
    /// How it is computed.
    pub body: Body,
}

impl Step {
    /// Whether it is an expectation.
    pub fn is_expectation(&self) -> bool {
        self.kind == StepKind::Expectation
    }

    /// Whether a run writes its rows to a table.
    pub fn is_materialized(&self) -> bool {
        !self.is_expectation() && self.materialization != Materialization::None
    }

    /// Whether it reads only what is new of any input.
    pub fn is_incremental(&self) -> bool {
        self.inputs.iter().any(|input| input.incremental)
    }

    /// Whether it may reach the network, so that its inputs do not determine its output.
    pub fn reads_network(&self) -> bool {
        matches!(&self.body, Body::Python(function) if !function.network.is_off())
    }
}

/// What kind of step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// A model that is one SELECT.
    Sql,
    /// A model that is a Python function.
    Python,
    /// A Python function from tables to a boolean.
    Expectation,
}

impl StepKind {
    /// `sql`, `python` or `expectation`.
    pub const fn as_str(self) -> &'static str {
        match self {
            StepKind::Sql => "sql",
            StepKind::Python => "python",
            StepKind::Expectation => "expectation",
        }
    }
}

/// What becomes of a model's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Materialization {
    /// They live as long as the run.
    #[default]
    None,
    /// They replace the table's rows and schema.
    Replace,
    /// They are added to the table's rows.
    Append,
    /// They replace the table's rows of the same keys, and are added where there are none.
    Merge,
}

impl Materialization {
    /// Every one, in the order of the documentation.
    pub const ALL: [Materialization; 4] = [
        Materialization::None,
        Materialization::Replace,
        Materialization::Append,
        Materialization::Merge,
    ];

    /// `none`, `replace`, `append` or `merge`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Materialization::None => "none",
            Materialization::Replace => "replace",
            Materialization::Append => "append",
            Materialization::Merge => "merge",
        }
    }

    /// Whether the table's rows outlive the next run, so that it holds more than the model gives.
    pub const fn accumulates(self) -> bool {
        matches!(self, Materialization::Append | Materialization::Merge)
    }

    /// Reads the text form, whatever its case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text))
    }
}

/// A table that a step reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The Python argument that receives it; none in SQL.
    pub argument: Option<String>,
    /// Its name, in the project's namespace where none was written.
    pub table: TableName,
    /// The ref it is read at, where the step says so; then it is no model of this run.
    pub reference: Option<RefSpec>,
    /// Python only: the columns wanted, in order; all where nothing is said.
    pub columns: Option<Vec<String>>,
    /// Python only: the rows wanted, as SQL with `$parameters`.
    pub filter: Option<String>,
    /// Whether only those rows are read that were appended since the model last ran.
    pub incremental: bool,
    /// Python only: whether it is handed over batch by batch, while it is read.
    pub batches: bool,
    /// Where it is written.
    pub at: Location,
}

impl Input {
    /// The query that gives the columns and rows wanted.
    pub(crate) fn query(&self) -> String {
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

/// A parameter that a step uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInput {
    /// The Python argument that receives it; none in SQL and in filters.
    pub argument: Option<String>,
    /// The parameter.
    pub name: String,
    /// Where it is written.
    pub at: Location,
}

/// How a step is computed.
#[derive(Debug, Clone)]
pub enum Body {
    /// One SELECT, with its comments, so that lines count from the file's first.
    Sql(Arc<str>),
    /// A Python function.
    Python(Box<Function>),
}

/// A Python function of a project.
#[derive(Debug, Clone)]
pub struct Function {
    /// The file that defines it.
    pub file: Arc<str>,
    /// Its name in that file.
    pub name: String,
    /// The Python version it asks for; the project's default where nothing is said.
    pub python: Option<String>,
    /// Where the version is written, or else where the function is defined; none where it is the
    /// project's default.
    pub python_at: Option<Location>,
    /// The packages it asks for; the project's defaults where it has no `pip=`.
    pub packages: Option<BTreeMap<String, String>>,
    /// Programs of the machine that it calls; the project's defaults where it says nothing.
    pub system: Option<Vec<String>>,
    /// What it may reach.
    pub network: Network,
    /// The size of its `/tmp`, in bytes, where it asks for one.
    pub temp_bytes: Option<u64>,
    /// Thousandths of a processor that it may use at most, where it says so.
    pub cpu_millis: Option<u32>,
    /// Its environment variables.
    pub variables: Variables,
    /// How much it matters where more calls wait than can run; the project's default where nothing is
    /// said.
    pub priority: Option<Priority>,
    /// What its code fingerprint is made of: its file without the other steps it does not
    /// mention, and every helper module that is imported from there.
    pub code: Arc<str>,
}
