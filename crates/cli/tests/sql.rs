//! `headwater sql`: piped statements, and the shell in a terminal.

mod support;

use std::io::Write;
use std::process::Stdio;

use support::terminal::{Terminal, lines};
use support::{Answer, Workspace, answer};

/// Runs `headwater sql` with this standard input.
fn piped(workspace: &Workspace, arguments: &[&str], input: &str) -> Answer {
    let mut command = workspace.command(&[&["sql"], arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin.write_all(input.as_bytes()).expect("input is written");
    drop(stdin);
    answer(child.wait_with_output().expect("the command ends"))
}

/// Creates a lake with a table on `main` that has one more row on `dev`.
fn lake() -> Workspace {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE flights AS SELECT 'AA' AS carrier, 7 AS delay"]);
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["query", "INSERT INTO flights VALUES ('UA', 9)", "--ref", "dev"]);
    workspace
}

#[test]
fn piped_statements_print_their_rows_in_order() {
    let workspace = lake();
    let input = "SELECT ';' AS a; -- a comment;\nSELECT count(*) AS n\nFROM flights;\n\\c dev\n\
                 SELECT count(*) AS n FROM flights";
    let answer = piped(&workspace, &["--output", "csv"], input);
    assert_eq!(
        (answer.code, answer.stdout.as_str()),
        (0, "a\n;\nn\n1\nn\n2\n"),
        "{}",
        answer.stderr
    );
}

#[test]
fn the_first_error_of_piped_statements_ends_the_shell() {
    let workspace = lake();
    let input = "SELECT 1 AS one; SELECT * FROM nowhere; DROP TABLE flights;";
    let answer = piped(&workspace, &["--output", "csv"], input);
    assert_eq!((answer.code, answer.stdout.as_str()), (3, "one\n1\n"), "{}", answer.stderr);
    assert!(answer.stderr.contains("nowhere"), "{}", answer.stderr);
    assert_eq!(
        workspace.ok(&["query", "SELECT 1 FROM flights", "--output", "csv"]).lines().count(),
        2
    );
    let answer = piped(&workspace, &[], "\\z\n");
    assert_eq!(answer.code, 2);
    assert!(answer.stderr.contains("no command `\\z`"), "{}", answer.stderr);
}

#[test]
fn files_and_lists_can_be_used_in_piped_input() {
    let workspace = lake();
    workspace.write("report.sql", "\\o csv\nSELECT carrier\nFROM flights;\n\\o table\n");
    workspace.write("circle.sql", "\\i circle.sql\n");
    let answer = piped(&workspace, &[], "\\i report.sql\n\\dt\n\\d flights\n\\l\n\\q\nSELECT 1;");
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for expected in ["carrier\nAA\n", "flights", "delay", "dev"] {
        assert!(answer.stdout.contains(expected), "{expected} in {}", answer.stdout);
    }
    let answer = piped(&workspace, &[], "\\i circle.sql\n");
    assert!(answer.stderr.contains("file `circle.sql` includes itself"), "{}", answer.stderr);
}

#[test]
fn the_shell_completes_names_and_continues_after_an_error() {
    let workspace = lake();
    let terminal = Terminal {
        columns: 100,
        typed: &[
            ("main=> ", "SELECT carr\t FROM\nfli\t;\r"),
            ("1 row", ""),
            ("main=> ", "SELECT * FROM nowhere;\r"),
            ("headwater table ls", ""),
            ("main=> ", "\\c dev\r"),
            ("dev=> ", "SELECT sum(delay)\r FROM flights;\r"),
            ("1 row", ""),
            ("dev=> ", "\x04"),
        ],
        ..Terminal::default()
    };
    let answer = workspace.with_terminal(terminal, &["sql"]);
    assert_eq!(answer.code, 0, "{}", answer.stdout);
    let screen = lines(&answer.stdout).join("\n");
    for expected in ["AA", "16", "time: "] {
        assert!(screen.contains(expected), "{expected} in {screen}");
    }
    let state = workspace.path().join(".state/headwater/sql_history");
    let history = std::fs::read_to_string(state).expect("a history");
    assert!(history.contains("nowhere"), "{history}");
}

#[test]
fn ctrl_c_cancels_the_statement_and_keeps_the_shell() {
    let workspace = lake();
    workspace.write("endless.sql", format!("{};", support::ENDLESS));
    let terminal = Terminal {
        typed: &[
            ("main=> ", "\\i endless.sql\r"),
            ("querying", "\x03"),
            ("stopped", ""),
            ("main=> ", "SELECT 40 + 2 AS n;\r"),
            ("42", ""),
            ("main=> ", "\x04"),
        ],
        ..Terminal::default()
    };
    let answer = workspace.with_terminal(terminal, &["sql"]);
    assert_eq!(answer.code, 0, "{}", answer.stdout);
}
