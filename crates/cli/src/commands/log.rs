//! `headwater log`: commits of a ref, newest first, and how they hang together.

use std::collections::HashMap;

use headwater_model::{Branch, Commit, CommitId, Tag};

use crate::api::{Api, segment};
use crate::arguments::{Log, OutputFormat};
use crate::commands::reference;
use crate::context::Context;
use crate::error::Result;
use crate::graph;
use crate::output;
use crate::terminal::{Style, Tone};

/// Carries out `headwater log`.
pub async fn log(context: &Context, api: &Api, arguments: &Log) -> Result<()> {
    let at = reference(context, arguments.reference.clone())?;
    let commits = commits(api, &at, arguments.limit).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&commits);
        return Ok(());
    }
    let names = names(api).await?;
    if arguments.graph {
        print_graph(context.answer_style, &commits, &names);
    } else {
        for commit in &commits {
            output::line(summary(context.answer_style, commit, &names));
        }
    }
    Ok(())
}

/// The commits of a ref, newest first.
pub async fn commits(api: &Api, at: &str, limit: usize) -> Result<Vec<Commit>> {
    api.get(format!("/v1/refs/{}/commits?limit={limit}", segment(at))).await
}

/// The branches and tags that stand at each commit.
pub async fn names(api: &Api) -> Result<HashMap<CommitId, Vec<String>>> {
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

/// Prints the commits in lanes.
pub fn print_graph(style: Style, commits: &[Commit], names: &HashMap<CommitId, Vec<String>>) {
    for line in graph::draw(commits) {
        let text = line.commit.map(|commit| summary(style, commit, names)).unwrap_or_default();
        let lanes = style.paint(Tone::Faint, &line.lanes);
        output::line(format!("{lanes} {text}").trim_end());
    }
}

fn summary(style: Style, commit: &Commit, names: &HashMap<CommitId, Vec<String>>) -> String {
    let subject = commit.message.lines().next().unwrap_or_default();
    let id = style.paint(Tone::Id, commit.id.short());
    let mut text = format!("{id} ");
    if let Some(names) = names.get(&commit.id) {
        text.push_str(&style.paint(Tone::Strong, format!("({}) ", names.join(", "))));
    }
    text.push_str(subject);
    let by = format!("  {} {}", commit.author, output::moment(commit.time));
    text.push_str(&style.paint(Tone::Faint, by));
    text
}
