//! A line on a terminal's standard error that says what is under way, and for how long.
//!
//! It appears when work takes more than a second, and goes when the work ends or something is printed.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Cell};
use crate::terminal::Style;

/// Work shorter than this shows no line.
const DELAY: Duration = Duration::from_secs(1);

/// How often the line is drawn.
pub const TICK: Duration = Duration::from_millis(100);

/// The columns of a bar.
const BAR_WIDTH: usize = 20;

/// The line while it is shown.
pub struct ProgressLine {
    style: Style,
    began: Instant,
    bar: Option<ProgressBar>,
}

/// What the line says.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// What is under way.
    pub text: String,
    /// Units done and units in all, for a bar.
    pub amount: Option<(u64, u64)>,
    /// When it began.
    pub since: Option<Instant>,
}

impl ProgressLine {
    /// A line that is not shown yet.
    pub fn new(style: Style) -> Self {
        ProgressLine { style, began: Instant::now(), bar: None }
    }

    /// Whether the stream is one on which a line can be drawn.
    pub fn is_possible(&self) -> bool {
        self.style.is_animated()
    }

    /// Draws the line, once the work has taken long enough.
    pub fn draw(&mut self, progress: &Progress) {
        if !self.is_possible() || self.began.elapsed() < DELAY {
            return;
        }
        let elapsed = progress.since.unwrap_or(self.began).elapsed();
        let message = self.message(progress, elapsed);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            bar.set_style(look("  {spinner} {msg}"));
            bar
        });
        if let Some((done, total)) = progress.amount {
            bar.set_style(look(&format!("  {{bar:{BAR_WIDTH}}} {{msg}}")));
            bar.set_length(total);
            bar.set_position(done);
        } else {
            bar.set_style(look("  {spinner} {msg}"));
        }
        bar.set_message(message);
        // Shown only now, so that the first drawing has its text.
        if bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.tick();
    }

    fn message(&self, progress: &Progress, elapsed: Duration) -> String {
        let seconds = format!("  {}", output::elapsed(elapsed));
        let mark = if progress.amount.is_some() { BAR_WIDTH + 3 } else { 4 };
        let width = self.style.width().unwrap_or(usize::MAX);
        let left = width.saturating_sub(mark + seconds.len() + 1);
        Cell::from(&progress.text).cut(left).then(seconds).paint(Style::plain(), usize::MAX).0
    }

    /// Prints something above the line.
    pub fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the line away.
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

fn look(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█░")
}

/// The line of work that is awaited.
pub struct Watch {
    line: RefCell<ProgressLine>,
    progress: RefCell<Progress>,
}

impl Watch {
    /// A line with this text.
    pub fn new(style: Style, text: &str) -> Self {
        let progress = Progress { text: text.to_owned(), ..Progress::default() };
        Watch { line: RefCell::new(ProgressLine::new(style)), progress: RefCell::new(progress) }
    }

    /// Changes the text.
    pub fn set(&self, text: String) {
        self.progress.borrow_mut().text = text;
    }

    /// Takes the line away for good, before something is printed.
    pub fn end(&self) {
        self.line.replace(ProgressLine::new(Style::plain()));
    }

    /// Shows the line until the work is done.
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
