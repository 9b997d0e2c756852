//! `headwater branch`: list, create, compare, merge, protect.

use std::collections::HashMap;

use std::collections::BTreeMap;

use headwater_model::{
    Branch as BranchRow, CherryPickRequest, Commit, CreateRef, ErrorCode, Job, JobStatus,
    MAIN_BRANCH, MergeChoice, MergeOutcome, MergeReport, MergeRequest, MergeResolution,
    MergedTable, Problem, RevertRequest, RunRequest, TableName, UpdateRef,
};
use hyper::Method;
use serde_json::json;

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{
    Branch, BranchCherryPick, BranchLs, BranchMerge, BranchRevert, BranchRm, ConflictOptions,
    ConflictResolution, OutputFormat,
};
use crate::commands::{diff, reference, run};
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Grid};
use crate::project;
use crate::terminal::Tone;

/// The prefix of the branches of runs.
const RUN_PREFIX: &str = "run/";

/// Runs `headwater branch`.
pub async fn branch(context: &Context, api: &ApiClient, arguments: Branch) -> Result<()> {
    match arguments {
        Branch::Ls(arguments) => list(context, api, &arguments).await,
        Branch::Create(arguments) => {
            let from = reference(context, arguments.from)?;
            let request = CreateRef {
                name: arguments.name,
                from: Some(from.parse().map_err(error::from_error)?),
                if_not_exists: arguments.if_not_exists,
            };
            show(context, "created", &api.post("/v1/branches", &request).await?);
            Ok(())
        }
        Branch::Rm(arguments) => remove(context, api, &arguments).await,
        Branch::Rename(arguments) => {
            let name = Some(arguments.new_name.clone());
            let change = UpdateRef { name, ..UpdateRef::default() };
            let renamed = update(api, &arguments.name, &change).await?;
            let lake = context.lake()?;
            if lake.active_branch() == arguments.name {
                lake.set_active_branch(&arguments.new_name)?;
            }
            show(context, "renamed to", &renamed);
            Ok(())
        }
        Branch::Diff(arguments) => diff::branch(context, api, arguments).await,
        Branch::Merge(arguments) => merge(context, api, arguments).await,
        Branch::CherryPick(arguments) => cherry_pick(context, api, arguments).await,
        Branch::Revert(arguments) => revert(context, api, arguments).await,
        Branch::Protect(arguments) => {
            let (protected, requires) = (Some(true), arguments.require.clone());
            let change = UpdateRef { protected, requires, ..UpdateRef::default() };
            show(context, "protected", &update(api, &arguments.name, &change).await?);
            Ok(())
        }
        Branch::Unprotect(arguments) => {
            let change = UpdateRef { protected: Some(false), ..UpdateRef::default() };
            show(context, "unprotected", &update(api, &arguments.name, &change).await?);
            Ok(())
        }
    }
}

async fn remove(context: &Context, api: &ApiClient, arguments: &BranchRm) -> Result<()> {
    let lake = context.lake()?;
    let name = &arguments.name;
    let is_active = lake.active_branch() == *name && name != MAIN_BRANCH;
    if is_active && !arguments.force {
        let message = format!("branch `{name}` is the active branch and cannot be deleted");
        return Err(Problem::new(ErrorCode::Forbidden, message).with_hint(format!(
            "Run `headwater checkout {MAIN_BRANCH}` first, or delete the branch with `--force`."
        )));
    }
    let deletion = api.delete(format!("/v1/branches/{}", segment(name))).await;
    let missing = arguments.if_exists.then_some(ErrorCode::RefNotFound);
    removed_if_exists(context, "branch", name, missing, deletion)?;
    if is_active {
        lake.set_active_branch(MAIN_BRANCH)?;
        context.style.say(format!("switched to branch {MAIN_BRANCH}"));
    }
    Ok(())
}

async fn update(api: &ApiClient, name: &str, change: &UpdateRef) -> Result<BranchRow> {
    api.call(Method::PATCH, format!("/v1/branches/{}", segment(name)), change).await
}

