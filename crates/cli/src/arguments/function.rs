//! `headwater function`: its commands.

use clap::{Args, Subcommand};

/// `headwater function`
#[derive(Debug, Subcommand)]
pub enum Function {
    /// List the functions of the deployed version
    #[command(after_help = "Example:\n  headwater function ls")]
    Ls,
    /// Call a function of the deployed version and print what it returns
    #[command(
        after_help = "Examples:\n  headwater function invoke score --arg flight=UA17 --arg delay=12\n  headwater function invoke score --arguments '{\"delay\": 12}'\n  headwater function invoke score --arg flight=UA17 --working-folder\n  headwater function invoke score --arg flight=UA17 --async"
    )]
    Invoke(FunctionInvoke),
}

/// `headwater function invoke`
#[derive(Debug, Args)]
pub struct FunctionInvoke {
    /// The function
    pub name: String,
    /// An argument; the value is JSON, or else text. Can be repeated
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub given: Vec<String>,
    /// All arguments, as one JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "given")]
    pub arguments: Option<String>,
    /// Call the function in the working folder, not the deployed one
    #[arg(long, short = 'w')]
    pub working_folder: bool,
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
