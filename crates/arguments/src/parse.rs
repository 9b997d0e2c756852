//! Parses the command line; errors suggest the intended command.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, Command, CommandFactory, Error, FromArgMatches};

use super::Arguments;

/// Parses a command line, whose first word is the program's name. If it is invalid, prints the
/// error and exits.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Arguments {
    let line: Vec<OsString> = line.into_iter().collect();
    let words: Vec<String> = line.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let parsed = command(&words).try_get_matches_from_mut(line.into_iter().map(statement));
    parsed
        .and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches))
        .unwrap_or_else(|error| suggest(error, &words).exit())
}

/// Returns an argument. An argument that starts with an SQL comment (`--`) gets a leading space.
/// Otherwise the parser would treat it as an option.
fn statement(argument: OsString) -> OsString {
    let is_comment =
        argument.to_str().and_then(|text| text.strip_prefix("--")).is_some_and(|rest| {
            let name = rest.split('=').next().unwrap_or(rest);
            name.contains(char::is_whitespace)
        });
    if !is_comment {
        return argument;
    }
    let mut separated = OsString::from(" ");
    separated.push(argument);
    separated
}

fn command(words: &[String]) -> Command {
    Arguments::command().color(color(words))
}

/// Returns the color choice of `--color`, for the parser's own error messages.
fn color(words: &[String]) -> ColorChoice {
    let mut values = words.iter().enumerate().filter_map(|(at, word)| match word.as_str() {
        "--color" => words.get(at + 1).map(String::as_str),
        word => word.strip_prefix("--color="),
    });
    match values.next_back() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Adds a suggestion to the error for an unknown command. For a verb without its noun, such as
/// `headwater merge`, suggests the complete commands, such as `headwater branch merge`. Otherwise
/// lists the existing commands.
fn suggest(mut error: Error, words: &[String]) -> Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let commands = if is_first_command(words, verb) { commands_with(verb) } else { Vec::new() };
    let names: Vec<String> = commands.iter().map(|name| format!("`headwater {name}`")).collect();
    let tip = match names.as_slice() {
        [one] => format!("did you mean {one}?"),
        [all @ .., last] => format!("did you mean {} or {last}?", all.join(", ")),
        [] => {
            let tip = format!("the commands are {}", commands_before(words, verb).join(", "));
            let tips = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
            error.insert(ContextKind::Suggested, tips);
            return error;
        }
    };
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error
}

/// Returns true if `verb` is the first command in the command line, without a noun before it.
fn is_first_command(words: &[String], verb: &str) -> bool {
    let root = Arguments::command();
    let is_noun = |word: &&String| root.find_subcommand(word.as_str()).is_some();
    words.iter().skip(1).take_while(|word| *word != verb).find(is_noun).is_none()
}

/// Lists the commands at the position of an unknown one, such as those of `table` in `table foo`.
fn commands_before(words: &[String], unknown: &str) -> Vec<String> {
    let root = Arguments::command();
    let mut parent = &root;
    for word in words.iter().skip(1).take_while(|word| *word != unknown) {
        parent = parent.find_subcommand(word.as_str()).unwrap_or(parent);
    }
    let shown = parent.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).collect()
}

/// Lists the commands that end with this verb, such as `branch merge`.
fn commands_with(verb: &str) -> Vec<String> {
    let root = Arguments::command();
    let nouns = root.get_subcommands();
    let found = nouns.filter_map(|noun| {
        let command = noun.find_subcommand(verb)?;
        Some(format!("{} {}", noun.get_name(), command.get_name()))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = command(&words).try_get_matches_from(&words).expect_err("no command");
        let text = suggest(error, &words).to_string();
        for part in expected {
            assert!(text.contains(part), "no {part} in:\n{text}");
        }
        assert!(!text.contains("serve"), "{text}");
    }

    #[test]
    fn an_unknown_command_lists_the_commands() {
        let words = ["headwater", "quary"].map(str::to_owned);
        let error = command(&words).try_get_matches_from(&words).expect_err("no command");
        let text = suggest(error, &words).to_string();
        assert!(text.contains("'query'") && text.contains("serve, "), "{text}");
    }

    #[test]
    fn verb_without_noun_suggests_whole_commands() {
        check("headwater merge dev", &["did you mean `headwater branch merge`?"]);
        check("headwater import t a.csv", &["did you mean `headwater table import`?"]);
        check("headwater diff", &["`headwater table diff` or `headwater branch diff`?"]);
        check("headwater invoke f", &["`headwater function invoke`"]);
        check("headwater protect main", &["`headwater branch protect`"]);
        check("headwater transplant x", &["`headwater branch cherry-pick`"]);
        check("headwater create x", &["`headwater branch create`", "`headwater namespace create`"]);
        check(
            "headwater ls",
            &["unrecognized subcommand 'ls'", "`headwater table ls`", "`headwater job ls`"],
        );
        check("headwater table merge", &["unrecognized subcommand 'merge'", "import, maintain"]);
        check(
            "headwater secret get",
            &["unrecognized subcommand 'get'", "the commands are ls, set"],
        );
        check("headwater --lake . table gett x", &["a similar subcommand exists: 'get'", "import"]);
        check("headwater --lake . delete x", &["`headwater table rm`", "`headwater branch rm`"]);
    }
}