fn show(context: &Context, verb: &str, branch: &BranchRow) {
    let text = format!("{verb} branch {} at @{}", branch.name, branch.commit.short());
    api_output::print(context, branch, text);
}

/// Prints that an object was removed: its kind `what`, such as `branch`, and its name.
pub fn removed(context: &Context, what: &str, name: &str) {
    api_output::print(context, &json!({ "removed": name }), format!("removed {what} {name}"));
}

/// Prints that a branch, a user or another object was removed. `missing` is the error code for an
/// object that does not exist, if `--if-exists` accepts this error. In this case, prints that
/// nothing was removed.
///
/// Errors: the error of the deletion.
pub fn removed_if_exists(
    context: &Context,
    what: &str,
    name: &str,
    missing: Option<ErrorCode>,
    deletion: Result<()>,
) -> Result<()> {
    match deletion {
        Ok(()) => removed(context, what, name),
        Err(problem) if missing == Some(problem.code) => {
            let text = format!("{what} {name} does not exist; nothing was removed");
            api_output::print(context, &json!({ "removed": null }), text);
        }
        Err(problem) => return Err(problem),
    }
    Ok(())
}

async fn list(context: &Context, api: &ApiClient, arguments: &BranchLs) -> Result<()> {
    let Some(mut branches) = fetch::<Vec<BranchRow>>(context, api, "/v1/branches").await? else {
        return Ok(());
    };
    let active = context.lake()?.active_branch();
    let found = branches.len();
    branches.retain(|branch| arguments.all || branch.name == active || !is_of_run(branch));
    let hidden = (found - branches.len()) as u64;
    let unfinished = unfinished_runs(api, &branches).await?;
    let headings = ["", "BRANCH", "COMMIT", "CREATED", "STATE"];
    let mut grid = Grid::new(context.answer_style, &headings).hide_first(&["CREATED"]);
    for branch in branches {
        let mark = if branch.name == active { "*" } else { "" };
        let state = match (&branch.quarantine, branch.protected) {
            (Some(run), _) => run_state(&unfinished, run).to_owned(),
            (None, true) => match &branch.requires {
                Some(project) => format!("protected, checked by {project}"),
                None => "protected".to_owned(),
            },
            (None, false) => String::new(),
        };
        let created = output::format_time(branch.created);
        let commit = branch.commit.short();
        grid.row([mark, &branch.name, &commit, &created, &state]);
    }
    grid.print("no branches");
    if hidden > 0 {
        let branches = if hidden == 1 {
            "1 branch of a run".to_owned()
        } else {
            format!("{} branches of runs", output::count(hidden))
        };
        let remark = format!("{branches} not shown; `headwater branch ls --all` shows all");
        context.style.say(context.style.paint(Tone::Faint, remark));
    }
    Ok(())
}

/// Returns true if the branch belongs to a running or failed run.
fn is_of_run(branch: &BranchRow) -> bool {
    branch.quarantine.is_some() || branch.name.starts_with(RUN_PREFIX)
}

/// Returns the status of all cancelled and interrupted runs, by job id, to describe branches in
/// quarantine. Sends no request if there are none.
async fn unfinished_runs(
    api: &ApiClient,
    branches: &[BranchRow],
) -> Result<HashMap<String, JobStatus>> {
    if branches.iter().all(|branch| branch.quarantine.is_none()) {
        return Ok(HashMap::new());
    }
    let jobs: Vec<Job> =
        api.get("/v1/jobs?kind=run,trigger&status=cancelled,interrupted&limit=10000").await?;
    Ok(jobs.into_iter().map(|job| (job.id.to_string(), job.status)).collect())
}

fn run_state(unfinished: &HashMap<String, JobStatus>, run: &str) -> &'static str {
    match unfinished.get(run) {
        Some(JobStatus::Cancelled) => "stopped run",
        Some(JobStatus::Interrupted) => "interrupted run",
        _ => "failed run",
    }
}

