//! How messages look: colours where a person reads them, plain text where a program does.

use headwater_model::Problem;

/// Whether and how to colour.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    terminal: bool,
    colors: bool,
}

/// What a piece of text is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Went well, or was added.
    Good,
    /// Went wrong, or was removed.
    Bad,
    /// Needs attention.
    Warn,
    /// A name or a heading.
    Strong,
    /// Less important than what stands beside it.
    Faint,
    /// A hash or another id.
    Id,
}

impl Style {
    /// Colours only on a terminal whose owner did not refuse them.
    pub fn new(terminal: bool, no_color: bool) -> Self {
        Style { terminal, colors: terminal && !no_color }
    }

    /// Whether a person is likely to be looking.
    pub fn is_terminal(self) -> bool {
        self.terminal
    }

    /// The text in its tone.
    pub fn paint(self, tone: Tone, text: impl std::fmt::Display) -> String {
        if !self.colors {
            return text.to_string();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Id => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints a message for people.
    #[expect(clippy::unused_self, reason = "a message is printed in a style, even a plain one")]
    pub fn say(self, text: impl std::fmt::Display) {
        use std::io::Write;
        // A closed standard error is no reason to fail.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints error, causes and hint.
    pub fn print_problem(self, problem: &Problem) {
        self.say(format!("{}: {}", self.paint(Tone::Bad, "error"), problem.message));
        for cause in &problem.causes {
            self.say(format!("  {}: {cause}", self.paint(Tone::Faint, "caused by")));
        }
        if let Some(hint) = &problem.hint {
            self.say(format!("  {}: {hint}", self.paint(Tone::Good, "hint")));
        }
    }
}

/// The width of the terminal behind standard output, where it is one.
pub fn width() -> Option<u16> {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|size| size.ws_col)
}
