//! `headwater demo`: everything once, on real data.
//!
//! Each command is printed from the words that are executed, so that typing what was printed does the
//! same. A second demo in the same folder leaves out what was done before, and says so.

use std::path::Path;

use clap::Parser;
use headwater_model::{Branch, Table};

use crate::api::{Api, segment};
use crate::arguments::{Arguments, Command, Demo};
use crate::commands::{dispatch, init};
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::example::FLIGHTS_NAME;
use crate::lake_folder::LAKE_FOLDER;
use crate::terminal::Tone;

/// The branch that the demo works on.
const BRANCH: &str = "demo";

/// Carries out the demo.
pub async fn demo(context: &Context, arguments: &Demo) -> Result<()> {
    let folder = &arguments.folder;
    let named = folder.to_string_lossy();
    heading(context, "A project with a lake in it, and real data");
    if folder.join(LAKE_FOLDER).exists() {
        note(context, &format!("{named} has a lake already"));
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
    heading(&context, "Your turn");
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

async fn steps(context: &Context, api: &Api, folder: &Path) -> Result<()> {
    heading(context, "Files become tables");
    let present: Vec<Table> = api.get("/v1/refs/main/tables").await?;
    for (table, file) in data_files(folder)? {
        if present.iter().any(|present| present.name.name == table) {
            note(context, &format!("{table} was imported before"));
        } else {
            run(context, api, &["table", "import", &table, &file, "--null", "NA"]).await?;
        }
    }
    heading(context, "Work happens on a branch; main only takes merges");
    run(context, api, &["branch", "protect", "main"]).await?;
    let branch: Result<Branch> = api.get(format!("/v1/branches/{}", segment(BRANCH))).await;
    match branch {
        Ok(_) => run(context, api, &["checkout", BRANCH]).await?,
        Err(_) => run(context, api, &["checkout", "-b", BRANCH]).await?,
    }
    let read = "SELECT * FROM airline_scorecard ORDER BY 1";
    for (title, words) in [
        ("SQL and Python models make tables of tables, and checks pass", &["run"][..]),
        ("What is different on the branch", &["branch", "diff", "main", BRANCH, "--rows", "1"]),
        ("All of it arrives on main at once", &["branch", "merge", BRANCH, "--into", "main"]),
        ("The result", &["query", read, "--ref", "main"]),
        ("Each change is a commit", &["log", "main", "--graph"]),
        ("What each model took and cost", &["usage", "--by", "model"]),
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

/// Prints a command as a person types it.
fn print_command(context: &Context, words: &[&str]) {
    let line = format!("$ {}", shell_line(words));
    context.style.say(context.style.paint(Tone::Id, line));
}

/// Prints the command that these words after `headwater` are, and reads it.
fn announce(context: &Context, words: &[&str]) -> Result<Command> {
    let words = [&["headwater"], words].concat();
    print_command(context, &words);
    let arguments = Arguments::try_parse_from(words).map_err(error::unexpected)?;
    Ok(arguments.command)
}

/// Prints and executes a command.
async fn run(context: &Context, api: &Api, words: &[&str]) -> Result<()> {
    let command = announce(context, words)?;
    dispatch(context, api, command).await
}

/// Words as a line of a shell.
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

/// The example's data files by the name of their table.
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
    fn words_are_quoted_as_a_shell_reads_them() {
        let line = shell_line(&["headwater", "query", "SELECT * FROM t", "it's $5", "a-b/c.d", ""]);
        assert_eq!(line, r#"headwater query "SELECT * FROM t" 'it'\''s $5' a-b/c.d """#);
    }
}
