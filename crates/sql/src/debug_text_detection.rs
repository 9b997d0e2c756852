//! Detects Rust's debug text of a syntax tree in messages of the parser and the planner.

use crate::error::Position;

/// Texts that occur in the debug format of a syntax tree, but hardly ever in a quoted part of a
/// statement.
const DEBUG: [&str; 8] =
    ["ValueWithSpan {", "Span(", "Location(", "Ident {", "Word(Word", "Some(", "Field {", "Box("];

/// Returns true if a message contains debug text of a syntax tree.
pub fn shows_debug(message: &str) -> bool {
    DEBUG.iter().any(|part| message.contains(part))
}

/// Returns the first position that the debug text of a syntax tree contains.
pub fn debug_position(message: &str) -> Option<Position> {
    message.split("Location(").skip(1).find_map(|rest| {
        let (line, column) = rest.split_once(')')?.0.split_once(',')?;
        let position =
            Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
        (position.line > 0).then_some(position)
    })
}

/// Returns the text with a lower-case first letter, unless it begins with an upper-case word.
pub fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.trim().to_owned(),
    }
}
