//! `headwater job`.

use clap::{Args, Subcommand};

/// `headwater job`
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List the jobs, newest first
    #[command(after_help = "Example:\n  headwater job ls --kind run --status failed")]
    Ls(JobLs),
    /// Show one job
    #[command(after_help = "Example:\n  headwater job get 3fa9c1")]
    Get(JobName),
    /// Show a job's output and events
    #[command(after_help = "Example:\n  headwater job logs 3fa9c1 --follow")]
    Logs(JobLogs),
    /// Continue a failed run with the files of that run; models that succeeded are not run again
    #[command(after_help = "Example:\n  headwater job retry 3fa9c1")]
    Retry(JobRetry),
    /// Repeat a run with the files of that run, on a new branch from its start commit
    #[command(after_help = "Examples:
  headwater job rerun 3fa9c1
  headwater job rerun 3fa9c1 --branch check")]
    Rerun(JobRerun),
    /// Stop a job
    #[command(after_help = "Example:\n  headwater job stop 3fa9c1")]
    Stop(JobName),
}

/// `headwater job ls`
#[derive(Debug, Args)]
pub struct JobLs {
    /// Only this kind: query, import, run, trigger, maintenance, function, merge, `cherry_pick`,
    /// revert, diff, commit, backfill
    #[arg(long)]
    pub kind: Option<String>,
    /// Only this status: queued, running, succeeded, failed, cancelled, interrupted
    #[arg(long)]
    pub status: Option<String>,
    /// The maximum number of jobs
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
}

/// A job.
#[derive(Debug, Args)]
pub struct JobName {
    /// The id, or its first or last digits
    pub id: String,
}

/// `headwater job retry`
#[derive(Debug, Args)]
pub struct JobRetry {
    /// The id, or its first or last digits
    pub id: String,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `headwater job rerun`
#[derive(Debug, Args)]
pub struct JobRerun {
    /// The id, or its first or last digits
    pub id: String,
    /// The name of the new branch [default: `rerun/` and the id]
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Print the job id and do not wait
    #[arg(long, short)]
    pub detach: bool,
}

/// `headwater job logs`
#[derive(Debug, Args)]
pub struct JobLogs {
    /// The id, or its first or last digits
    pub id: String,
    /// Follow the job until it ends
    #[arg(long, short)]
    pub follow: bool,
}
