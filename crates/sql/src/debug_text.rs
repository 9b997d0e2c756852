//! Messages of the parser and the planner: debug text of a syntax tree, which no message may hold.

use crate::error::Position;

/// What only debug text of Rust holds, and hardly any text that a statement quotes.
const DEBUG: [&str; 8] =
    ["ValueWithSpan {", "Span(", "Location(", "Ident {", "Word(Word", "Some(", "Field {", "Box("];

/// Whether a message holds debug text of a tree.
pub fn shows_debug(message: &str) -> bool {
    DEBUG.iter().any(|part| message.contains(part))
}

/// The first place that the debug text of a tree holds.
pub fn debug_position(message: &str) -> Option<Position> {
    message.split("Location(").skip(1).find_map(|rest| {
        let (line, column) = rest.split_once(')')?.0.split_once(',')?;
        let position =
            Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
        (position.line > 0).then_some(position)
    })
}

/// The same text with a small first letter, unless a word in capitals comes first.
pub fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.trim().to_owned(),
    }
}
