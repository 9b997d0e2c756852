//! The whole command line: global options and the list of commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{
    Access, Audit, Backfill, Branch, Checkout, ColorArgument, Completions, Console, Demo, Deploy,
    Deployment, Environment, Event, Function, Grant, Init, Job, Key, Limit, Log, Login, Logout,
    Namespace, OutputFormat, Profile, Query, Restriction, Revoke, Role, Run, Secret, Serve, Sql,
    Table, Tag, Test, Token, Trigger, Usage, User, View,
};

const EXIT_CODES: &str = "Exit codes:
  0  success
  1  an internal error, or an I/O error
  2  wrong input: arguments, SQL, names, a project file
  3  not found: a ref, table, job, trigger, file or lake
  4  a conflict: the object exists already, or a concurrent change came first
  5  the job failed: a bad row, an exception in a function, a failed expectation, packages
  6  a limit was reached: memory, time or disk
  7  the server is unreachable or busy, or the host forbids isolation
  8  not allowed: a protected branch
  130  stopped by Ctrl-C or `headwater job stop`

Start with `headwater demo`, or with `headwater init`.";

/// A serverless lakehouse: SQL and Python functions, Iceberg tables, branches.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    /// The lake: a `.headwater` folder or its parent [default: the nearest in the parent folders]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        env = "HEADWATER_LAKE"
    )]
    pub lake: Option<PathBuf>,

    /// The server to use, by the name of its profile; see `headwater login`
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "NAME",
        env = "HEADWATER_PROFILE"
    )]
    pub profile: Option<String>,

    /// The output format; with `json`, standard output is one JSON document
    #[arg(
        long,
        short,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t
    )]
    pub output: OutputFormat,

    /// When to use colors; `auto` uses them on a terminal unless `NO_COLOR` is set
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        value_name = "WHEN",
        default_value_t
    )]
    pub color: ColorArgument,

    /// Print each row as a list with one line per column
    #[arg(long, short = 'x', global = true, help_heading = "Global options")]
    pub expanded: bool,

    /// Run the server inside this command, not in the background
    #[arg(long, global = true, help_heading = "Global options")]
    pub in_process: bool,

    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a lake, import flight data, run a pipeline on a branch, merge, query, print the cost
    #[command(after_help = "Example:\n  headwater demo")]
    Demo(Demo),
    /// Create a project and its lake
    #[command(after_help = "Examples:
  headwater init my-lake && cd my-lake
  headwater init --example flights
  headwater init shop --dbt ../shop-dbt")]
    Init(Init),
    /// Run one SQL statement
    #[command(after_help = "Examples:
  headwater query \"SELECT origin, count(*) FROM flights GROUP BY origin\"
  headwater query \"SELECT * FROM airlines\" --ref main@3fa9c1d2 --output json
  headwater query 'SELECT count(*) FROM \"flights@dev\"'
  headwater query 'SELECT * FROM flights WHERE delay > $late' --param late=60
  headwater query --file report.sql --output csv
  headwater query --detach \"SELECT * FROM flights\"
  headwater query --result 019ac3f2-5d1c-7e60-9f0a-0d2f3a4b5c6d --output csv")]
    Query(Query),
    /// Open a SQL shell, or run the statements of standard input
    #[command(after_help = "Examples:
  headwater sql
  headwater sql --ref dev
  headwater sql --output csv < report.sql

In the shell, `\\?` lists its commands. Its history is in the state folder of the user.")]
    Sql(Sql),
    /// Run the project's models on a branch; merge if all checks pass
    #[command(after_help = "Examples:
  headwater run
  headwater run --plan
  headwater run --select 'state:modified+' --exclude tag:slow
  headwater run --ref dev --param minimum_flights=1000 --no-strict")]
    Run(Run),
    /// Run the project for each value of a parameter, several at once
    #[command(after_help = "Examples:
  headwater backfill day=2026-01-01..2026-01-31 --jobs 4
  headwater backfill origin=JFK,LGA --param minimum_flights=1000 --select daily
  headwater backfill day --partitions-of trips --detach")]
    Backfill(Backfill),
    /// Run the project's unit tests: models on given rows; no table is read or written
    #[command(after_help = "Examples:\n  headwater test\n  headwater test daily tag:sales")]
    Test(Test),
    /// Deploy the functions and triggers of the working folder as a version
    #[command(after_help = "Examples:\n  headwater deploy\n  headwater deploy --dry-run")]
    Deploy(Deploy),
    /// Deployed versions: list, show, roll back
    #[command(subcommand)]
    Deployment(Deployment),
    /// Tables: list, show, compare, import, maintain, drop
    #[command(subcommand)]
    Table(Table),
    /// Views: list, show, drop
    #[command(subcommand)]
    View(View),
    /// Branches: list, create, compare, merge, protect
    #[command(subcommand)]
    Branch(Branch),
    /// Set the active branch, the default of all other commands
    #[command(after_help = "Examples:\n  headwater checkout dev\n  headwater checkout -b dev")]
    Checkout(Checkout),
    /// Tags: list, create, rename, delete
    #[command(subcommand)]
    Tag(Tag),
    /// List the commits of a ref, newest first
    #[command(after_help = "Examples:\n  headwater log\n  headwater log dev --graph --limit 50")]
    Log(Log),
    /// Namespaces: list, create, drop
    #[command(subcommand)]
    Namespace(Namespace),
    /// Jobs: list, show, follow, stop
    #[command(subcommand)]
    Job(Job),
    /// Python environments of functions: list, explain, prune, rebuild
    #[command(subcommand)]
    Environment(Environment),
    /// Events of triggers and asynchronous calls: list, show, replay, remove
    #[command(subcommand)]
    Event(Event),
    /// Functions: list, call, deploy, remove
    #[command(subcommand)]
    Function(Function),
    /// Log in to a server with an access token, from a prompt or standard input
    #[command(after_help = "Examples:
  headwater login https://lake.example.com:4280
  headwater login https://10.0.0.7:4280 --name lab --certificate lab.pem

