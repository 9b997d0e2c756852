//! What can be typed: every command, its arguments and its examples.
//!
//! One enum per noun, in the noun's file beside this; the file of the same name under `commands/` carries it
//! out. Here are the whole, and commands without a noun.

mod branch;
mod deployment;
mod diff;
mod environment;
mod function;
mod job;
mod namespace;
mod parse;
mod query;
mod reference;
mod run;
mod serve;
mod table;
mod tag;
mod trigger;
mod usage;
mod view;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::branch::{
    Branch, BranchCherryPick, BranchLs, BranchMerge, BranchRevert, BranchRm, Choice, Choices,
    CreateRef, RemoveRef, RenameRef,
};
pub use self::deployment::{Deploy, Deployment};
pub use self::diff::{BranchDiff, CompareArgument, HowToCompare, TableDiff};
pub use self::environment::{Environment, EnvironmentPrune, EnvironmentRebuild};
pub use self::function::{Function, FunctionInvoke};
pub use self::job::{Job, JobLogs, JobLs};
pub use self::namespace::Namespace;
pub use self::parse::parse;
pub use self::query::Query;
pub use self::reference::{BranchArgument, RefArgument};
pub use self::run::Run;
pub use self::serve::{IsolationArgument, Serve};
pub use self::table::{
    FormatArgument, OnErrorArgument, Table, TableGet, TableImport, TableLs, TableMaintain, TableRm,
};
pub use self::tag::Tag;
pub use self::trigger::{Trigger, TriggerEvents};
pub use self::usage::{Usage, UsageBy};
pub use self::view::{View, ViewGet, ViewRm};

/// How an answer is printed on standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated values; for rows only.
    Csv,
    /// One JSON object a line; for rows only.
    Ndjson,
}

/// `--color`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArgument {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// The most days that a command looks back: a hundred years.
const DAYS_MAX: u64 = 36_500;

const EXIT_CODES: &str = "Exit codes:
  0  it worked
  1  a fault of Headwater's own, or of the disk
  2  wrong input: arguments, SQL, names, a project file
  3  not found: a ref, table, job, trigger, file or lake
  4  a conflict: it exists already, or somebody else changed it first
  5  the work failed: a bad row, a function that raised, an expectation, packages
  6  a limit: memory, time, disk
  7  the server cannot be reached or is busy, or the host forbids isolation
  8  not allowed: a protected branch
  130  stopped by Ctrl-C or `headwater job stop`

Start with `headwater demo`, or with `headwater init`.";

