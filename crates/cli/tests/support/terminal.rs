//! Commands in a pseudo-terminal, and their screen contents.

use std::process::Command;

use unicode_width::UnicodeWidthStr;

use super::{Answer, Workspace, answer};

const PROGRAM: &str = include_str!("terminal.py");

/// A pseudo-terminal.
pub struct Terminal {
    pub columns: u16,
    /// An environment variable, as `NAME=VALUE`.
    pub variable: &'static str,
    /// Pairs of expected output and the keys to type after it, in order.
    pub typed: &'static [(&'static str, &'static str)],
}

impl Default for Terminal {
    fn default() -> Self {
        Terminal { columns: 80, variable: "TERM=xterm-256color", typed: &[] }
    }
}

impl Workspace {
    /// Runs a command in a pseudo-terminal. `stdout` of the answer contains the command's standard
    /// output and standard error.
    pub fn in_terminal(&self, columns: u16, arguments: &[&str]) -> Answer {
        self.with_terminal(Terminal { columns, ..Terminal::default() }, arguments)
    }

    /// Runs a command in a pseudo-terminal with these settings.
    pub fn with_terminal(&self, terminal: Terminal, arguments: &[&str]) -> Answer {
        let (name, value) = terminal.variable.split_once('=').expect("NAME=VALUE");
        let inside = self.command(arguments);
        let mut command = Command::new("python3");
        let typed = serde_json::to_string(terminal.typed).expect("JSON");
        command.args(["-c", PROGRAM, &terminal.columns.to_string(), &typed]);
        command.arg(inside.get_program()).args(inside.get_args()).current_dir(self.path());
        for (name, value) in inside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env(name, value);
        answer(command.output().expect("python3 runs"))
    }

    /// Runs a command in a pseudo-terminal and returns the lines on the screen. Asserts that all
    /// lines fit.
    pub fn screen(&self, columns: u16, arguments: &[&str]) -> Vec<String> {
        let answer = self.in_terminal(columns, arguments);
        assert_eq!(answer.code, 0, "{arguments:?}\n{}", answer.stdout);
        let lines = lines(&answer.stdout);
        for line in &lines {
            let taken = line.width();
            assert!(taken <= usize::from(columns), "{taken} of {columns}: `{line}`\n{arguments:?}");
        }
        lines
    }
}

/// Returns the lines that remain on the screen, without colours and without overwritten text.
pub fn lines(text: &str) -> Vec<String> {
    let plain = without_escapes(text);
    let last = |line: &str| line.rsplit('\r').next().unwrap_or_default().trim_end().to_owned();
    plain.replace("\r\n", "\n").lines().map(last).collect()
}

/// Removes escape sequences: `ESC [ parameters letter`.
fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    plain + rest
}
