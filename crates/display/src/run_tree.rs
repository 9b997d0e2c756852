//! The steps of a run as a tree, during the run and at its end: state, rows, time and cost.
//!
//! A step is shown only below its last parent in the order of the run, so every step has one line.

use std::time::Instant;

use headwater_model::{FIRST_RUN, PlannedStep, StepReport, StepStatus};

use crate::cell::Cell;
use crate::output;
use crate::terminal::{OutputStyle, Tone};

/// Minimum width of the names in columns.
const NAME_WIDTH: usize = 32;

/// Minimum width of a reason in columns. A reason with less space is omitted.
const REASON_WIDTH_MIN: usize = 16;

/// The frames of a running step's mark, one for each tenth of a second.
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The steps of a run.
#[derive(Debug)]
pub struct RunTree {
    /// Nodes from top to bottom.
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    name: String,
    kind: String,
    /// The vertical and horizontal lines of the tree to the left of the step's name.
    prefix: String,
    state: StepState,
}

/// The state of a step.
#[derive(Debug)]
enum StepState {
    Waiting,
    Running(Instant),
    Ended(Box<StepReport>),
}

impl RunTree {
    /// Creates the tree of a run that has not started.
    pub fn new(steps: &[PlannedStep]) -> Self {
        let parents: Vec<Option<usize>> = (0..steps.len()).map(|at| parent(steps, at)).collect();
        let mut nodes = Vec::with_capacity(steps.len());
        let mut open: Vec<(usize, String, String)> = roots(&parents, None, None);
        open.reverse();
        while let Some((at, prefix, below)) = open.pop() {
            let step = &steps[at];
            let (name, kind, state) = (step.name.clone(), step.kind.clone(), StepState::Waiting);
            nodes.push(Node { name, kind, prefix, state });
            let mut children = roots(&parents, Some(at), Some(&below));
            children.reverse();
            open.extend(children);
        }
        RunTree { nodes }
    }

    /// Returns the number of lines of the tree, one for each step.
    pub fn height(&self) -> usize {
        self.nodes.len()
    }

    /// Marks a step as running.
    pub fn start(&mut self, step: &str, now: Instant) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name == step) {
            node.state = StepState::Running(now);
        }
    }

    /// Records the result of a step. Returns false if the step is not in the tree.
    pub fn end(&mut self, report: &StepReport) -> bool {
        let node = self.nodes.iter_mut().find(|node| node.name == report.step);
        let Some(node) = node else { return false };
        node.state = StepState::Ended(Box::new(report.clone()));
        true
    }

    /// Returns the lines of the tree at the time `now`, without line ends.
    pub fn lines(&self, style: OutputStyle, now: Instant) -> Vec<String> {
        let width = |node: &Node| Cell::from(node.prefix.clone() + &node.name).width();
        let names = self.nodes.iter().map(width).max().unwrap_or(0).max(NAME_WIDTH);
        let columns = style.width().unwrap_or(usize::MAX);
        let line = |node: &Node| {
            let columns_used = Cell::from(node.prefix.clone() + &node.name).width();
            let padding = " ".repeat(names - columns_used);
            let line = match &node.state {
                StepState::Waiting => {
                    let name = Cell::toned(Tone::Faint, format!("{}{padding}", node.name));
                    mark(node, Tone::Faint, "·").then(name)
                }
                StepState::Running(since) => {
                    let elapsed = now.saturating_duration_since(*since);
                    let frame = usize::try_from(elapsed.as_millis() / 100).unwrap_or(0);
                    let time = output::elapsed(elapsed);
                    mark(node, Tone::Strong, FRAMES[frame % FRAMES.len()])
                        .then(Cell::toned(Tone::Strong, format!("{}{padding}", node.name)))
                        .then(Cell::toned(Tone::Faint, format!("  {:<12}", node.kind)))
                        .then(format!("{time:>9}"))
                }
                StepState::Ended(report) => {
                    let (sign, tone, _) = status(report.status);
                    let line = mark(node, tone, sign).then(format!("{}{padding}", node.name));
                    line.then(result(report, columns.saturating_sub(names + 2)))
                }
            };
            line.paint(style, columns).0.trim_end().to_owned()
        };
        self.nodes.iter().map(line).collect()
    }
}

