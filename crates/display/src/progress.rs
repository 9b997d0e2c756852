//! Progress lines on a terminal's standard error: the current work and its elapsed time.
//!
//! The line appears after one second, and disappears when the work ends or other output is printed.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Cell};
use crate::terminal::OutputStyle;

/// The time before the line appears.
const DELAY: Duration = Duration::from_secs(1);

/// The interval between updates.
pub const TICK: Duration = Duration::from_millis(100);

/// The width of a bar in columns.
const BAR_WIDTH: usize = 20;

/// The progress line.
pub struct ProgressLine {
    style: OutputStyle,
    began: Instant,
    bar: Option<ProgressBar>,
}

/// The content of the line.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The current work.
    pub text: String,
    /// Completed and total units, for a progress bar.
    pub amount: Option<(u64, u64)>,
    /// The time at which the work started.
    pub since: Option<Instant>,
}

impl ProgressLine {
    /// Creates a progress line that is not shown yet.
    pub fn new(style: OutputStyle) -> Self {
        ProgressLine { style, began: Instant::now(), bar: None }
    }

    /// Returns true if the stream supports a progress line.
    pub fn is_possible(&self) -> bool {
        self.style.is_animated()
    }

    /// Draws the line, unless it was created less than one second ago.
    pub fn draw(&mut self, progress: &Progress) {
        if !self.is_possible() || self.began.elapsed() < DELAY {
            return;
        }
        let elapsed = progress.since.unwrap_or(self.began).elapsed();
        let message = self.message(progress, elapsed);
        let bar = self.bar.get_or_insert_with(hidden_bar);
        if let Some((done, total)) = progress.amount {
            bar.set_style(bar_style(&format!("  {{bar:{BAR_WIDTH}}} {{msg}}")));
            bar.set_length(total);
            bar.set_position(done);
        } else {
            bar.set_style(bar_style("  {spinner} {msg}"));
        }
        bar.set_message(message);
        show(bar);
    }

    /// Draws several lines instead of one, unless the progress line was created less than one
    /// second ago.
    pub fn draw_lines(&mut self, lines: &[String]) {
        if !self.is_possible() || self.began.elapsed() < DELAY {
            return;
        }
        let bar = self.bar.get_or_insert_with(hidden_bar);
        bar.set_style(bar_style("{msg}"));
        bar.set_message(lines.join("\n"));
        show(bar);
    }

    fn message(&self, progress: &Progress, elapsed: Duration) -> String {
        let seconds = format!("  {}", output::elapsed(elapsed));
        let mark = if progress.amount.is_some() { BAR_WIDTH + 3 } else { 4 };
        let width = self.style.width().unwrap_or(usize::MAX);
        let left = width.saturating_sub(mark + seconds.len() + 1);
        Cell::from(&progress.text).cut(left).then(seconds).paint(OutputStyle::plain(), usize::MAX).0
    }

    /// Calls `print`, whose output appears above the progress line.
    pub fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the progress line from the terminal.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

fn hidden_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    bar.set_style(bar_style("  {spinner} {msg}"));
    bar
}

/// Draws the bar. A new bar is hidden and becomes visible only here, so that it is never drawn
/// without its text.
fn show(bar: &ProgressBar) {
    if bar.is_hidden() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    bar.tick();
}

fn bar_style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█░")
}

/// A progress line that is shown while a future runs.
pub struct ProgressDisplay {
    line: RefCell<ProgressLine>,
    progress: RefCell<Progress>,
}

impl ProgressDisplay {
    /// Creates a progress line with this text.
    pub fn new(style: OutputStyle, text: &str) -> Self {
        let progress = Progress { text: text.to_owned(), ..Progress::default() };
        ProgressDisplay {
            line: RefCell::new(ProgressLine::new(style)),
            progress: RefCell::new(progress),
        }
    }

    /// Changes the text of the progress line.
    pub fn set(&self, text: String) {
        self.progress.borrow_mut().text = text;
    }

    /// Removes the progress line permanently, before other output.
    pub fn end(&self) {
        self.line.replace(ProgressLine::new(OutputStyle::plain()));
    }

    /// Awaits the work, and shows the line until it completes.
    pub async fn until_done<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                outcome = &mut work => {
                    self.end();
                    return outcome;
                }
                _ = ticks.tick() => self.line.borrow_mut().draw(&self.progress.borrow()),
            }
        }
    }
}
