//! The output of `headwater run --plan`: models to run and to skip, with reasons. The output also
//! lists the tables to read, the packages to install, the cost and the affected models.

use headwater_model::{AffectedReader, PlannedColumns, PlannedStep, RunPlan};

use crate::output;
use crate::terminal::{OutputStyle, Tone};

/// Prints a plan.
pub fn print(style: OutputStyle, plan: &RunPlan) {
    let (run, rest): (Vec<_>, Vec<_>) = plan.steps.iter().partition(|step| step.reason.is_some());
    let (reuse, skip): (Vec<_>, Vec<_>) = rest.into_iter().partition(|step| step.reuses.is_some());
    for step in &run {
        let place = style.paint(Tone::Faint, format!("{}:{}", step.file, step.line));
        let how = step.materialization.as_deref().unwrap_or(&step.kind);
        output::line(format!("{} {} {how} {place}", style.paint(Tone::Good, "run"), step.name));
        for line in details(step, &plan.currency) {
            output::line(format!("    {line}"));
        }
    }
    for step in &reuse {
        let word = style.paint(Tone::Good, "reuse");
        output::line(format!("{word} {}: {}", step.name, step.reasons().join("; ")));
    }
    for step in &skip {
        let word = style.paint(Tone::Faint, "skip");
        output::line(format!("{word} {}: code, settings and inputs are unchanged", step.name));
    }
    for install in &plan.installs {
        let steps = install.steps.join(", ");
        output::line(format!("install {} for {steps}", install.environment));
    }
    for reader in &plan.affected {
        output::line(affected(reader));
    }
    let reused =
        if reuse.is_empty() { String::new() } else { format!(", {} to reuse", reuse.len()) };
    let figures = format!(
        "{} to run{reused}, {} to skip; {} to read, about {}",
        run.len(),
        skip.len(),
        volume(plan.rows_read, plan.bytes_read),
        output::money(plan.cost, &plan.currency)
    );
    output::line(style.paint(Tone::Strong, figures));
}

fn details(step: &PlannedStep, currency: &str) -> Vec<String> {
    let mut lines = step.reasons();
    if let (Some(rows), Some(bytes)) = (step.rows_read, step.bytes_read) {
        let cost = output::money(step.cost.unwrap_or_default(), currency);
        lines.push(format!("reads {}, about {cost}", volume(rows, bytes)));
    }
    lines.extend(step.columns.iter().filter_map(columns));
    lines
}

fn volume(rows: u64, bytes: u64) -> String {
    format!("{} ({})", output::plural(rows, "row"), output::bytes(bytes))
}

fn columns(changes: &PlannedColumns) -> Option<String> {
    let mut parts = Vec::new();
    for (what, names) in
        [("adds", &changes.added), ("removes", &changes.removed), ("retypes", &changes.retyped)]
    {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            parts.push(format!("{what} {}", names.join(", ")));
        }
    }
    let breaking = if changes.is_breaking() { " (breaking)" } else { "" };
    (!parts.is_empty()).then(|| format!("columns: {}{breaking}", parts.join("; ")))
}

fn affected(reader: &AffectedReader) -> String {
    let change = match reader.breaking {
        Some(true) => "breaking change of columns",
        Some(false) => "no breaking change",
        None => "columns are known only after the run",
    };
    let AffectedReader { name, kind, reads, .. } = reader;
    format!("affects {kind} {name}, which reads {}: {change}", reads.join(", "))
}
