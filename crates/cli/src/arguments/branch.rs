//! `headwater branch`: its commands, and what branches have in common with tags.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::BranchDiff;

/// `headwater branch`
#[derive(Debug, Subcommand)]
pub enum Branch {
    /// List the branches, without those of runs that did not succeed
    #[command(after_help = "Examples:\n  headwater branch ls\n  headwater branch ls --all")]
    Ls(BranchLs),
    /// Make a branch; nothing is copied
    #[command(after_help = "Example:\n  headwater branch create dev --from main")]
    Create(CreateRef),
    /// Delete a branch; its commits stay reachable by their ids
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater branch rm dev")]
    Rm(BranchRm),
    /// Rename a branch
    #[command(after_help = "Example:\n  headwater branch rename dev feature/delays")]
    Rename(RenameRef),
    /// What differs between two refs: tables, columns, files, rows
    #[command(after_help = "Example:\n  headwater branch diff main dev --rows 3")]
    Diff(BranchDiff),
    /// Merge a ref into a branch
    #[command(after_help = "Examples:\n  headwater branch merge dev --into main\n  \
                            headwater branch merge dev --into main --rerun")]
    Merge(BranchMerge),
    /// Make the change of one commit again on a branch
    #[command(visible_alias = "transplant")]
    #[command(after_help = "Example:\n  headwater branch cherry-pick dev~1 --onto main")]
    CherryPick(BranchCherryPick),
    /// Undo a commit of a branch, or all that a run wrote there
    #[command(after_help = "Examples:\n  headwater branch revert main~1 --on main\n  \
                      headwater branch revert --run 0190c7e2-5f3a-7d41-a53e-2f60b6a1c9d4 --on main")]
    Revert(BranchRevert),
    /// Refuse direct writes to a branch; changes then come by merge
    #[command(after_help = "Examples:\n  headwater branch protect main\n  \
                            headwater branch protect main --require flights")]
    Protect(BranchProtect),
    /// Take direct writes again
    #[command(after_help = "Example:\n  headwater branch unprotect main")]
    Unprotect(BranchName),
}

/// `headwater branch ls`
#[derive(Debug, Args)]
pub struct BranchLs {
    /// List the branches of runs, too; JSON has them always
    #[arg(long)]
    pub all: bool,
}

/// A new branch or tag.
#[derive(Debug, Args)]
pub struct CreateRef {
    /// The new name
    pub name: String,
    /// Where it begins [default: the active branch]
    #[arg(long, value_name = "REF")]
    pub from: Option<String>,
    /// Succeed where the name exists already
    #[arg(long)]
    pub if_not_exists: bool,
}

/// A tag to remove.
#[derive(Debug, Args)]
pub struct RemoveRef {
    /// Its name
    pub name: String,
    /// Succeed where there is none
    #[arg(long)]
    pub if_exists: bool,
}

/// `headwater branch rm`
#[derive(Debug, Args)]
pub struct BranchRm {
    /// Its name
    pub name: String,
    /// Succeed where there is none
    #[arg(long)]
    pub if_exists: bool,
    /// Delete it even if it is the active branch; `main` is active then
    #[arg(long)]
    pub force: bool,
}

/// A branch or tag to rename.
#[derive(Debug, Args)]
pub struct RenameRef {
    /// The present name
    pub name: String,
    /// The new name
    pub new_name: String,
}

/// A branch.
#[derive(Debug, Args)]
pub struct BranchName {
    /// Its name
    pub name: String,
}

/// `headwater branch protect`
#[derive(Debug, Args)]
pub struct BranchProtect {
    /// Its name
    pub name: String,
    /// Take only merges of commits on which the expectations of this project have passed
    #[arg(long, value_name = "PROJECT")]
    pub require: Option<String>,
}

/// `headwater branch merge`
#[derive(Debug, Args)]
pub struct BranchMerge {
    /// What to merge
    pub source: String,
    /// The branch to merge into [default: the active branch]
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// The merge commit's message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Say what would happen and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Merge the branch of a failed run all the same
    #[arg(long)]
    pub unchecked: bool,
    /// Run the project on the merged state: its models compute their tables again
    #[arg(long)]
    pub rerun: bool,
    /// The project of `--rerun` [default: the one around the lake, or the nearest `headwater.toml` upwards]
    #[arg(long, short, value_name = "DIR", requires = "rerun")]
    pub project: Option<PathBuf>,
    /// A parameter of the project
    #[arg(long = "param", value_name = "NAME=VALUE", requires = "rerun")]
    pub parameters: Vec<String>,
    #[command(flatten)]
    pub choices: Choices,
}

/// `headwater branch cherry-pick`
#[derive(Debug, Args)]
pub struct BranchCherryPick {
    /// The commit: what it changed since its first parent
    pub commit: String,
    /// The branch to change [default: the active branch]
    #[arg(long, value_name = "BRANCH")]
    pub onto: Option<String>,
    /// The new commit's message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Say what would happen and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take what a failed run wrote all the same
    #[arg(long)]
    pub unchecked: bool,
    #[command(flatten)]
    pub choices: Choices,
}

/// `headwater branch revert`
#[derive(Debug, Args)]
pub struct BranchRevert {
    /// The commit to undo
    #[arg(required_unless_present = "run")]
    pub commit: Option<String>,
    /// Undo what this run wrote, all its tables together
    #[arg(long, value_name = "JOB", conflicts_with = "commit")]
    pub run: Option<String>,
    /// The branch to change [default: the active branch]
    #[arg(long, value_name = "BRANCH")]
    pub on: Option<String>,
    /// Undo the change of this table alone; may be given several times
    #[arg(long = "only", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Undo some tables of a commit that changed several, though they belong together
    #[arg(long)]
    pub partial: bool,
    /// The new commit's message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Say what would happen and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Change a branch that requires checks though nobody has checked what it will be
    #[arg(long)]
    pub unchecked: bool,
    #[command(flatten)]
    pub choices: Choices,
}

/// What to do about tables in conflict.
#[derive(Debug, Args)]
pub struct Choices {
    /// If this table is in conflict, keep it as the target has it; may be given several times
    #[arg(long, value_name = "TABLE")]
    pub ours: Vec<String>,
    /// If this table is in conflict, take it as the source has it; may be given several times
    #[arg(long, value_name = "TABLE")]
    pub theirs: Vec<String>,
    /// What to do about any other table in conflict
    #[arg(long, value_enum, value_name = "CHOICE", default_value_t = Choice::Fail)]
    pub on_conflict: Choice,
}

/// A choice between two sides of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Merge nothing at all
    Fail,
    /// Keep the target's table
    Ours,
    /// Take the source's table
    Theirs,
}
