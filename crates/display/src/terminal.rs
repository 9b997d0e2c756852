//! The appearance of output: colors, width and progress on a terminal, plain text otherwise.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use headwater_model::Problem;

/// The appearance that the user and the environment request.
#[derive(Debug, Clone, Copy)]
pub struct Appearance {
    /// True for colors, false for no colors; `None` for colors only on a terminal.
    pub colors: Option<bool>,
    /// True if `NO_COLOR` is set.
    pub no_color: bool,
    /// True if the terminal has no escape codes: `TERM=dumb`.
    pub is_dumb: bool,
    /// True if rows are printed as lists.
    pub expanded: bool,
}

impl Appearance {
    /// Returns the style of text on this stream.
    pub fn style(self, stream: &(impl IsTerminal + AsFd)) -> OutputStyle {
        let terminal = stream.is_terminal();
        let colors = self.colors.unwrap_or(terminal && !self.no_color && !self.is_dumb);
        let size = rustix::termios::tcgetwinsize(stream).ok();
        let width = size.map(|size| size.ws_col).filter(|width| terminal && *width > 0);
        let animated = terminal && !self.is_dumb;
        let height = size.map(|size| size.ws_row).filter(|height| terminal && *height > 0);
        OutputStyle { terminal, colors, animated, width, height, expanded: self.expanded }
    }
}

/// The style of text on one stream.
#[derive(Debug, Clone, Copy)]
pub struct OutputStyle {
    terminal: bool,
    colors: bool,
    animated: bool,
    width: Option<u16>,
    height: Option<u16>,
    expanded: bool,
}

/// The meaning of text, which determines its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Success, or an addition.
    Good,
    /// Failure, or a removal.
    Bad,
    /// A warning, or a change.
    Warn,
    /// A name or a heading.
    Strong,
    /// Secondary text.
    Faint,
    /// A hash or other id.
    Id,
}

impl OutputStyle {
    /// Returns the style of plain text without a width limit.
    pub const fn plain() -> Self {
        OutputStyle {
            terminal: false,
            colors: false,
            animated: false,
            width: None,
            height: None,
            expanded: false,
        }
    }

    /// Returns the style for a terminal with this width, in characters.
    #[must_use]
    pub const fn with_width(self, width: u16) -> Self {
        OutputStyle { width: Some(width), ..self }
    }

    /// Returns true if the stream is a terminal.
    pub fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Returns true if the stream supports a progress line.
    pub fn is_animated(self) -> bool {
        self.animated
    }

    /// Sets whether rows are printed as lists.
    #[must_use]
    pub const fn expanded(self, expanded: bool) -> Self {
        OutputStyle { expanded, ..self }
    }

    /// Returns true if rows are printed as lists, one line per column.
    pub fn is_expanded(self) -> bool {
        self.expanded
    }

    /// Returns the terminal's width; `None` if the stream is not a terminal.
    pub fn width(self) -> Option<usize> {
        self.width.map(usize::from)
    }

    /// Returns the terminal's height in lines; `None` if the stream is not a terminal.
    pub fn height(self) -> Option<usize> {
        self.height.map(usize::from)
    }

    /// Colors the text by its tone.
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

    /// Prints a message to standard error.
    pub fn say(self, text: impl std::fmt::Display) {
        use std::io::Write;
        // Ignore errors, because standard error may be closed.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints error, causes and hint to standard error.
    pub fn print_problem(self, problem: &Problem) {
        for line in self.problem_lines(problem) {
            self.say(line);
        }
    }

    /// Returns the lines of error, causes and hint.
    pub fn problem_lines(self, problem: &Problem) -> Vec<String> {
        let mut lines = vec![format!("{}: {}", self.paint(Tone::Bad, "error"), problem.message)];
        lines.extend(problem.excerpts().into_iter().map(str::to_owned));
        for cause in &problem.causes {
            lines.push(format!("  {}: {cause}", self.paint(Tone::Faint, "caused by")));
        }
        if let Some(hint) = &problem.hint {
            lines.push(format!("  {}: {hint}", self.paint(Tone::Good, "hint")));
        }
        lines
    }
}

#[cfg(test)]
impl OutputStyle {
    /// Returns the style of a terminal with colors.
    pub const fn colored() -> Self {
        OutputStyle { colors: true, ..OutputStyle::plain() }
    }
}
