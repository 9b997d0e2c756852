//! Output in a terminal: tables fit the width, and colours do not affect alignment.

mod support;

use support::Workspace;
use support::terminal::{Terminal, lines};

const WIDTHS: [u16; 3] = [80, 120, 200];

/// Creates a lake with a wide table, a branch, a model, a trigger and some jobs.
fn lake() -> Workspace {
    let workspace = Workspace::new();
    let columns: Vec<String> = (1..20).map(|n| format!("{n} AS measure_{n:02}")).collect();
    workspace.ok(&["query", &format!("CREATE TABLE wide AS SELECT {}", columns.join(", "))]);
    let long = "a text of many words ".repeat(10);
    let sql = format!("CREATE TABLE notes AS SELECT 1 AS id, '{long}' AS note, 'x' AS carrier");
    workspace.ok(&["query", &sql]);
    workspace.ok(&["branch", "create", "a-branch-with-a-name-of-forty-characters"]);
    workspace.ok(&["checkout", "-b", "dev"]);
    workspace.ok(&["query", "UPDATE notes SET carrier = 'y', note = note || 'more'"]);
    workspace.write(
        "models/by_carrier.sql",
        "-- headwater: materialization = replace\nSELECT carrier, count(*) AS n FROM notes GROUP BY 1\n",
    );
    let trigger = "\n[[trigger]]\nname = \"nightly\"\nschedule = { cron = \"0 3 * * *\", timezone = \
                   \"Europe/Berlin\" }\nbranch = \"dev\"\nrun = true\n";
    let project =
        std::fs::read_to_string(workspace.path().join("headwater.toml")).expect("a project");
    workspace.write("headwater.toml", project + trigger);
    workspace.ok(&["deploy"]);
    workspace
}

/// Returns the position of a word in a line, in characters.
fn position(line: &str, word: &str) -> usize {
    let at = line.find(word).unwrap_or_else(|| panic!("no {word} in `{line}`"));
    line[..at].chars().count()
}

fn line<'a>(lines: &'a [String], word: &str) -> &'a str {
    lines
        .iter()
        .find(|line| line.contains(word))
        .unwrap_or_else(|| panic!("no {word} in {lines:#?}"))
}

#[test]
fn every_table_fits_the_terminal_and_is_aligned_with_its_headings() {
    let workspace = lake();
    for columns in WIDTHS {
        let screen = |arguments: &[&str]| workspace.screen(columns, arguments);
        let run = screen(&["run", "--no-cache"]);
        assert!(line(&run, "by_carrier").contains("1 row"), "{run:#?}");

        let branches = screen(&["branch", "ls"]);
        let heading = line(&branches, "BRANCH");
        assert_eq!(position(heading, "BRANCH"), position(line(&branches, "main"), "main"));
        assert_eq!(position(heading, "BRANCH"), position(line(&branches, "* "), "dev"));

        let jobs = screen(&["job", "ls"]);
        let (heading, job) = (line(&jobs, "STATUS"), line(&jobs, "CREATE TABLE wide"));
        assert_eq!(position(heading, "STATUS"), position(job, "succeeded"));
        assert_eq!(position(heading, "WHAT"), position(job, "CREATE TABLE"));

        let diff = screen(&["table", "diff", "notes", "main", "dev", "--key", "id"]);
        let row = diff.iter().rfind(|line| line.contains("x → y")).expect("the changed row");
        assert_eq!(
            position(line(&diff, "   id  "), "carrier"),
            position(row, "x → y"),
            "{diff:#?}"
        );
        let diff = screen(&["branch", "diff", "main", "dev"]);
        assert!(!diff.iter().any(|line| line.contains("format-version")), "{diff:#?}");

        let tables = screen(&["table", "ls"]);
        assert_eq!(
            position(line(&tables, "TABLE"), "TABLE"),
            position(line(&tables, "notes"), "notes")
        );
        for arguments in [
            &["log"][..],
            &["log", "--graph", "--ref", "dev"],
            &["usage"],
            &["usage", "--by", "job"],
            &["trigger", "ls"],
            &["query", "SELECT * FROM notes"],
            &["query", "SELECT * FROM wide"],
            &["query", "SELECT * FROM wide", "--expanded"],
            &["run", "--dry-run"],
            &["job", "ls", "-x"],
        ] {
            screen(arguments);
        }
    }
}

#[test]
fn columns_that_do_not_fit_are_omitted_and_counted() {
    let workspace = lake();
    let narrow = workspace.screen(80, &["query", "SELECT * FROM wide"]);
    let heading = line(&narrow, "measure_01");
    assert!(heading.contains("  …  ") && heading.ends_with("measure_19"), "{narrow:#?}");
    let shown = heading.split_whitespace().filter(|word| *word != "…").count();
    line(&narrow, &format!("19 columns ({shown} shown); `--expanded` shows all"));
    assert!(narrow.iter().any(|line| line.split_whitespace().any(|word| word == "19")));
    let expanded = workspace.screen(80, &["query", "SELECT * FROM wide", "-x"]);
    assert_eq!(
        expanded.iter().filter(|line| line.contains("measure_")).count(),
        19,
        "{expanded:#?}"
    );
    let cut = workspace.screen(80, &["query", "SELECT * FROM notes"]);
    assert!(line(&cut, "a text").contains('…'), "{cut:#?}");
    let piped = workspace.ok(&["query", "SELECT * FROM wide"]);
    assert!(piped.contains("measure_10") && !piped.contains("shown"), "{piped}");
}

