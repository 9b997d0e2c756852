//! `headwater log`: the commits of a ref, newest first.

use std::collections::HashMap;

use headwater_model::{Branch, Commit, CommitId, Tag};

use crate::api::{ApiClient, segment};
use crate::api_output;
use crate::arguments::Log;
use crate::commands::reference;
use crate::commit_graph;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Cell};
use crate::terminal::{OutputStyle, Tone};

/// Runs `headwater log`.
pub async fn log(context: &Context, api: &ApiClient, arguments: &Log) -> Result<()> {
    let at = reference(context, arguments.start.clone().or(arguments.at.reference.clone()))?;
    let commits = commits(api, &at, arguments.limit).await?;
    if api_output::is_printed(context, &commits) {
        return Ok(());
    }
    let names = names(api).await?;
    if arguments.graph {
        print_graph(context.answer_style, &commits, &names);
    } else {
        for commit in &commits {
            print_line(context.answer_style, Cell::default(), Some(commit), &names);
        }
    }
    Ok(())
}

/// Fetches the commits of a ref, newest first.
async fn commits(api: &ApiClient, at: &str, limit: usize) -> Result<Vec<Commit>> {
    api.get(format!("/v1/refs/{}/commits?limit={limit}", segment(at))).await
}

/// Returns the branches and tags of each commit.
async fn names(api: &ApiClient) -> Result<HashMap<CommitId, Vec<String>>> {
    let branches: Vec<Branch> = api.get("/v1/branches").await?;
    let tags: Vec<Tag> = api.get("/v1/tags").await?;
    let mut names: HashMap<CommitId, Vec<String>> = HashMap::new();
    for branch in branches {
        names.entry(branch.commit).or_default().push(branch.name);
    }
    for tag in tags {
        names.entry(tag.commit).or_default().push(format!("tag {}", tag.name));
    }
    Ok(names)
}

/// Prints the commit graph.
fn print_graph(style: OutputStyle, commits: &[Commit], names: &HashMap<CommitId, Vec<String>>) {
    for line in commit_graph::draw(commits) {
        let lanes = Cell::toned(Tone::Faint, format!("{} ", line.lanes));
        print_line(style, lanes, line.commit, names);
    }
}

/// The minimum width of a commit's subject.
const SUBJECT_WIDTH_MIN: usize = 24;

/// The maximum width of the ref names.
const NAMES_WIDTH_MAX: usize = 30;

/// Prints a line. On a terminal, truncates the line to the width; the commit's subject is truncated
/// first.
fn print_line(
    style: OutputStyle,
    lanes: Cell,
    commit: Option<&Commit>,
    names: &HashMap<CommitId, Vec<String>>,
) {
    let width = style.width().unwrap_or(usize::MAX);
    let Some(commit) = commit else {
        return output::line(lanes.paint(style, width).0.trim_end());
    };
    let mut line = lanes.then(Cell::toned(Tone::Id, commit.id.short())).then(" ");
    if let Some(names) = names.get(&commit.id) {
        let names = Cell::toned(Tone::Strong, names.join(", "));
        let names = if style.width().is_some() { names.cut(NAMES_WIDTH_MAX) } else { names };
        line = line
            .then(Cell::toned(Tone::Strong, "("))
            .then(names)
            .then(Cell::toned(Tone::Strong, ") "));
    }
    let subject = Cell::from(commit.message.lines().next().unwrap_or_default());
    let by = format!("  {} {}", commit.author, output::format_time(commit.time));
    let by = Cell::toned(Tone::Faint, by);
    let left = width.saturating_sub(line.width() + by.width());
    let subject = subject.cut(left.max(SUBJECT_WIDTH_MIN));
    output::line(line.then(subject).then(by).paint(style, width).0);
}
