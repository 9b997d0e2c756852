//! Log messages about events.
//!
//! The log target of these messages is this module, so that a background server can filter them
//! out.

use headwater_model::{Event, EventData};

/// Maximum length of a text in a log message, in characters.
const CHARACTERS_MAX: usize = 200;

/// Logs that an event was recorded.
pub(crate) fn recorded(trigger: &str, event: &Event) {
    let id = &event.id;
    tracing::info!("trigger {trigger} recorded event {id}: {}", line(&summary(&event.data)));
}

/// Returns a short description of an event.
pub(crate) fn summary(data: &EventData) -> String {
    match data {
        EventData::FileArrived { files } if files.len() == 1 => "1 file".to_owned(),
        EventData::FileArrived { files } => format!("{} files", files.len()),
        EventData::ObjectCreated { object } => format!("{} created", object.uri),
        EventData::ObjectRemoved { object } => format!("{} removed", object.uri),
        EventData::ScheduleFired { scheduled } => {
            scheduled.format("%Y-%m-%d %H:%M:%S UTC").to_string()
        }
        EventData::FunctionInvoked { function, .. } if function.contains("://") => {
            format!("record for {function}")
        }
        EventData::FunctionInvoked { function, .. } => format!("call of {function}"),
        EventData::PostgresNotified { channel, payloads } => {
            format!("{} notifications of {channel}", payloads.len())
        }
        EventData::PostgresRowsAdded { table, rows } => format!("{} rows of {table}", rows.len()),
        EventData::QueueReceived { queue, messages } => {
            format!("{} messages of {queue}", messages.len())
        }
        EventData::NatsReceived { stream, messages } => {
            format!("{} messages of {stream}", messages.len())
        }
        EventData::KafkaReceived { topic, partition, records } => {
            format!("{} records of {topic}-{partition}", records.len())
        }
        EventData::BranchMerged { branch, source, .. } => format!("{source} merged into {branch}"),
        EventData::JobEnded { job } => format!("{} {}", job.kind.as_str(), job.id.short()),
        EventData::TableChanged { tables, .. } => match tables.as_slice() {
            [table] => format!("{table} changed"),
            tables => format!("{} tables changed", tables.len()),
        },
    }
}

/// Replaces control characters, because they could move the cursor of a terminal. Truncates long
/// texts.
fn line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(CHARACTERS_MAX).collect()
}