async fn merge(context: &Context, api: &ApiClient, arguments: BranchMerge) -> Result<()> {
    let target = reference(context, arguments.into)?;
    let (on_conflict, choices) = choices(arguments.choices)?;
    let request = MergeRequest {
        source: arguments.source.parse().map_err(error::from_error)?,
        message: arguments.message,
        dry_run: arguments.dry_run,
        unchecked: arguments.unchecked,
        on_conflict,
        choices,
    };
    if arguments.rerun {
        let root = project::locate(arguments.project.as_ref(), &context.lake()?)?;
        let request = RunRequest {
            files: headwater_server::read_project(&root)?,
            reference: Some(target.parse().map_err(error::from_error)?),
            parameters: run::pairs(&arguments.parameters, "param")?,
            dry_run: request.dry_run,
            merge: Some(request),
            ..RunRequest::default()
        };
        return run::send(context, api, &request, false).await;
    }
    let report: MergeReport =
        api.post(format!("/v1/branches/{}/merge", segment(&target)), &request).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&report);
    } else {
        print_merge(context, &arguments.source, &target, arguments.dry_run, &report);
    }
    Ok(())
}

async fn cherry_pick(
    context: &Context,
    api: &ApiClient,
    arguments: BranchCherryPick,
) -> Result<()> {
    let target = reference(context, arguments.onto)?;
    let (on_conflict, choices) = choices(arguments.choices)?;
    let picked = described(api, &arguments.commit).await?;
    let request = CherryPickRequest {
        commit: arguments.commit.parse().map_err(error::from_error)?,
        message: arguments.message,
        dry_run: arguments.dry_run,
        unchecked: arguments.unchecked,
        on_conflict,
        choices,
    };
    let report: MergeReport =
        api.post(format!("/v1/branches/{}/cherry-pick", segment(&target)), &request).await?;
    let would = if arguments.dry_run { "would be " } else { "" };
    let text = match report.outcome {
        MergeOutcome::UpToDate => {
            format!("{target} already has all changes of {}", arguments.commit)
        }
        _ => format!("{picked} {would}applied to {target}"),
    };
    print_change(context, &text, &arguments.commit, &report);
    Ok(())
}

async fn revert(context: &Context, api: &ApiClient, arguments: BranchRevert) -> Result<()> {
    let target = reference(context, arguments.on)?;
    let (on_conflict, choices) = choices(arguments.choices)?;
    let commit = arguments.commit.as_deref().map(str::parse).transpose();
    let tables = arguments.tables.iter().map(|table| table.parse().map_err(error::from_error));
    let what = match (&arguments.commit, &arguments.run) {
        (Some(commit), _) => commit.clone(),
        (None, run) => format!("run {}", run.as_deref().unwrap_or_default()),
    };
    let undone = match &arguments.commit {
        Some(commit) => described(api, commit).await?,
        None => what.clone(),
    };
    let request = RevertRequest {
        commit: commit.map_err(error::from_error)?,
        run: arguments.run,
        tables: tables.collect::<Result<_>>()?,
        partial: arguments.partial,
        message: arguments.message,
        dry_run: arguments.dry_run,
        unchecked: arguments.unchecked,
        on_conflict,
        choices,
    };
    let report: MergeReport =
        api.post(format!("/v1/branches/{}/revert", segment(&target)), &request).await?;
    let would = if arguments.dry_run { "would be " } else { "" };
    let text = match report.outcome {
        MergeOutcome::UpToDate => format!("{target} has no changes of {undone} to revert"),
        _ => format!("{undone} {would}reverted on {target}"),
    };
    print_change(context, &text, "before", &report);
    Ok(())
}

/// Describes the commit of a ref: `@3fa9c1d2abcd (DELETE FROM flights)`.
async fn described(api: &ApiClient, reference: &str) -> Result<String> {
    let commits: Vec<Commit> =
        api.get(format!("/v1/refs/{}/commits?limit=1", segment(reference))).await?;
    let Some(commit) = commits.first() else { return Ok(reference.to_owned()) };
    let subject = commit.message.lines().next().unwrap_or_default();
    Ok(format!("@{} ({subject})", commit.id.short()))
}

