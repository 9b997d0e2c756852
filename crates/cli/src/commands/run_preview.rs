//! `headwater run --preview`: prints rows of every model's result.

use headwater_display::preview;
use headwater_model::{PreviewOptions, RunReport};

use crate::arguments::{OutputFormat, Run};
use crate::context::Context;
use crate::output;
use crate::terminal::Tone;

/// Returns the preview settings that the arguments request, if any.
pub fn request(arguments: &Run) -> Option<PreviewOptions> {
    arguments.preview.map(|rows| PreviewOptions { rows, tail: arguments.tail })
}

/// Prints the rows of every model, as text, or as one line with a JSON object per model.
pub fn print(context: &Context, report: &RunReport) {
    let style = context.answer_style;
    for step in &report.steps {
        let Some(rows) = &step.preview else { continue };
        if context.output == OutputFormat::Ndjson {
            output::line(preview::json(&step.step, rows));
            continue;
        }
        let count = match step.rows {
            Some(all) => format!("{} of {all} rows", rows.rows.len()),
            None => output::plural(rows.rows.len() as u64, "row"),
        };
        let note = if rows.truncated { ", cut at 256 KiB" } else { "" };
        let count = style.paint(Tone::Faint, format!("{count}{note}"));
        output::line(format!("{} {count}", style.paint(Tone::Good, &step.step)));
        output::line(preview::table(style, rows));
    }
    if context.output != OutputFormat::Ndjson {
        context.style.say(format!("✓ preview: nothing changed on {}", report.branch));
    }
}
