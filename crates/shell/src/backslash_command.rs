//! Backslash commands: `\d`, `\c`, `\x` and others, with the letters that psql uses.

use std::path::PathBuf;

use headwater_model::{ErrorCode, Problem};

/// The text that `\?` prints.
pub const HELP: &str = "\
Statements end with a semicolon and can have several lines. Tab completes names.

  \\d [NAME]      list the tables, or show one table
  \\dt            list the tables
  \\dv            list the views
  \\dn            list the namespaces
  \\l             list the branches
  \\c REF         use another branch, tag or commit
  \\i FILE        run the statements of a file
  \\o FORMAT      print rows as `table`, `json`, `csv` or `ndjson`
  \\x             turn expanded display on or off: one line per value
  \\limit ROWS    print at most this many rows of a table; 0 prints all
  \\timing        turn the display of each statement's time on or off
  \\?             print this help
  \\q             quit, as Ctrl-D does";

/// The names of the backslash commands, for completion.
pub const NAMES: [&str; 13] = [
    "\\d", "\\dt", "\\dv", "\\dn", "\\l", "\\c", "\\i", "\\o", "\\x", "\\limit", "\\timing", "\\?",
    "\\q",
];

/// A backslash command.
#[derive(Debug, PartialEq, Eq)]
pub enum BackslashCommand {
    /// Prints the help.
    Help,
    /// Ends the shell.
    Quit,
    /// Lists the tables.
    Tables,
    /// Shows one table.
    Table(String),
    /// Lists the views.
    Views,
    /// Lists the namespaces.
    Namespaces,
    /// Lists the branches.
    Branches,
    /// Switches to another ref.
    Connect(String),
    /// Runs the statements of a file.
    Include(PathBuf),
    /// Sets the format of rows, by its name.
    Format(String),
    /// Toggles the expanded format, in which each row is shown as a list.
    Expanded,
    /// Sets the maximum number of rows that a printed table shows.
    Limit(u64),
    /// Toggles the display of each statement's time.
    Timing,
}

impl BackslashCommand {
    /// Parses a line that begins with a backslash.
    pub fn parse(line: &str) -> Result<Self, Problem> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        let required = |what: &str| {
            if argument.is_empty() {
                return Err(invalid(format!("`{name}` needs {what}")).with_hint(EXPLAIN));
            }
            Ok(argument.to_owned())
        };
        let command = match name {
            "\\d" if !argument.is_empty() => {
                return Ok(BackslashCommand::Table(argument.to_owned()));
            }
            "\\c" => return required("a branch, tag or commit").map(BackslashCommand::Connect),
            "\\i" => return required("a file").map(|file| BackslashCommand::Include(file.into())),
            "\\o" => return required("a format").map(BackslashCommand::Format),
            "\\limit" => return rows(&required("a number of rows")?).map(BackslashCommand::Limit),
            "\\d" | "\\dt" => BackslashCommand::Tables,
            "\\dv" => BackslashCommand::Views,
            "\\dn" => BackslashCommand::Namespaces,
            "\\l" => BackslashCommand::Branches,
            "\\x" => BackslashCommand::Expanded,
            "\\timing" => BackslashCommand::Timing,
            "\\?" | "\\h" | "\\help" => BackslashCommand::Help,
            "\\q" | "\\quit" => BackslashCommand::Quit,
            _ => return Err(invalid(format!("no command `{name}`")).with_hint(EXPLAIN)),
        };
        if !argument.is_empty() {
            return Err(invalid(format!("`{name}` takes no argument")).with_hint(EXPLAIN));
        }
        Ok(command)
    }
}

const EXPLAIN: &str = "`\\?` lists the commands.";

fn invalid(message: String) -> Problem {
    Problem::new(ErrorCode::InvalidArgument, message)
}

fn rows(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        invalid(format!("`{text}` is not a number of rows"))
            .with_hint("Use a whole number; 0 prints all rows.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslash_commands_are_parsed() {
        let parsed = |line: &str| BackslashCommand::parse(line).expect(line);
        assert_eq!(parsed("\\d"), BackslashCommand::Tables);
        assert_eq!(parsed("\\d  sales.orders ;"), BackslashCommand::Table("sales.orders".into()));
        assert_eq!(parsed("\\c dev"), BackslashCommand::Connect("dev".into()));
        assert_eq!(parsed("\\o CSV"), BackslashCommand::Format("CSV".into()));
        assert_eq!(parsed("\\limit 0"), BackslashCommand::Limit(0));
        assert_eq!(parsed("\\q;"), BackslashCommand::Quit);
    }

    #[test]
    fn wrong_backslash_commands_are_errors() {
        let message = |line: &str| BackslashCommand::parse(line).expect_err(line).message;
        assert_eq!(message("\\z"), "no command `\\z`");
        assert_eq!(message("\\c"), "`\\c` needs a branch, tag or commit");
        assert_eq!(message("\\dt x"), "`\\dt` takes no argument");
        assert_eq!(message("\\limit many"), "`many` is not a number of rows");
    }

    #[test]
    fn every_name_that_is_completed_is_a_command_and_in_the_help() {
        for name in NAMES {
            let line = format!("{name} 1");
            assert!(
                BackslashCommand::parse(name).is_ok()
                    || BackslashCommand::parse(&line).is_ok()
                    || name == "\\o"
            );
            assert!(HELP.contains(&format!("  {name} ")), "{name}");
        }
    }
}
