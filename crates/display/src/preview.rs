//! Previewed rows as a table or as a line of JSON.

use headwater_model::{PreviewColumn, RowsPreview};
use serde_json::{Map, Value, json};

use crate::cell::clean;
use crate::grid::Grid;
use crate::terminal::OutputStyle;

/// Arrow types whose values are right-aligned.
const NUMBERS: [&str; 4] = ["Int", "UInt", "Float", "Decimal"];

/// Returns the rows of a model as an indented table.
pub fn table(style: OutputStyle, preview: &RowsPreview) -> String {
    let heading = |column: &PreviewColumn| {
        let is_number = NUMBERS.iter().any(|number| column.column_type.starts_with(number));
        format!("{}{}", if is_number { ">" } else { "" }, clean(&column.name))
    };
    let headings: Vec<String> = preview.columns.iter().map(heading).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut grid = Grid::new(style, &headings).indented(2);
    for row in &preview.rows {
        grid.row(row.iter().map(|value| match value {
            Value::Null => "null".to_owned(),
            Value::String(text) => clean(text),
            other => clean(&other.to_string()),
        }));
    }
    grid.text()
}

/// Returns the rows of a model as one JSON object.
pub fn json(model: &str, preview: &RowsPreview) -> Value {
    let names = || preview.columns.iter().map(|column| column.name.clone());
    let row = |cells: &Vec<Value>| names().zip(cells.iter().cloned()).collect::<Map<_, _>>();
    json!({
        "model": model,
        "columns": preview.columns,
        "rows": preview.rows.iter().map(row).collect::<Vec<_>>(),
        "truncated": preview.truncated,
    })
}