fn print_change(context: &Context, text: &str, source: &str, report: &MergeReport) {
    if api_output::is_printed(context, report) {
        return;
    }
    context.style.say(text);
    print_tables(context, source, report);
}

/// Parses the options for conflicts: the default choice, and the choices for named tables.
pub fn choices(
    arguments: ConflictOptions,
) -> Result<(MergeChoice, BTreeMap<TableName, MergeChoice>)> {
    let mut choices = BTreeMap::new();
    for (tables, choice) in
        [(arguments.ours, MergeChoice::Ours), (arguments.theirs, MergeChoice::Theirs)]
    {
        for table in tables {
            let name: TableName = table.parse().map_err(error::from_error)?;
            if choices.insert(name, choice).is_some_and(|other| other != choice) {
                let message = format!("both `--ours` and `--theirs` name `{table}`");
                let problem = Problem::new(ErrorCode::InvalidArgument, message);
                return Err(problem.with_hint("Use one of the two options."));
            }
        }
    }
    let otherwise = match arguments.on_conflict {
        ConflictResolution::Fail => MergeChoice::Fail,
        ConflictResolution::Ours => MergeChoice::Ours,
        ConflictResolution::Theirs => MergeChoice::Theirs,
    };
    Ok((otherwise, choices))
}

/// Prints the result of a merge.
fn print_merge(context: &Context, source: &str, target: &str, dry_run: bool, report: &MergeReport) {
    let would = if dry_run { "would be " } else { "" };
    let text = match report.outcome {
        MergeOutcome::UpToDate => format!("{target} already has all changes of {source}"),
        MergeOutcome::FastForward => {
            format!("{target} {would}moved forward to @{}", report.commit.short())
        }
        MergeOutcome::Merged => format!("{source} {would}merged into {target}"),
        MergeOutcome::Conflict => format!("{source} and {target} changed the same tables"),
    };
    context.style.say(text);
    print_undone(context, target, report);
    print_tables(context, source, report);
}

/// Prints the commit of the target that reverted the source's changes, and the command that
/// restores the changes. Prints nothing if there is no such commit.
pub fn print_undone(context: &Context, target: &str, report: &MergeReport) {
    let Some(commit) = &report.undone_by else { return };
    let (style, id) = (context.style, commit.id.short());
    let subject = commit.message.lines().next().unwrap_or_default();
    style.say(format!("  @{id} ({subject}) reverted these changes on {target}"));
    let hint = format!("run `headwater branch revert @{id} --on {target}` to restore the changes");
    style.say(format!("  {}: {hint}", style.paint(Tone::Good, "hint")));
}

fn print_tables(context: &Context, source: &str, report: &MergeReport) {
    for table in &report.tables {
        let how = report.merged.iter().find(|merged| merged.table == *table);
        let how = how
            .map(|merged| format!(" {}", describe_merged_table(merged, source)))
            .unwrap_or_default();
        context.style.say(format!("  {}{how}", context.style.paint(Tone::Good, table)));
    }
    for kept in report.merged.iter().filter(|merged| !report.tables.contains(&merged.table)) {
        let how = match kept.how {
            MergeResolution::Ours => "unchanged",
            MergeResolution::ByContent | MergeResolution::Theirs => "already up to date",
        };
        context.style.say(format!("  {} {how}", context.style.paint(Tone::Warn, &kept.table)));
    }
}

/// Describes the merge of a table that both sides changed.
pub fn describe_merged_table(merged: &MergedTable, source: &str) -> String {
    if merged.how == MergeResolution::Theirs {
        return format!("taken from {source}");
    }
    let rows = format!("+{} -{} rows", merged.rows_added, merged.rows_removed);
    let whole = if merged.whole_files { " in rewritten files" } else { "" };
    let mut parts = vec![format!("{rows}{whole}")];
    if merged.schema_changed {
        parts.push("columns or properties changed".to_owned());
    }
    format!("merged by content, {}", parts.join(", "))
}
