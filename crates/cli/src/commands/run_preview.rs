//! `headwater run --preview`: prints rows of every model's result.

use headwater_model::{PreviewRequest, RowsPreview, RunReport};
use serde_json::{Map, Value, json};

use crate::arguments::{OutputFormat, Run};
use crate::cell::clean;
use crate::context::Context;
use crate::output::{self, Grid};
use crate::terminal::Tone;

/// Arrow types whose values are right-aligned.
const NUMBERS: [&str; 4] = ["Int", "UInt", "Float", "Decimal"];

/// Returns the preview that the arguments ask for.
pub fn request(arguments: &Run) -> Option<PreviewRequest> {
    arguments.preview.map(|rows| PreviewRequest { rows, tail: arguments.tail })
}

/// Prints the rows of every model: as text, or as one JSON object in a line for each model.
pub fn print(context: &Context, report: &RunReport) {
    let is_lines = context.output == OutputFormat::Ndjson;
    for step in &report.steps {
        let Some(preview) = &step.preview else { continue };
        if is_lines {
            output::line(line(&step.step, preview));
            continue;
        }
        let count = match step.rows {
            Some(rows) => format!("{} of {rows} rows", preview.rows.len()),
            None => output::plural(preview.rows.len() as u64, "row"),
        };
        let note = if preview.truncated { ", cut at 256 KiB" } else { "" };
        let style = context.answer_style;
        let count = style.paint(Tone::Faint, format!("{count}{note}"));
        output::line(format!("{} {count}", style.paint(Tone::Good, &step.step)));
        output::line(table(context, preview));
    }
    if !is_lines {
        let text = format!("{} preview: nothing changed on {}", "✓", report.branch);
        context.style.say(text);
    }
}

/// Returns a model's rows as one line of JSON.
fn line(model: &str, preview: &RowsPreview) -> Value {
    let names = || preview.columns.iter().map(|column| column.name.clone());
    let row = |cells: &Vec<Value>| names().zip(cells.iter().cloned()).collect::<Map<_, _>>();
    json!({
        "model": model,
        "columns": preview.columns,
        "rows": preview.rows.iter().map(row).collect::<Vec<_>>(),
        "truncated": preview.truncated,
    })
}

fn table(context: &Context, preview: &RowsPreview) -> String {
    let heading = |column: &headwater_model::PreviewColumn| {
        let is_number = NUMBERS.iter().any(|number| column.column_type.starts_with(number));
        format!("{}{}", if is_number { ">" } else { "" }, clean(&column.name))
    };
    let headings: Vec<String> = preview.columns.iter().map(heading).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut grid = Grid::new(context.answer_style, &headings).indented(2);
    for row in &preview.rows {
        grid.row(row.iter().map(|value| match value {
            Value::Null => "null".to_owned(),
            Value::String(text) => clean(text),
            other => clean(&other.to_string()),
        }));
    }
    grid.text()
}
