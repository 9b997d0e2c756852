//! What can be typed: every command, its arguments and its examples.
//!
//! One enum per noun; the noun's file under `commands/` carries it out.

mod branch;
mod diff;
mod function;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::branch::{
    Branch, BranchCherryPick, BranchMerge, BranchRevert, BranchRm, Choice, Choices, CreateRef,
    RemoveRef, RenameRef,
};
pub use self::diff::{BranchDiff, CompareArgument, HowToCompare, TableDiff};
pub use self::function::{Function, FunctionInvoke};
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
    #[command(after_help = "Example:\n  headwater init my-lake && cd my-lake")]
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
    /// Keep tables in a bucket, as `s3://bucket/prefix` [default: beside the lake's database]
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
}

/// `headwater query`
#[derive(Debug, Args)]
pub struct Query {
    /// The statement; `-` reads it from standard input
    #[arg(required_unless_present = "file")]
    pub sql: Option<String>,
    /// Read the statement from a file
    #[arg(long, short, value_name = "FILE", conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// Branch, tag or commit [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "REF")]
    pub reference: Option<String>,
    /// Where bare table names lie
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// The value of `$NAME` in the statement: a number, `true`, `false`, `null`, or else a text
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// The most rows to print; 0 for all [default: 100 in a table, all otherwise]
    #[arg(long, short)]
    pub limit: Option<u64>,
    /// The memory the statement may hold before it spills to disk: `512MiB`, `2GiB`
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
}

