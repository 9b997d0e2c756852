//! `headwater branch`, and the arguments that it shares with `headwater tag`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::BranchDiff;

/// `headwater branch`
#[derive(Debug, Subcommand)]
pub enum Branch {
    /// List the branches, except those of failed runs
    #[command(after_help = "Examples:\n  headwater branch ls\n  headwater branch ls --all")]
    Ls(BranchLs),
    /// Create a branch; no data is copied
    #[command(after_help = "Example:\n  headwater branch create dev --from main")]
    Create(CreateRef),
    /// Delete a branch; its commits stay reachable by their ids
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater branch rm dev")]
    Rm(BranchRm),
    /// Rename a branch
    #[command(after_help = "Example:\n  headwater branch rename dev feature/delays")]
    Rename(RenameRef),
    /// Show the differences between two refs: tables, columns, files, rows
    #[command(after_help = "Example:\n  headwater branch diff main dev --rows 3")]
    Diff(BranchDiff),
    /// Merge a ref into a branch
    #[command(after_help = "Examples:\n  headwater branch merge dev --into main\n  \
                            headwater branch merge dev --into main --rerun")]
    Merge(BranchMerge),
    /// Apply the change of one commit to another branch
    #[command(visible_alias = "transplant")]
    #[command(after_help = "Example:\n  headwater branch cherry-pick dev~1 --onto main")]
    CherryPick(BranchCherryPick),
    /// Undo a commit, or everything a run wrote
    #[command(after_help = "Examples:\n  headwater branch revert main~1 --on main\n  \
                      headwater branch revert --run 0190c7e2-5f3a-7d41-a53e-2f60b6a1c9d4 --on main")]
    Revert(BranchRevert),
    /// Reject direct writes to a branch; it then changes only by merges and runs
    #[command(after_help = "Examples:\n  headwater branch protect main\n  \
                            headwater branch protect main --require flights")]
    Protect(BranchProtect),
    /// Allow direct writes again
    #[command(after_help = "Example:\n  headwater branch unprotect main")]
    Unprotect(BranchName),
}

/// `headwater branch ls`
#[derive(Debug, Args)]
pub struct BranchLs {
    /// Include the branches of runs; JSON always includes them
    #[arg(long)]
    pub all: bool,
}

/// A new branch or tag.
#[derive(Debug, Args)]
pub struct CreateRef {
    /// The new name
    pub name: String,
    /// The ref to start from [default: the active branch]
    #[arg(long, value_name = "REF")]
    pub from: Option<String>,
    /// Succeed if the name exists already
    #[arg(long)]
    pub if_not_exists: bool,
}

/// A tag to remove.
#[derive(Debug, Args)]
pub struct TagRm {
    /// The tag
    pub name: String,
    /// Succeed if it does not exist
    #[arg(long)]
    pub if_exists: bool,
}

/// `headwater branch rm`
#[derive(Debug, Args)]
pub struct BranchRm {
    /// The branch
    pub name: String,
    /// Succeed if it does not exist
    #[arg(long)]
    pub if_exists: bool,
    /// Delete the active branch too; `main` becomes active
    #[arg(long)]
    pub force: bool,
}

/// A branch or tag to rename.
#[derive(Debug, Args)]
pub struct RenameRef {
    /// The current name
    pub name: String,
    /// The new name
    pub new_name: String,
}

/// A branch.
#[derive(Debug, Args)]
pub struct BranchName {
    /// The branch
    pub name: String,
}

/// `headwater branch protect`
#[derive(Debug, Args)]
pub struct BranchProtect {
    /// The branch
    pub name: String,
    /// Accept only commits that passed the expectations of this project
    #[arg(long, value_name = "PROJECT")]
    pub require: Option<String>,
}

/// `headwater branch merge`
#[derive(Debug, Args)]
pub struct BranchMerge {
    /// The ref to merge
    pub source: String,
    /// The branch to merge into [default: the active branch]
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// The merge commit's message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Show the result; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Allow merging the branch of a failed run
    #[arg(long)]
    pub unchecked: bool,
    /// Run the project on the merged tables, as part of the merge
    #[arg(long)]
    pub rerun: bool,
    /// The project of `--rerun` [default: the nearest `headwater.toml`, or the project of the lake]
    #[arg(long, short, value_name = "DIR", requires = "rerun")]
    pub project: Option<PathBuf>,
    /// A parameter of the project
    #[arg(long = "param", value_name = "NAME=VALUE", requires = "rerun")]
    pub parameters: Vec<String>,
    /// How conflicts are resolved
    #[command(flatten)]
    pub choices: ConflictOptions,
}

/// `headwater branch cherry-pick`
#[derive(Debug, Args)]
pub struct BranchCherryPick {
    /// The commit; its change is relative to its first parent
    pub commit: String,
    /// The branch to change [default: the active branch]
    #[arg(long, value_name = "BRANCH")]
    pub onto: Option<String>,
    /// The new commit's message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Show the result; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Accept commits of a failed run
    #[arg(long)]
    pub unchecked: bool,
    /// How conflicts are resolved
    #[command(flatten)]
    pub choices: ConflictOptions,
}

/// `headwater branch revert`
#[derive(Debug, Args)]
pub struct BranchRevert {
    /// The commit to undo
    #[arg(required_unless_present = "run")]
    pub commit: Option<String>,
    /// Undo everything this run wrote
    #[arg(long, value_name = "JOB", conflicts_with = "commit")]
    pub run: Option<String>,
    /// The branch to change [default: the active branch]
    #[arg(long, value_name = "BRANCH")]
    pub on: Option<String>,
    /// Undo only the change of this table; can be repeated
    #[arg(long = "only", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Confirm that `--only` undoes a part of the commit
    #[arg(long)]
    pub partial: bool,
    /// The new commit's message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Show the result; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Allow the revert on a branch that requires checks; the result is not checked
    #[arg(long)]
    pub unchecked: bool,
    /// How conflicts are resolved
    #[command(flatten)]
    pub choices: ConflictOptions,
}

/// How to resolve conflicts.
#[derive(Debug, Args)]
pub struct ConflictOptions {
    /// Keep the target's version of this table on conflict; can be repeated
    #[arg(long, value_name = "TABLE")]
    pub ours: Vec<String>,
    /// Take the source's version of this table on conflict; can be repeated
    #[arg(long, value_name = "TABLE")]
    pub theirs: Vec<String>,
    /// How to resolve conflicts of all other tables
    #[arg(long, value_enum, value_name = "CHOICE", default_value_t = ConflictResolution::Fail)]
    pub on_conflict: ConflictResolution,
}

/// The resolution of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConflictResolution {
    /// Fail and merge nothing
    Fail,
    /// Keep the target's table
    Ours,
    /// Take the source's table
    Theirs,
}
