//! Log messages about events.
//!
//! All these messages have this module as their log target, so that a server that runs in the
//! background can filter them out.

use headwater_event_values::event_summary;
use headwater_model::Event;

/// Maximum length of a text in a log message, in characters.
const CHARACTERS_MAX: usize = 200;

/// Logs that an event was recorded.
pub(crate) fn recorded(trigger: &str, event: &Event) {
    let id = &event.id;
    tracing::info!("trigger {trigger} recorded event {id}: {}", line(&event_summary(&event.data)));
}

/// Replaces control characters, because they could move a terminal's cursor, and truncates.
fn line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(CHARACTERS_MAX).collect()
}
