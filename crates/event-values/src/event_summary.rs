//! Short descriptions of events, for log messages and for the summaries of jobs.

use headwater_model::EventData;

/// Returns a short description of an event.
pub fn event_summary(data: &EventData) -> String {
    match data {
        EventData::FileArrived { files } => counted(files.len(), "file"),
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
            format!("{} of {channel}", counted(payloads.len(), "notification"))
        }
        EventData::PostgresRowsAdded { table, rows } => {
            format!("{} of {table}", counted(rows.len(), "row"))
        }
        EventData::QueueReceived { queue, messages } => {
            format!("{} of {queue}", counted(messages.len(), "message"))
        }
        EventData::NatsReceived { stream, messages } => {
            format!("{} of {stream}", counted(messages.len(), "message"))
        }
        EventData::KafkaReceived { topic, partition, records } => {
            format!("{} of {topic}-{partition}", counted(records.len(), "record"))
        }
        EventData::BranchMerged { branch, source, .. } => format!("{source} merged into {branch}"),
        EventData::JobEnded { job } => format!("{} {}", job.kind.as_str(), job.id.short()),
        EventData::TableChanged { tables, .. } => match tables.as_slice() {
            [table] => format!("{table} changed"),
            tables => format!("{} tables changed", tables.len()),
        },
    }
}

/// Returns a number with its noun, such as `1 file` or `2 files`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_notification_is_in_the_singular() {
        let summary_of = |count: usize| {
            let payloads = vec![serde_json::Value::Null; count];
            event_summary(&EventData::PostgresNotified { channel: "orders".to_owned(), payloads })
        };
        assert_eq!(summary_of(1), "1 notification of orders");
        assert_eq!(summary_of(2), "2 notifications of orders");
    }
}