/// A serverless lakehouse: SQL and Python functions, Iceberg tables, branches.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    /// The lake: a `.headwater` folder or the folder that holds one [default: the nearest upwards]
    #[arg(long, global = true, value_name = "DIR", env = "HEADWATER_LAKE")]
    pub lake: Option<PathBuf>,

    /// How answers are printed; with `json`, standard output holds one JSON document and nothing else
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub output: OutputFormat,

    /// When to colour what is printed; `auto` does on a terminal, unless `NO_COLOR` is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorArgument,

    /// Print each row of a table as a list, with one line per column
    #[arg(long, short = 'x', global = true)]
    pub expanded: bool,

    /// Run the server inside this command instead of in the background
    #[arg(long, global = true)]
    pub in_process: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a lake, import real flights, run a pipeline on a branch, merge it, query it, print the cost
    #[command(after_help = "Example:\n  headwater demo")]
    Demo(Demo),
    /// Make a project with a lake in it
    #[command(after_help = "Examples:
  headwater init my-lake && cd my-lake
  headwater init --example flights")]
    Init(Init),
    /// Answer one SQL statement
    #[command(after_help = "Examples:
  headwater query \"SELECT origin, count(*) FROM flights GROUP BY origin\"
  headwater query \"SELECT * FROM airlines\" --ref main@3fa9c1d2 --output json
  headwater query 'SELECT count(*) FROM \"flights@dev\"'
  headwater query 'SELECT * FROM flights WHERE delay > $late' --param late=60
  headwater query --file report.sql --output csv")]
    Query(Query),
    /// Run the project's models on a branch; merge when every check passed
    #[command(after_help = "Examples:
  headwater run
  headwater run --dry-run
  headwater run --ref dev --param minimum_flights=1000 --no-strict")]
    Run(Run),
    /// Put the working folder's functions and triggers in force, as a version
    #[command(after_help = "Examples:\n  headwater deploy\n  headwater deploy --dry-run")]
    Deploy(Deploy),
    /// Deployed versions: list, look at, roll back
    #[command(subcommand)]
    Deployment(Deployment),
    /// Tables: list, look at, compare, import, drop
    #[command(subcommand)]
    Table(Table),
    /// Views: list, look at, drop
    #[command(subcommand)]
    View(View),
    /// Branches: list, create, compare, merge, protect
    #[command(subcommand)]
    Branch(Branch),
    /// Make a branch the active one, which `run`, `query` and `import` use
    #[command(after_help = "Examples:\n  headwater checkout dev\n  headwater checkout -b dev")]
    Checkout(Checkout),
    /// Tags: names for single commits
    #[command(subcommand)]
    Tag(Tag),
    /// Commits of a ref, newest first
    #[command(after_help = "Examples:\n  headwater log\n  headwater log dev --graph --limit 50")]
    Log(Log),
    /// Namespaces: folders of tables
    #[command(subcommand)]
    Namespace(Namespace),
    /// Jobs: everything that ran or runs
    #[command(subcommand)]
    Job(Job),
    /// Environments: the Pythons with packages that functions run in
    #[command(subcommand)]
    Environment(Environment),
    /// Functions of the project, called by their names
    #[command(subcommand)]
    Function(Function),
    /// What the work took, and what that costs
    #[command(after_help = "Examples:\n  headwater usage\n  headwater usage --by model")]
    Usage(Usage),
    /// Triggers: what starts work by itself
    #[command(subcommand)]
    Trigger(Trigger),
    /// Serve the lake in the foreground
    #[command(after_help = "Example:\n  headwater serve --http 127.0.0.1:4280")]
    Serve(Serve),
    /// End the lake's background server, after its jobs
    #[command(after_help = "Example:\n  headwater stop")]
    Stop,
    /// The lake, its server and its active branch
    #[command(after_help = "Example:\n  headwater status")]
    Status,
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  headwater completions bash > ~/.local/share/bash-completion/completions/headwater"
    )]
    Completions(Completions),
}

impl Command {
    /// Whether the command answers rows, which have forms of their own.
    pub fn answers_rows(&self) -> bool {
        matches!(
            self,
            Command::Query(_)
                | Command::Table(Table::Diff(_))
                | Command::Function(Function::Invoke(_))
        )
    }

    /// Where the command says that a lake is to keep its tables.
    pub fn warehouse(&self) -> Option<&str> {
        match self {
            Command::Init(init) => init.warehouse.as_deref(),
            Command::Serve(serve) => serve.warehouse.as_deref(),
            _ => None,
        }
    }

    /// Whether the command is itself a server.
    pub fn runs_server(&self) -> bool {
        matches!(self, Command::Serve(_))
    }
}

/// `headwater demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Where to make the demo's project
    #[arg(default_value = "headwater-demo")]
    pub folder: PathBuf,
}

/// `headwater init`
#[derive(Debug, Args)]
pub struct Init {
    /// The project's folder; it is made where it is not there
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The project's name [default: the folder's]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// Begin with the files of an example project, data included
    #[arg(long, value_enum, value_name = "EXAMPLE", conflicts_with = "name")]
    pub example: Option<ExampleArgument>,
    /// Keep tables in a bucket, as `s3://bucket/prefix` [default: beside the lake's database]
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
}

/// `--example`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExampleArgument {
    /// The departures from New York in 2013: what `headwater demo` runs
    Flights,
}

/// `headwater checkout`
#[derive(Debug, Args)]
pub struct Checkout {
    /// The branch
    pub branch: String,
    /// Make the branch first
    #[arg(short = 'b', long)]
    pub create: bool,
    /// Where the new branch begins [default: the active branch]
    #[arg(long, value_name = "REF", requires = "create")]
    pub from: Option<String>,
}

/// `headwater log`
#[derive(Debug, Args)]
pub struct Log {
    /// Branch, tag or commit [default: the active branch]
    #[arg(value_name = "REF", conflicts_with = "reference")]
    pub start: Option<String>,
    #[command(flatten)]
    pub at: RefArgument,
    /// The most commits to show
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
    /// Draw how the commits hang together
    #[arg(long)]
    pub graph: bool,
}

/// `headwater completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}