/// `headwater run`
#[derive(Debug, Args)]
pub struct Run {
    /// The project [default: the one around the lake, or the nearest `headwater.toml` upwards]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The branch to run on [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "BRANCH")]
    pub reference: Option<String>,
    /// A parameter of the project
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// Check everything and show what would run
    #[arg(long)]
    pub dry_run: bool,
    /// A failed expectation ends the run (this is the default)
    #[arg(long, conflicts_with = "no_strict")]
    pub strict: bool,
    /// A failed expectation is only a warning
    #[arg(long)]
    pub no_strict: bool,
    /// Run every model, changed or not
    #[arg(long)]
    pub no_cache: bool,
    /// How much its functions matter where more wait than can run: low, normal, high
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<String>,
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `headwater table`
#[derive(Debug, Subcommand)]
pub enum Table {
    /// List the tables
    #[command(after_help = "Example:\n  headwater table ls --ref dev")]
    Ls(TableLs),
    /// Columns, size and location of a table
    #[command(after_help = "Example:\n  headwater table get flights")]
    Get(TableGet),
    /// What differs between two states of a table: columns, layout, files, statistics, rows
    #[command(after_help = "Examples:
  headwater table diff flights main dev
  headwater table diff flights --key id --summary
  headwater table diff flights@v1 flights~2 --limit 20 -o csv

Without a ref, the last commit is compared with the one before.")]
    Diff(TableDiff),
    /// Bring files into a table
    #[command(after_help = "Examples:
  headwater table import flights ./data/*.csv.gz
  headwater table import flights ./data --null NA --dry-run
  headwater table import clicks clicks.ndjson --type user_id=string --on-error reject")]
    Import(Box<TableImport>),
    /// Keep tables small and clean: compact, sort, expire, remove what nothing needs
    #[command(after_help = "Examples:
  headwater table maintain flights
  headwater table maintain flights --sort origin,dep_time --dry-run
  headwater table maintain flights --expire-before 30d --orphans
  headwater table maintain --orphans

Without an option, small files are put together, deletes folded in and manifests arranged.")]
    Maintain(TableMaintain),
    /// Drop a table from a branch
    #[command(after_help = "Example:\n  headwater table rm flights --ref dev")]
    Rm(TableRm),
}

/// `headwater table ls`
#[derive(Debug, Args)]
pub struct TableLs {
    /// Branch, tag or commit [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "REF")]
    pub reference: Option<String>,
    /// Only this namespace
    #[arg(long, short)]
    pub namespace: Option<String>,
}

/// `headwater table get`
#[derive(Debug, Args)]
pub struct TableGet {
    /// The table
    pub table: String,
    /// Branch, tag or commit [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "REF")]
    pub reference: Option<String>,
}

/// `headwater table maintain`
#[derive(Debug, Args)]
pub struct TableMaintain {
    /// The table [default: all tables of the branch]
    pub table: Option<String>,
    /// The branch [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "BRANCH")]
    pub reference: Option<String>,
    /// Put small files together, and write files anew that lost many rows
    #[arg(long, conflicts_with_all = ["sort", "zorder"])]
    pub compact: bool,
    /// Write all files anew, sorted by columns: `a,b desc`
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "zorder")]
    pub sort: Vec<String>,
    /// Write all files anew, in a z-order of columns
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub zorder: Vec<String>,
    /// Put what many manifests say into few
    #[arg(long)]
    pub manifests: bool,
    /// Remove the files of states that were superseded longer ago: `30d`
    #[arg(long, value_name = "DURATION")]
    pub expire_before: Option<String>,
    /// Remove the files of all states but the last N of each branch
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Remove files that no branch, no tag and no commit that leads to one needs
    #[arg(long)]
    pub orphans: bool,
    /// How old those must be, an hour at least [default: 3d]
    #[arg(long, value_name = "DURATION", requires = "orphans")]
    pub older_than: Option<String>,
    /// Remove those files even where they are most of what is there
    #[arg(long, requires = "orphans")]
    pub force: bool,
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `headwater table rm`
#[derive(Debug, Args)]
pub struct TableRm {
    /// The table
    pub table: String,
    /// The branch [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "BRANCH")]
    pub reference: Option<String>,
    /// Succeed where there is no such table
    #[arg(long)]
    pub if_exists: bool,
}

/// `headwater table import`
#[derive(Debug, Args)]
pub struct TableImport {
    /// The table; it is made where it is not there
    pub table: String,
    /// Files, folders and globs
    #[arg(required = true)]
    pub sources: Vec<String>,
    /// The branch [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "BRANCH")]
    pub reference: Option<String>,
    /// Infer, check and show the plan; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Import files that were imported before once more
    #[arg(long)]
    pub again: bool,
    /// What to do with a row that cannot be read
    #[arg(long, value_enum, default_value_t)]
    pub on_error: OnErrorArgument,
    /// The type of a column, as Iceberg writes it
    #[arg(long = "type", value_name = "COLUMN=TYPE")]
    pub types: Vec<String>,
    /// Text that means null, besides the empty field
    #[arg(long = "null", value_name = "TEXT")]
    pub nulls: Vec<String>,
    /// Partition a new table by `column`, `day(column)` or `bucket(16, column)`
    #[arg(long = "partition-by", value_name = "FIELD")]
    pub partition: Vec<String>,
    /// The files' format [default: told by their names]
    #[arg(long, value_enum)]
    pub format: Option<FormatArgument>,
    /// The CSV delimiter [default: found in the files]
    #[arg(long)]
    pub delimiter: Option<char>,
    /// The first CSV row is data; columns are named `column_1`, `column_2`, …
    #[arg(long)]
    pub no_header: bool,
    /// The text encoding, such as `windows-1252` [default: UTF-8, or what the file's first bytes say]
    #[arg(long)]
    pub encoding: Option<String>,
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `--on-error`
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum OnErrorArgument {
    /// End with file, line, column and value; write nothing
    #[default]
    Stop,
    /// Put the row and the reason into `<table>__rejected`
    Reject,
}

/// `--format`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArgument {
    /// Comma-separated values
    Csv,
    /// One JSON object a line
    Ndjson,
    /// Apache Parquet
    Parquet,
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

/// `headwater tag`
#[derive(Debug, Subcommand)]
pub enum Tag {
    /// List the tags
    #[command(after_help = "Example:\n  headwater tag ls")]
    Ls,
    /// Name a commit
    #[command(after_help = "Example:\n  headwater tag create v1.0 --from main")]
    Create(CreateRef),
    /// Delete a tag
    #[command(after_help = "Example:\n  headwater tag rm v1.0")]
    Rm(RemoveRef),
    /// Rename a tag
    #[command(after_help = "Example:\n  headwater tag rename v1.0 first")]
    Rename(RenameRef),
}

/// `headwater log`
#[derive(Debug, Args)]
pub struct Log {
    /// Branch, tag or commit [default: the active branch]
    pub reference: Option<String>,
    /// The most commits to show
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
    /// Draw how the commits hang together
    #[arg(long)]
    pub graph: bool,
}

/// `headwater namespace`
#[derive(Debug, Subcommand)]
pub enum Namespace {
    /// List the namespaces
    #[command(after_help = "Example:\n  headwater namespace ls")]
    Ls(RefArgument),
    /// Make a namespace
    #[command(after_help = "Example:\n  headwater namespace create staging")]
    Create(NamespaceName),
    /// Remove an empty namespace
    #[command(after_help = "Example:\n  headwater namespace rm staging")]
    Rm(NamespaceName),
}

/// A ref.
#[derive(Debug, Args)]
pub struct RefArgument {
    /// Branch, tag or commit [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "REF")]
    pub reference: Option<String>,
}

/// A namespace on a branch.
#[derive(Debug, Args)]
pub struct NamespaceName {
    /// Its name
    pub name: String,
    /// The branch [default: the active branch]
    #[arg(long = "ref", alias = "branch", short, value_name = "BRANCH")]
    pub reference: Option<String>,
}

/// `headwater job`
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List the jobs, newest first
    #[command(after_help = "Example:\n  headwater job ls --kind run --status failed")]
    Ls(JobLs),
    /// One job, whole
    #[command(after_help = "Example:\n  headwater job get 3fa9c1")]
    Get(JobName),
    /// What a job printed and did
    #[command(after_help = "Example:\n  headwater job logs 3fa9c1 --follow")]
    Logs(JobLogs),
    /// Stop a job
    #[command(after_help = "Example:\n  headwater job stop 3fa9c1")]
    Stop(JobName),
}

/// `headwater job ls`
#[derive(Debug, Args)]
pub struct JobLs {
    /// Only this kind: query, import, run, trigger, upkeep, function
    #[arg(long)]
    pub kind: Option<String>,
    /// Only this status: queued, running, succeeded, failed, cancelled, interrupted
    #[arg(long)]
    pub status: Option<String>,
    /// The most jobs to show
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
}

/// A job.
#[derive(Debug, Args)]
pub struct JobName {
    /// Its id, or the first or last digits of it
    pub id: String,
}

/// `headwater job logs`
#[derive(Debug, Args)]
pub struct JobLogs {
    /// Its id, or the first or last digits of it
    pub id: String,
    /// Go on until the job ends
    #[arg(long, short)]
    pub follow: bool,
}

/// `headwater environment`
#[derive(Debug, Subcommand)]
pub enum Environment {
    /// List the environments
    #[command(after_help = "Example:\n  headwater environment ls")]
    Ls,
    /// Show an environment's packages, what is held imported, and why calls wait
    #[command(after_help = "Example:\n  headwater environment explain 3fa9c1d2")]
    Explain(EnvironmentId),
    /// Remove environments that nobody has used for a while; what is asked for again is made again
    #[command(
        after_help = "Examples:\n  headwater environment prune --dry-run\n  headwater environment prune --all"
    )]
    Prune(EnvironmentPrune),
    /// Choose packages anew, within what was asked for; what runs goes on with the old ones
    #[command(
        after_help = "Examples:\n  headwater environment rebuild 3fa9c1d2\n  headwater environment rebuild --all"
    )]
    Rebuild(EnvironmentRebuild),
}

/// An environment.
#[derive(Debug, Args)]
pub struct EnvironmentId {
    /// Its id, or the beginning of it
    pub id: String,
}

/// `headwater environment prune`
#[derive(Debug, Args)]
pub struct EnvironmentPrune {
    /// Those that were not used for so many days
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=DAYS_MAX))]
    pub days: u64,
    /// All that no function uses now
    #[arg(long, conflicts_with = "days")]
    pub all: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// `headwater environment rebuild`
#[derive(Debug, Args)]
pub struct EnvironmentRebuild {
    /// Their ids, or the beginnings of them
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// Every environment
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

/// `headwater usage`
#[derive(Debug, Args)]
pub struct Usage {
    /// What a line sums up
    #[arg(long, value_enum, default_value_t)]
    pub by: UsageBy,
    /// Only the last days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(..=DAYS_MAX))]
    pub days: Option<u64>,
}

/// `--by`
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum UsageBy {
    /// Days
    Day,
    /// Kinds of job
    #[default]
    Kind,
    /// Models of the project
    Model,
    /// Jobs
    Job,
}

/// `headwater trigger`
#[derive(Debug, Subcommand)]
pub enum Trigger {
    /// List the triggers of `headwater.toml`
    #[command(after_help = "Example:\n  headwater trigger ls")]
    Ls,
    /// What happened, newest first
    #[command(after_help = "Example:\n  headwater trigger events --status failed")]
    Events(TriggerEvents),
    /// Act on an event again
    #[command(after_help = "Example:\n  headwater trigger replay EVENT")]
    Replay(TriggerReplay),
}

/// `headwater trigger events`
#[derive(Debug, Args)]
pub struct TriggerEvents {
    /// Only this trigger
    #[arg(long)]
    pub trigger: Option<String>,
    /// Only this status: pending, running, done, failed
    #[arg(long)]
    pub status: Option<String>,
    /// The most events to show
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
}

/// `headwater trigger replay`
#[derive(Debug, Args)]
pub struct TriggerReplay {
    /// The event's id
    pub event: String,
}

/// `headwater serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Listen for HTTP here; port 0 picks a free one and says which
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4280")]
    pub http: SocketAddr,
    /// Ask for no token over HTTP; then every program and user of this machine can use the lake
    #[arg(long)]
    pub no_auth: bool,
    /// How functions are walled in
    #[arg(long, value_enum, default_value_t)]
    pub isolation: IsolationArgument,
    /// Let projects that say `arena = true` hand tables on without a copy; an experiment
    #[arg(long)]
    pub arena: bool,
    /// The memory for queries and functions together: `4GiB` [default: three quarters of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Leave tables as they are written, until `headwater table maintain` is asked for
    #[arg(long)]
    pub no_upkeep: bool,
    /// Once a day, remove files of known tables that nothing has needed for three days
    #[arg(long, conflicts_with = "no_upkeep")]
    pub remove_orphans: bool,
    /// Keep tables in a bucket, as `s3://bucket/prefix`; for a lake that has none yet, which keeps it
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
    /// Give the server's own keys to the bucket to Iceberg REST clients that ask for credentials
    #[arg(long)]
    pub vend_credentials: bool,
    /// Serve a command of this machine: on the Unix socket only, ending when idle
    #[arg(long, hide = true)]
    pub background: bool,
}

/// `--isolation`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationArgument {
    /// Namespaces, a read-only root and limits
    #[default]
    Sandbox,
    /// A plain process, for hosts that forbid user namespaces; weak
    Process,
}

/// `headwater completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}