Commands use the nearest lake in the parent folders, else the server of the last login.")]
    Login(Login),
    /// Remove the profile and the token of a server
    #[command(after_help = "Examples:\n  headwater logout\n  headwater logout lab")]
    Logout(Logout),
    /// Profiles of servers: list, choose
    #[command(subcommand)]
    Profile(Profile),
    /// Secrets of functions: list, set, delete
    #[command(subcommand)]
    Secret(Secret),
    /// Show usage and its cost
    #[command(after_help = "Examples:\n  headwater usage\n  headwater usage --by model")]
    Usage(Usage),
    /// Print or export the audit log, the oldest events first
    #[command(after_help = "Examples:
  headwater audit --since 24h --outcome denied
  headwater audit --since 2026-11-01 --output ndjson
  headwater audit --keep 90d")]
    Audit(Audit),
    /// Triggers: list, show, create, remove
    #[command(subcommand)]
    Trigger(Trigger),
    /// Users and service accounts: list, create, disable, drop
    #[command(subcommand)]
    User(User),
    /// Access tokens: list, create, revoke
    #[command(subcommand)]
    Token(Token),
    /// Access keys of S3 clients: list, create, revoke
    #[command(subcommand)]
    Key(Key),
    /// Roles: list, create, grant, revoke, drop
    #[command(subcommand)]
    Role(Role),
    /// Grant actions on objects to a user or role
    #[command(after_help = "Examples:
  headwater grant select --on 'table:sales.*' --to analyst
  headwater grant read,write,merge --on 'branch:dev/*' --to ana")]
    Grant(Grant),
    /// Revoke actions on objects from a user or role
    #[command(
        after_help = "Example:\n  headwater revoke select --on 'table:sales.*' --from analyst"
    )]
    Revoke(Revoke),
    /// Row filters and column masks: list, create, drop
    #[command(subcommand)]
    Restriction(Restriction),
    /// Limits of users and roles: list, set, remove
    #[command(subcommand)]
    Limit(Limit),
    /// Grants: list, explain a decision
    #[command(subcommand)]
    Access(Access),
    /// Show the user of this connection and its permissions
    #[command(after_help = "Example:\n  headwater whoami")]
    Whoami,
    /// Serve the lake in the foreground
    #[command(after_help = "Examples:
  headwater serve --http 127.0.0.1:4280
  headwater serve --listen 0.0.0.0:4280 --tls-self-signed --host lake.example")]
    Serve(Serve),
    /// Open the console in the browser, logged in; serve the lake if no server listens for HTTP
    #[command(after_help = "Examples:\n  headwater console\n  headwater console --no-browser")]
    Console(Console),
    /// Stop the lake's background server after its jobs end
    #[command(after_help = "Example:\n  headwater stop")]
    Stop,
    /// Show the lake, its server and its active branch
    #[command(after_help = "Example:\n  headwater status")]
    Status,
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  headwater completions bash > ~/.local/share/bash-completion/completions/headwater"
    )]
    Completions(Completions),
}

impl Command {
    /// Returns true if the command returns rows. Such commands support `csv` and `ndjson`.
    pub fn outputs_rows(&self) -> bool {
        matches!(
            self,
            Command::Query(_)
                | Command::Audit(_)
                | Command::Sql(_)
                | Command::Table(Table::Diff(_))
                | Command::Function(Function::Invoke(_))
        )
    }

    /// Returns true if the command prints rows as JSON lines, but not as CSV.
    pub fn outputs_json_lines(&self) -> bool {
        matches!(self, Command::Run(run) if !(run.dry_run || run.plan || run.detach))
    }

    /// Returns the warehouse option, if the command has one.
    pub fn warehouse(&self) -> Option<&str> {
        match self {
            Command::Init(init) => init.warehouse.as_deref(),
            Command::Serve(serve) => serve.warehouse.as_deref(),
            Command::Console(console) => console.serve.warehouse.as_deref(),
            _ => None,
        }
    }

    /// Returns true if the command runs a server itself.
    pub fn runs_server(&self) -> bool {
        matches!(self, Command::Serve(_) | Command::Console(_))
    }
}
