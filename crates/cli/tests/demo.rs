//! `headwater demo` in a terminal, and its commands typed by hand.

mod support;

use std::path::Path;
use std::process::Command;

use support::terminal::lines;
use support::{Workspace, answer};

const LAKE: [&str; 2] = ["--lake", "headwater-demo"];

/// Returns the contents of all tables of the demo's lake, with the lineage of their values.
fn tables(workspace: &Workspace) -> String {
    let tables = workspace.json(&[&["table", "ls"], &LAKE[..]].concat());
    let mut text = String::new();
    for table in tables.as_array().expect("tables") {
        let name = table["name"].as_str().expect("a name");
        let described =
            workspace.json(&[&["query", &format!("DESCRIBE {name}")], &LAKE[..]].concat());
        let rows = workspace.ok(&[&["query", &read(name), "-o", "csv"], &LAKE[..]].concat());
        text.push_str(&format!("{name}\n{described}\n{rows}\n"));
    }
    text
}

/// Returns a query for the rows of a small table, or for aggregates of a large one.
fn read(table: &str) -> String {
    match table {
        "flights" | "flights_clean" => {
            format!("SELECT count(*), count(dep_delay), sum(distance), min(time_hour) FROM {table}")
        }
        _ => format!("SELECT * FROM {table} ORDER BY ALL"),
    }
}

/// Runs the commands that the demo prints, in a shell in an empty folder.
fn type_by_hand(commands: &[String]) -> Workspace {
    let workspace = Workspace::empty();
    let bin = Path::new(env!("CARGO_BIN_EXE_headwater")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("set -e\n{}\n", commands.join("\n"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(workspace.path()).env("PATH", path);
    shell.env_remove("HEADWATER_LAKE").env("HEADWATER_AUTHOR", "eva");
    let typed = answer(shell.output().expect("sh runs"));
    assert_eq!(typed.code, 0, "{script}\n{}\n{}", typed.stdout, typed.stderr);
    workspace
}

#[test]
fn the_demo_prints_the_commands_that_it_executes() {
    let workspace = Workspace::empty();
    let screen = workspace.screen(80, &["demo"]);
    let commands: Vec<String> =
        screen.iter().filter_map(|line| Some(line.strip_prefix("$ ")?.to_owned())).collect();
    assert!(commands.len() > 10, "{screen:#?}");
    assert!(!screen.iter().any(|line| line.contains("format-version")), "{screen:#?}");
    let by_hand = type_by_hand(&commands);
    let (shown, typed) = (tables(&workspace), tables(&by_hand));
    by_hand.ok(&[&["stop"], &LAKE[..]].concat());
    assert!(shown.contains("airline_scorecard"), "{shown}");
    assert_eq!(shown, typed);

    // A second demo has nothing to do. Check its output at two terminal widths.
    for columns in [120, 200] {
        let screen = workspace.screen(columns, &["demo"]);
        let found = |part: &str| screen.iter().any(|line| line.contains(part));
        for part in ["flights is already imported", "unchanged", "(demo, main)", "total"] {
            assert!(found(part), "no {part} in:\n{screen:#?}");
        }
    }
    workspace.ok(&[&["stop"], &LAKE[..]].concat());
}

#[test]
fn the_demo_runs_in_wide_terminals_and_without_one() {
    for columns in [120, 200] {
        let workspace = Workspace::empty();
        let screen = workspace.screen(columns, &["demo", "elsewhere"]);
        assert!(screen.iter().any(|line| line == "$ cd elsewhere"), "{screen:#?}");
        workspace.ok(&["stop", "--lake", "elsewhere"]);
    }
    let workspace = Workspace::empty();
    let piped = workspace.run(&["demo"]);
    assert_eq!(piped.code, 0, "{}\n{}", piped.stdout, piped.stderr);
    for part in ["airline_scorecard", "COST", "total", "(demo, main)"] {
        assert!(piped.stdout.contains(part), "no {part} in:\n{}", piped.stdout);
    }
    assert!(lines(&piped.stderr).iter().any(|line| line == "$ headwater run"), "{}", piped.stderr);
    let rows =
        workspace.json(&[&["query", "SELECT count(*) AS n FROM flights"], &LAKE[..]].concat());
    assert_eq!(rows[0]["n"], 336_776);
    workspace.ok(&[&["stop"], &LAKE[..]].concat());
}
