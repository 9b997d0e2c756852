//! `headwater function`: its commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use headwater_model::{FunctionSetting, parse_duration, parse_size};

use super::{FunctionAlias, FunctionLayer, FunctionUrl};

/// `headwater function`
#[derive(Debug, Subcommand)]
pub enum Function {
    /// List the functions: those of the deployed version, and those without a project
    #[command(after_help = "Example:\n  headwater function ls")]
    Ls,
    /// Deploy a function without a project, as a new version
    #[command(after_help = "Examples:
  headwater function deploy price price/ --runtime python3.11 --handler app.handler
  headwater function deploy shout shout.zip --runtime provided --memory 256MiB --timeout 30s
  headwater function deploy echo echo.zip --runtime provided --provisioned-concurrency 2
  headwater function deploy price price/ --reset memory --reset reserved-concurrency")]
    Deploy(Box<FunctionDeploy>),
    /// Show a function without a project: its settings, files, versions and aliases
    #[command(after_help = "Example:\n  headwater function show price")]
    Show(FunctionName),
    /// List the versions of a function without a project
    #[command(after_help = "Example:\n  headwater function versions price")]
    Versions(FunctionName),
    /// Delete a function without a project, with its versions
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater function rm price")]
    Rm(FunctionRm),
    /// The aliases of a function without a project: create, update, ls, rm
    #[command(subcommand)]
    Alias(FunctionAlias),
    /// The HTTP URL of a function without a project: create, update, get, rm
    #[command(subcommand)]
    Url(FunctionUrl),
    /// Layers, whose files functions without a project share: publish, ls, rm
    #[command(subcommand)]
    Layer(FunctionLayer),
    /// Show the output of a function's last calls, oldest first
    #[command(
        after_help = "Examples:\n  headwater function logs price\n  headwater function logs price -n 1 --follow"
    )]
    Logs(FunctionLogs),
    /// Call a function and print what it returns; `NAME:VERSION` calls a version or alias
    #[command(after_help = "Examples:
  headwater function invoke price --arg event='{\"amount\": 40}'
  headwater function invoke score --arg flight=UA17 --arg delay=12
  headwater function invoke score --arguments '{\"delay\": 12}'
  headwater function invoke score --arg flight=UA17 --working-folder
  headwater function invoke score --arg flight=UA17 --watch
  headwater function invoke score --arg flight=UA17 --async")]
    Invoke(FunctionInvoke),
}

/// `headwater function invoke`
#[derive(Debug, Args)]
pub struct FunctionInvoke {
    /// The function
    pub name: String,
    /// An argument, as JSON or else text; the argument of a handler is `event`. Can be repeated
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub given: Vec<String>,
    /// All arguments, as one JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "given")]
    pub arguments: Option<String>,
    /// Call the function in the working folder, not the deployed one
    #[arg(long, short = 'w')]
    pub working_folder: bool,
    /// Call the function in the working folder again after each edit, until Ctrl-C
    #[arg(long, conflicts_with = "asynchronous")]
    pub watch: bool,
    /// Return once the call is durable; the server executes it later, and retries it after errors
    #[arg(long = "async", conflicts_with = "working_folder")]
    pub asynchronous: bool,
    /// With `--async`: an idempotency key; repeated calls with the same key run once
    #[arg(long, requires = "asynchronous")]
    pub key: Option<String>,
    /// With `--async`: calls with the same order key are executed one after the other
    #[arg(long, requires = "asynchronous")]
    pub order_key: Option<String>,
}

/// `headwater function show` and `headwater function versions`
#[derive(Debug, Args)]
pub struct FunctionName {
    /// The function
    pub name: String,
}

/// `headwater function logs`
#[derive(Debug, Args)]
pub struct FunctionLogs {
    /// The function
    pub name: String,
    /// The maximum number of calls
    #[arg(long, short = 'n', default_value_t = 10)]
    pub limit: usize,
    /// Wait for more calls, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// `headwater function rm`
#[derive(Debug, Args)]
pub struct FunctionRm {
    /// The function
    pub name: String,
    /// Succeed if the function does not exist
    #[arg(long)]
    pub if_exists: bool,
}

/// `headwater function deploy`
#[derive(Debug, Args)]
pub struct FunctionDeploy {
    /// The function
    pub name: String,
    /// The function's folder, or a ZIP archive
    #[arg(value_name = "DIR|FILE.zip")]
    pub source: PathBuf,
    /// The runtime: `python3.11`, `nodejs20`, `provided` and so on; a new function needs one
    #[arg(long)]
    pub runtime: Option<String>,
    /// The handler as FILE.FUNCTION, such as `app.handler`; not for `provided`
    #[arg(long)]
    pub handler: Option<String>,
    /// A description
    #[arg(long)]
    pub description: Option<String>,
    /// The memory limit, as in `256MiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// The time limit, as in `30s`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// An environment variable. Can be repeated; replaces all variables
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A secret that the function reads as an environment variable. Can be repeated; replaces all
    /// secrets
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// A host that the function may connect to, or `*` for all. Can be repeated; replaces all hosts
    #[arg(long, value_name = "HOST")]
    pub network: Vec<String>,
    /// A program of the system that the function needs, such as `curl`. Can be repeated; replaces
    /// all programs
    #[arg(long, value_name = "PROGRAM")]
    pub system: Vec<String>,
    /// A version of a layer whose files the function uses, such as `deps:3`. Can be repeated;
    /// replaces all layers
    #[arg(long = "layer", value_name = "NAME:VERSION")]
    pub layers: Vec<String>,
    /// The maximum number of concurrent calls
    #[arg(long, value_name = "CALLS")]
    pub reserved_concurrency: Option<u32>,
    /// The number of instances that the server keeps ready for calls; 0 for none
    #[arg(long, value_name = "INSTANCES")]
    pub provisioned_concurrency: Option<u32>,
    /// A setting to reset to its default. Can be repeated; other settings that are not given are
    /// unchanged
    #[arg(long, value_enum, value_name = "SETTING")]
    pub reset: Vec<ResettableSetting>,
}

/// `--reset`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResettableSetting {
    /// The handler
    Handler,
    /// The description
    Description,
    /// The memory limit
    Memory,
    /// The time limit
    Timeout,
    /// The environment variables
    Env,
    /// The secrets
    Secrets,
    /// The hosts that the function may connect to
    Network,
    /// The programs of the system
    System,
    /// The layers
    Layers,
    /// The maximum number of concurrent calls
    ReservedConcurrency,
}

impl From<ResettableSetting> for FunctionSetting {
    fn from(argument: ResettableSetting) -> Self {
        match argument {
            ResettableSetting::Handler => FunctionSetting::Handler,
            ResettableSetting::Description => FunctionSetting::Description,
            ResettableSetting::Memory => FunctionSetting::Memory,
            ResettableSetting::Timeout => FunctionSetting::Timeout,
            ResettableSetting::Env => FunctionSetting::Env,
            ResettableSetting::Secrets => FunctionSetting::Secrets,
            ResettableSetting::Network => FunctionSetting::Network,
            ResettableSetting::System => FunctionSetting::System,
            ResettableSetting::Layers => FunctionSetting::Layers,
            ResettableSetting::ReservedConcurrency => FunctionSetting::ReservedConcurrency,
        }
    }
}
