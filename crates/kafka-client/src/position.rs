//! The position of a trigger in a topic. Does no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::TimeDelta;
use headwater_model::{ErrorCode, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::records::Record;

/// Time for which the trigger's status shows a loss of records.
const LOSS_SHOWN: TimeDelta = TimeDelta::hours(24);
/// Maximum number of partitions that the problem of lost records names.
const LOSSES_SHOWN: usize = 10;

/// The next record of each partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The topic to which the position belongs.
    #[serde(flatten)]
    pub topic: TopicIdentity,
    /// Offset of the next record by partition.
    next: BTreeMap<i32, i64>,
    /// The latest loss of records of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    losses: BTreeMap<i32, LostRecords>,
}

/// The topic in which a position is valid. If the trigger reads another topic, it discards the
/// position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicIdentity {
    /// Id of the cluster and name of the topic.
    pub topic: String,
    /// The number of partitions when the trigger read the topic for the first time. Later
    /// partitions are read from their first record.
    pub partitions: i32,
}

/// Lost records: the cluster deleted them before they were read, or the partition now ends before
/// them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LostRecords {
    from: i64,
    to: i64,
    time: Timestamp,
}

impl fmt::Display for LostRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostRecords { from, to, .. } = self;
        if from < to {
            write!(f, "no longer had the records {from} to {}, ", to - 1)?;
        } else {
            write!(f, "ended before record {from}, ")?;
        }
        write!(f, "so the trigger continued at {to}")
    }
}

/// A change of the position in a partition, with the record that caused it, if there is one.
pub struct PositionUpdate {
    /// The topic to which the new position belongs.
    pub topic: Arc<TopicIdentity>,
    /// Number of the partition.
    pub partition: i32,
    /// The new position: the offset where reading continues.
    pub next: i64,
    /// The record, or the reason for the change of the position.
    pub content: PositionUpdateContent,
}

/// The content of a [`PositionUpdate`].
pub enum PositionUpdateContent {
    /// A record.
    Record {
        /// The record.
        record: Record,
        /// The memory permit of the batch. All records of the batch share it.
        memory: Arc<OwnedSemaphorePermit>,
    },
    /// No record, because the offsets up to `next` contain none, for example only control records.
    Nothing,
    /// Reading continues at another offset: the partition is read for the first time, or no longer
    /// has the record at the previous offset.
    Start {
        /// The previous offset; `None` if the partition is read for the first time.
        previous: Option<i64>,
    },
}

impl Position {
    /// Returns the offset of the next record of a partition; `None` if the offset is not known yet.
    pub fn next(&self, partition: i32) -> Option<i64> {
        self.next.get(&partition).copied()
    }

    /// Sets the offset of the next record of a partition.
    pub fn set(&mut self, partition: i32, next: i64) {
        self.next.insert(partition, next);
    }

    /// Discards the position if it belongs to another topic.
    pub fn reset_on_topic_change(&mut self, topic: &str, partitions: i32) {
        if self.topic.topic != topic {
            let topic = TopicIdentity { topic: topic.to_owned(), partitions };
            *self = Position { topic, ..Position::default() };
        }
    }

    /// Applies an update to the position. Returns false if the update contains a record before the
    /// position, which was recorded before.
    pub fn advance(&mut self, received: &PositionUpdate, now: Timestamp) -> bool {
        if self.topic != *received.topic {
            *self = Position { topic: (*received.topic).clone(), ..Position::default() };
        }
        let PositionUpdate { partition, next, .. } = *received;
        match received.content {
            PositionUpdateContent::Start { previous } => {
                self.next.insert(partition, next);
                if let Some(from) = previous {
                    self.losses.retain(|_, loss| now - loss.time < LOSS_SHOWN);
                    self.losses.insert(partition, LostRecords { from, to: next, time: now });
                }
                true
            }
            PositionUpdateContent::Record { .. } | PositionUpdateContent::Nothing => {
                let is_new = self.next.get(&partition).is_none_or(|known| next > *known);
                if is_new {
                    self.next.insert(partition, next);
                }
                is_new
            }
        }
    }

    /// Returns the problem for records that were lost in the last 24 hours, if any.
    pub fn lost_records_problem(&self, now: Timestamp) -> Option<Problem> {
        let topic = self.topic.topic.rsplit('/').next().unwrap_or_default();
        let recent = self.losses.iter().filter(|(_, loss)| now - loss.time < LOSS_SHOWN);
        let mut texts: Vec<String> = recent
            .map(|(partition, loss)| format!("partition {partition} of topic `{topic}` {loss}"))
            .collect();
        let more = texts.len().saturating_sub(LOSSES_SHOWN);
        texts.truncate(LOSSES_SHOWN);
        if texts.is_empty() {
            return None;
        }
        let mut message = texts.join("; ");
        if more > 0 {
            message.push_str(&format!("; and {more} more partitions"));
        }
        let hint = "Set `retention.ms` to more than the time for which the trigger may be stopped; \
                    this notice disappears after a day.";
        Some(Problem::new(ErrorCode::Unavailable, message).with_hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(
        topic: &Arc<TopicIdentity>,
        partition: i32,
        next: i64,
        content: PositionUpdateContent,
    ) -> PositionUpdate {
        PositionUpdate { topic: topic.clone(), partition, next, content }
    }

    #[test]
    fn a_record_is_new_once_until_the_topic_changes() {
        let now = Timestamp::UNIX_EPOCH;
        let topic = |name: &str| Arc::new(TopicIdentity { topic: name.to_owned(), partitions: 1 });
        let (one, other) = (topic("c/one"), topic("c/other"));
        let mut position = Position::default();
        position.reset_on_topic_change("c/one", 1);
        let start = || PositionUpdateContent::Start { previous: None };
        assert!(position.advance(&received(&one, 0, 5, start()), now));
        assert!(position.advance(&received(&one, 0, 6, PositionUpdateContent::Nothing), now));
        assert!(!position.advance(&received(&one, 0, 6, PositionUpdateContent::Nothing), now));
        assert!(position.advance(&received(&one, 1, 1, PositionUpdateContent::Nothing), now));
        assert_eq!(
            (position.next(0), position.next(1), position.next(2)),
            (Some(6), Some(1), None)
        );
        assert_eq!(position.lost_records_problem(now), None);

        let lost = PositionUpdateContent::Start { previous: Some(6) };
        assert!(position.advance(&received(&one, 0, 9, lost), now));
        let problem = position.lost_records_problem(now).expect("a problem");
        assert!(problem.message.contains("records 6 to 8"), "{problem}");
        assert_eq!(position.lost_records_problem(now + LOSS_SHOWN), None);
        for partition in 1..=11 {
            let lost = PositionUpdateContent::Start { previous: Some(8) };
            assert!(position.advance(&received(&one, partition, 5, lost), now));
        }
        let message = position.lost_records_problem(now).expect("a problem").message;
        assert!(message.contains("records 6 to 8, so the trigger continued at 9; "), "{message}");
        assert!(message.contains("partition 9 of topic `one` ended before record 8"), "{message}");
        assert!(message.ends_with("; and 2 more partitions"), "{message}");
        let text = serde_json::to_string(&position).expect("JSON");
        assert_eq!(serde_json::from_str::<Position>(&text).expect("a position"), position);

        assert!(position.advance(&received(&other, 0, 2, PositionUpdateContent::Nothing), now));
        assert_eq!((position.next(0), position.next(1)), (Some(2), None));
    }
}
