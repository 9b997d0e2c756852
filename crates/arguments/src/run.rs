//! `headwater run`.

use std::path::PathBuf;

use clap::Args;

use super::BranchArgument;

/// `headwater run`
#[derive(Debug, Args)]
pub struct Run {
    /// The project [default: the nearest `headwater.toml`, or the project of the lake]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The branch to use
    #[command(flatten)]
    pub on: BranchArgument,
    /// A parameter of the project
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// Run only these models and their checks: names, `+NAME+`, `tag:`, `path:`, `state:modified+`
    #[arg(long, short, num_args = 1.., value_name = "SELECTOR")]
    pub select: Vec<String>,
    /// Leave out these models and expectations
    #[arg(long, num_args = 1.., value_name = "SELECTOR")]
    pub exclude: Vec<String>,
    /// Check the project and list the models that would run
    #[arg(long)]
    pub dry_run: bool,
    /// Show what would run and why, and what it would read, install, cost and affect
    #[arg(long, conflicts_with = "detach")]
    pub plan: bool,
    /// Print rows of every model's result and merge nothing: the first 10, or `--preview=ROWS`
    #[arg(
        long,
        value_name = "ROWS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=1000),
        conflicts_with_all = ["detach", "dry_run", "plan", "retry"]
    )]
    pub preview: Option<u32>,
    /// Print the last rows instead of the first
    #[arg(long, requires = "preview")]
    pub tail: bool,
    /// Run again after each edit, until Ctrl-C
    #[arg(long, conflicts_with_all = ["detach", "dry_run", "plan", "retry"])]
    pub watch: bool,
    /// A failed expectation fails the run (the default)
    #[arg(long, conflicts_with = "no_strict")]
    pub strict: bool,
    /// A failed expectation is only a warning
    #[arg(long)]
    pub no_strict: bool,
    /// Continue this failed run with the current files; models that succeeded are not run again
    #[arg(
        long,
        value_name = "JOB",
        conflicts_with_all = ["no_cache", "select", "exclude", "reference"]
    )]
    pub retry: Option<String>,
    /// Also run models that are unchanged
    #[arg(long)]
    pub no_cache: bool,
    /// Also run models whose tables other branches or earlier runs have already computed
    #[arg(long)]
    pub no_reuse: bool,
    /// Fail at the first conflict with another run, instead of running up to 3 more times
    #[arg(long, conflicts_with_all = ["dry_run", "plan", "preview", "retry"])]
    pub no_repeat: bool,
    /// The priority of the run's functions in the queue: low, normal, high
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<String>,
    /// Append the run's OpenLineage events to this file, one JSON object per line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["detach", "dry_run", "plan", "watch"])]
    pub openlineage: Option<PathBuf>,
    /// The namespace of jobs and tables in OpenLineage events
    #[arg(
        long,
        value_name = "NAME",
        env = "OPENLINEAGE_NAMESPACE",
        default_value = "headwater",
        hide_env_values = true
    )]
    pub openlineage_namespace: String,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}
