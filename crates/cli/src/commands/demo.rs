//! `headwater demo`: demonstrates the commands on real data.
//!
//! The demo prints each command before it runs, so that a user can repeat it. A second demo in the
//! same folder skips the completed steps.

use std::path::Path;

use clap::Parser;
use headwater_model::{Branch, Table};

use crate::api::{ApiClient, segment};
use crate::arguments::{Arguments, Command, Demo};
use crate::commands::{dispatch, init};
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::example::FLIGHTS_NAME;
use crate::lake_folder::LAKE_FOLDER;
use crate::terminal::Tone;

/// The branch of the demo.
const BRANCH: &str = "demo";

/// Runs the demo.
pub async fn demo(context: &Context, arguments: &Demo) -> Result<()> {
    let folder = &arguments.folder;
    let named = folder.to_string_lossy();
    heading(context, "Create a project with a lake and real data");
    if folder.join(LAKE_FOLDER).exists() {
        note(context, &format!("{named} already has a lake"));
    } else {
        let command = announce(context, &["init", &named, "--example", FLIGHTS_NAME])?;
        if let Command::Init(arguments) = command {
            init::init(context, &arguments).await?;
        }
    }
    print_command(context, &["cd", &named]);
    let folder = folder.canonicalize().map_err(error::from_io("open the project's folder"))?;
    std::env::set_current_dir(&folder).map_err(error::from_io("enter the project's folder"))?;
    let context = context.for_lake(folder.join(LAKE_FOLDER));
    let api = connect::connect(&context).await?;
    let outcome = steps(&context, &api, &folder).await;
    api.close().await;
    outcome?;
    heading(&context, "Next steps");
    for words in [
        &["cd", &named][..],
        &["headwater", "query", "SELECT * FROM airline_scorecard"],
        &["headwater", "branch", "ls"],
        &["headwater", "--help"],
    ] {
        context.style.say(format!("  {}", shell_line(words)));
    }
    Ok(())
}

async fn steps(context: &Context, api: &ApiClient, folder: &Path) -> Result<()> {
    heading(context, "Import files into tables");
    let present: Vec<Table> = api.get("/v1/refs/main/tables").await?;
    for (table, file) in data_files(folder)? {
        if present.iter().any(|present| present.name.name == table) {
            note(context, &format!("{table} is already imported"));
        } else {
            run(context, api, &["table", "import", &table, &file, "--null", "NA"]).await?;
        }
    }
    heading(context, "Protect main and work on a branch");
    run(context, api, &["branch", "protect", "main"]).await?;
    let branch: Result<Branch> = api.get(format!("/v1/branches/{}", segment(BRANCH))).await;
    match branch {
        Ok(_) => run(context, api, &["checkout", BRANCH]).await?,
        Err(_) => run(context, api, &["checkout", "-b", BRANCH]).await?,
    }
    let read = "SELECT * FROM airline_scorecard ORDER BY 1";
    for (title, words) in [
        ("Run SQL and Python models, and check the results", &["run"][..]),
        ("Compare the branch with main", &["branch", "diff", "main", BRANCH, "--rows", "1"]),
        ("Merge the branch into main", &["branch", "merge", BRANCH, "--into", "main"]),
        ("Query the result", &["query", read, "--ref", "main"]),
        ("Show the commits", &["log", "main", "--graph"]),
        ("Show usage and cost", &["usage", "--by", "model"]),
    ] {
        heading(context, title);
        run(context, api, words).await?;
    }
    Ok(())
}

fn heading(context: &Context, text: &str) {
    context.style.say(format!("\n{}", context.style.paint(Tone::Strong, format!("── {text}"))));
}

fn note(context: &Context, text: &str) {
    context.style.say(context.style.paint(Tone::Faint, format!("  {text}")));
}

/// Prints a command.
fn print_command(context: &Context, words: &[&str]) {
    let line = format!("$ {}", shell_line(words));
    context.style.say(context.style.paint(Tone::Id, line));
}

/// Prints a command line and parses its arguments.
fn announce(context: &Context, words: &[&str]) -> Result<Command> {
    let words = [&["headwater"], words].concat();
    print_command(context, &words);
    let arguments = Arguments::try_parse_from(words).map_err(error::unexpected)?;
    Ok(arguments.command)
}

/// Prints and runs a command.
async fn run(context: &Context, api: &ApiClient, words: &[&str]) -> Result<()> {
    let command = announce(context, words)?;
    dispatch(context, api, command).await
}

/// Quotes words for a shell command line.
fn shell_line(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@~".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            (*word).to_owned()
        } else if word.contains(['$', '`', '"', '\\', '!']) {
            format!("'{}'", word.replace('\'', "'\\''"))
        } else {
            format!("\"{word}\"")
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Lists the example's data files with their table names.
fn data_files(folder: &Path) -> Result<Vec<(String, String)>> {
    let entries = std::fs::read_dir(folder.join("data"))
        .map_err(error::from_io("read the example's data"))?;
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (table, ending) = name.split_once('.')?;
            ending.starts_with("csv").then(|| (table.to_owned(), format!("data/{name}")))
        })
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::shell_line;

    #[test]
    fn words_are_quoted_for_a_shell() {
        let line = shell_line(&["headwater", "query", "SELECT * FROM t", "it's $5", "a-b/c.d", ""]);
        assert_eq!(line, r#"headwater query "SELECT * FROM t" 'it'\''s $5' a-b/c.d """#);
    }
}