/// Returns the vertical and horizontal lines to the left of a step's name, and the mark of the
/// step.
fn mark(node: &Node, tone: Tone, sign: &str) -> Cell {
    Cell::toned(Tone::Faint, &node.prefix).then(Cell::toned(tone, sign)).then(" ")
}

/// Returns the line of a step that has ended, outside a tree.
pub fn step_line(style: OutputStyle, report: &StepReport) -> String {
    let (sign, tone, _) = status(report.status);
    let columns = style.width().unwrap_or(usize::MAX);
    let name = format!(" {:<NAME_WIDTH$}", report.step);
    let line = Cell::toned(tone, sign).then(name);
    let left = columns.saturating_sub(line.width());
    line.then(result(report, left)).paint(style, columns).0.trim_end().to_owned()
}

/// Returns kind, time, rows and cost of a step that ran; the status of any other step.
fn result(report: &StepReport, columns: usize) -> Cell {
    let (_, tone, word) = status(report.status);
    let mut line = Cell::toned(Tone::Faint, format!("  {:<12}", report.kind));
    if !word.is_empty() {
        line = line.then(Cell::toned(tone, word));
        return match (&report.reuses, report.status) {
            (Some(branch), _) => line.then(Cell::toned(Tone::Faint, format!(" from {branch}"))),
            (None, StepStatus::Failed | StepStatus::Warned) => with_reason(line, report, columns),
            (None, _) => line,
        };
    }
    line = line.then(format!("{:>9}", output::milliseconds(report.usage.wall_ms)));
    if let Some(rows) = report.rows {
        line = line.then(format!("  {:>14}", output::plural(rows, "row")));
    }
    if let Some(rows) = report.quarantined.filter(|rows| *rows > 0) {
        line = line.then(Cell::toned(Tone::Warn, format!("  {rows} in quarantine")));
    }
    for part in details(report) {
        let longer = line.clone().then(Cell::toned(Tone::Faint, format!("  {part}")));
        // Omit parts that do not fit; `headwater job get` shows all parts.
        if longer.width() <= columns {
            line = longer;
        }
    }
    with_reason(line, report, columns)
}

/// Appends the first reason why a step ran, truncated to the width of the line. Omits the reason if
/// fewer than [`REASON_WIDTH_MIN`] columns are left.
///
/// Also omits the reasons of models that were never built and of expectations. Otherwise every line
/// of a project's first run would have a reason.
fn with_reason(line: Cell, report: &StepReport, columns: usize) -> Cell {
    let [first, others @ ..] = report.reasons.as_slice() else { return line };
    if first == FIRST_RUN || report.kind == "expectation" {
        return line;
    }
    let left = columns.saturating_sub(line.width());
    if left < REASON_WIDTH_MIN {
        return line;
    }
    let more = if others.is_empty() { String::new() } else { format!(" (+{})", others.len()) };
    line.then(Cell::toned(Tone::Faint, format!("  {first}{more}")).cut(left))
}

/// Returns the cost of a step, and its waiting time if that is long.
fn details(report: &StepReport) -> Vec<String> {
    let usage = &report.usage;
    let waits =
        [("queue", usage.queue_ms), ("packages", usage.environment_ms), ("start", usage.start_ms)];
    let waits = waits.into_iter().filter(|(_, time)| *time >= 100);
    let waits = waits.map(|(name, time)| format!("{name} {}", output::milliseconds(time)));
    let cost = (report.cost > 0.0).then(|| output::money(report.cost, "").trim().to_owned());
    cost.map(|cost| format!("cost {cost}")).into_iter().chain(waits).collect()
}

/// Returns the symbol, color and label of a status; the label of success is empty.
fn status(status: StepStatus) -> (&'static str, Tone, &'static str) {
    match status {
        StepStatus::Succeeded => ("✓", Tone::Good, ""),
        StepStatus::Unchanged => ("=", Tone::Faint, "unchanged"),
        StepStatus::Reused => ("=", Tone::Good, "reused"),
        StepStatus::Failed => ("✗", Tone::Bad, "failed"),
        StepStatus::Warned => ("!", Tone::Warn, "false (warning)"),
        StepStatus::Skipped => ("-", Tone::Faint, "skipped"),
    }
}