#[test]
fn colours_depend_on_the_terminal_and_on_flags() {
    let workspace = Workspace::new();
    let list = ["branch", "ls"];
    assert!(workspace.in_terminal(80, &list).stdout.contains("\x1b[2m"));
    assert!(
        !workspace.in_terminal(80, &["branch", "ls", "--color", "never"]).stdout.contains('\x1b')
    );
    assert!(!workspace.ok(&list).contains('\x1b'));
    assert!(workspace.ok(&["branch", "ls", "--color", "always"]).contains("\x1b[2m"));
    for variable in ["TERM=dumb", "NO_COLOR=1"] {
        let terminal = Terminal { variable, ..Terminal::default() };
        let text = workspace.with_terminal(terminal, &list).stdout;
        assert!(!text.contains('\x1b') && text.contains("BRANCH"), "{variable}: {text}");
    }
    let help = workspace.in_terminal(80, &["--color", "never", "query", "--nope"]);
    assert_eq!((help.code, help.stdout.contains('\x1b')), (2, false), "{}", help.stdout);
}

#[test]
fn control_characters_in_values_do_not_move_the_cursor() {
    let workspace = Workspace::new();
    let sql = "SELECT 'a' || chr(27) || '[31mred' AS text, 'two' || chr(10) || 'lines' AS more";
    let answer = workspace.in_terminal(80, &["query", sql, "--color", "never"]);
    assert!(!answer.stdout.contains('\x1b'), "{}", answer.stdout);
    line(&lines(&answer.stdout), "two lines");
    let answer = workspace.in_terminal(80, &["job", "ls", "--color", "never"]);
    assert!(!answer.stdout.contains('\x1b'), "{}", answer.stdout);
}

const SLOW: &str = "\
import time

import headwater


@headwater.model(materialization=\"replace\")
@headwater.python(pip={})
def silent():
    time.sleep(3)
    return [{\"n\": 1}]
";

#[test]
fn a_long_operation_is_shown_with_its_elapsed_time() {
    let workspace = Workspace::new();
    workspace.write("models/silent.py", SLOW);
    let text = workspace.in_terminal(80, &["run"]).stdout;
    let drawn: Vec<&str> = text.split(['\r', '\n']).collect();
    let bar = drawn.iter().find(|line| line.contains("silent") && line.contains("  2 s"));
    assert!(bar.is_some(), "{drawn:#?}");
    let empty = drawn.iter().find(|line| line.trim_end().ends_with(['░', '█']));
    assert!(empty.is_none(), "{drawn:#?}");
    assert!(!lines(&text).iter().any(|line| line.contains("silent  2 s")), "{text}");

    for output in ["table", "csv"] {
        let terminal = Terminal { typed: &[("querying  1 s", "\x03")], ..Terminal::default() };
        let query = ["query", support::ENDLESS, "--output", output];
        let stopped = workspace.with_terminal(terminal, &query);
        assert_eq!(stopped.code, 130, "{}", stopped.stdout);
        let left = lines(&stopped.stdout);
        assert!(!left.iter().any(|line| line.contains("querying")), "{left:#?}");
    }
    let terminal = Terminal { variable: "TERM=dumb", ..Terminal::default() };
    let dumb = workspace.with_terminal(terminal, &["run", "--no-cache"]).stdout;
    assert!(dumb.contains("silent") && !dumb.contains("silent  2 s"), "{dumb}");
}

#[test]
fn a_run_is_a_tree_on_a_terminal_and_json_lines_for_programs() {
    let workspace = Workspace::new();
    workspace.write("models/silent.py", SLOW);
    let replace = "-- headwater: materialization = replace\n";
    workspace.write("models/after.sql", format!("{replace}SELECT n FROM silent"));
    workspace.write("models/last.sql", format!("{replace}SELECT n FROM after"));
    let text = workspace.in_terminal(100, &["run"]).stdout;
    let drawn: Vec<&str> = text.split(['\r', '\n']).collect();
    let has =
        |words: &[&str]| drawn.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["silent", "python", "2 s"]) && has(&["└ ", "·", "after"]), "{drawn:#?}");
    let left = lines(&text);
    let last = left.iter().rposition(|line| line.contains("✓ last")).expect("the last step");
    assert!(left[last].starts_with("  └ ✓ last"), "{left:#?}");
    assert!(left[last].contains("1 row") && left[last].contains("cost 0.0"), "{left:#?}");
    assert!(left[last - 1].starts_with("└ ✓ after"), "{left:#?}");
    assert!(left[last - 2].starts_with("✓ silent"), "{left:#?}");

    let piped = workspace.run(&["run", "--no-cache", "--select", "last"]);
    let text = piped.stderr;
    assert!(text.starts_with("✓ last") && !text.contains('└'), "{text}");

    let json = workspace.ok(&["run", "--no-cache", "--select", "last", "--output", "ndjson"]);
    let events: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types.first(), Some(&"started"), "{types:?}");
    assert_eq!(types[types.len() - 2..], ["ended", "report"], "{types:?}");
    let ended = events.iter().find(|event| event["type"] == "step_ended").expect("a step");
    assert_eq!((&ended["step"], &ended["rows"]), (&"last".into(), &1.into()), "{ended}");
}