/// Returns the steps whose parent is `of`; if `of` is `None`, the steps without a parent. Each step
/// has two prefixes: one for the line of the step, and one for the lines of the step's children.
fn roots(
    parents: &[Option<usize>],
    of: Option<usize>,
    below: Option<&str>,
) -> Vec<(usize, String, String)> {
    let all: Vec<usize> = (0..parents.len()).filter(|at| parents[*at] == of).collect();
    let last = all.len().saturating_sub(1);
    let line = |(number, at): (usize, usize)| match below {
        None => (at, String::new(), String::new()),
        Some(below) if number == last => (at, format!("{below}└ "), format!("{below}  ")),
        Some(below) => (at, format!("{below}├ "), format!("{below}│ ")),
    };
    all.into_iter().enumerate().map(line).collect()
}

/// Returns the parent of a step in the tree: the last earlier step that it reads.
fn parent(steps: &[PlannedStep], at: usize) -> Option<usize> {
    let reads = |name: &str| {
        steps[at].parents.iter().any(|table| {
            let own = table.rsplit('.').next().unwrap_or_default();
            table.eq_ignore_ascii_case(name) || own.eq_ignore_ascii_case(name)
        })
    };
    (0..at).rev().find(|earlier| reads(&steps[*earlier].name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn planned(name: &str, parents: &[&str]) -> PlannedStep {
        let step = json!({
            "name": name, "kind": "sql", "file": "m.sql", "line": 1, "parents": parents,
            "tables": [], "materialization": "replace", "environment": null, "reason": null,
        });
        serde_json::from_value(step).expect("a step")
    }

    fn report(name: &str, status: &str) -> StepReport {
        let usage = headwater_model::Usage { wall_ms: 12, queue_ms: 300, ..Default::default() };
        let report = json!({
            "step": name, "kind": "sql", "status": status, "rows": 1234, "usage": usage,
            "cost": 0.000_012, "reuses": (status == "reused").then_some("dev"),
            "reasons": ["file `m.sql` changed", "table `raw` changed"],
        });
        serde_json::from_value(report).expect("a report")
    }

    #[test]
    fn steps_are_below_their_last_parent_with_state_rows_time_and_cost() {
        let steps = [
            planned("flights", &["raw"]),
            planned("daily", &["flights"]),
            planned("by_day", &["sales.daily", "flights"]),
            planned("late", &["flights"]),
            planned("other", &[]),
        ];
        let mut tree = RunTree::new(&steps);
        let now = Instant::now();
        assert!(tree.end(&report("flights", "succeeded")) && tree.end(&report("other", "reused")));
        assert!(!tree.end(&report("unknown", "succeeded")));
        tree.start("daily", now);
        let lines = tree.lines(OutputStyle::plain(), now + Duration::from_secs(3));
        assert_eq!(
            lines,
            [
                "✓ flights                           sql             12 ms      1,234 rows  \
                 cost 0.000012  queue 300 ms  file `m.sql` changed (+1)",
                "├ ⠋ daily                           sql               3 s",
                "│ └ · by_day",
                "└ · late",
                "= other                             sql         reused from dev",
            ]
        );
        let mut first_run = report("flights", "succeeded");
        first_run.reasons = vec![FIRST_RUN.to_owned()];
        let mut expectation = report("flights", "succeeded");
        expectation.kind = "expectation".to_owned();
        for step in [first_run, expectation] {
            let line = step_line(OutputStyle::plain(), &step);
            assert!(line.ends_with("queue 300 ms"), "{line}");
        }
        let failed = step_line(OutputStyle::plain().with_width(72), &report("flights", "failed"));
        assert!(failed.ends_with("failed  file `m.sql` ch…"), "{failed}");
        for line in tree.lines(OutputStyle::plain().with_width(60), now) {
            assert!(Cell::from(&line).width() <= 60, "{line}");
        }
    }
}
