//! The events of one active job: unstored events, and the most recent stored events.
//!
//! Sequence numbers are consecutive from 1. Progress events are limited to ten per second and
//! stage. The log text of a job is limited, and a log line of Headwater marks the place of omitted
//! lines. This module does not block and does no I/O: the writer stores the events from
//! [`EventBuffer::unstored`], and followers read [`EventBuffer::after`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use headwater_model::{JobEvent, JobEventKind, LogStream, Timestamp};

/// Number of stored events kept in memory for followers.
const TAIL: usize = 1_024;
/// Maximum number of events that are returned to a follower at a time.
const AT_ONCE: usize = 1_024;
/// Minimum time between two stored progress events of one stage.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Maximum length of a line in bytes; longer lines are truncated.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The result of [`EventBuffer::after`].
pub(crate) enum EventsAfter {
    /// The next events; empty if there are none yet.
    Events(Vec<JobEvent>),
    /// The next events are not in memory. The store contains all events up to this sequence number.
    Stored(u64),
}

/// The events of one active job that are in memory, and the state of the limits on its events.
pub(crate) struct EventBuffer {
    events: VecDeque<JobEvent>,
    next: u64,
    stored: u64,
    held: Option<JobEventKind>,
    progress: Option<(String, Instant)>,
    text_bytes: usize,
    text_bytes_max: usize,
    lines_left_out: u64,
    noteworthy: bool,
}

impl EventBuffer {
    pub(crate) fn new(text_bytes_max: usize) -> Self {
        EventBuffer {
            events: VecDeque::new(),
            next: 1,
            stored: 0,
            held: None,
            progress: None,
            text_bytes: 0,
            text_bytes_max,
            lines_left_out: 0,
            noteworthy: false,
        }
    }

    /// Creates a buffer that continues after `last`, the sequence number of the last stored event.
    pub(crate) fn after_stored(last: u64) -> Self {
        EventBuffer {
            next: last + 1,
            stored: last,
            noteworthy: true,
            ..EventBuffer::new(usize::MAX)
        }
    }

    /// Adds an event, unless it is throttled progress or log text over the limit.
    pub(crate) fn push(&mut self, time: Timestamp, event: JobEventKind) {
        match event {
            JobEventKind::Progress { .. } => self.push_progress(time, event),
            JobEventKind::Log { .. } => self.push_line(time, event),
            JobEventKind::Started => self.append(time, event),
            JobEventKind::Planned { .. }
            | JobEventKind::Environment { .. }
            | JobEventKind::StepStarted { .. }
            | JobEventKind::StepEnded { .. }
            | JobEventKind::ValueEnded { .. } => {
                self.noteworthy = true;
                self.append(time, event);
            }
            JobEventKind::Ended { .. } => {
                self.report_dropped_output(time);
                self.append(time, event);
            }
        }
    }

    fn push_progress(&mut self, time: Timestamp, event: JobEventKind) {
        let JobEventKind::Progress { stage, done, total, .. } = &event else { return };
        self.noteworthy = true;
        let soon = self.progress.as_ref().is_some_and(|(last, at)| {
            last == stage && at.elapsed() < PROGRESS_EVERY && Some(*done) != *total
        });
        if soon {
            self.held = Some(event);
            return;
        }
        if self.progress.as_ref().is_some_and(|(last, _)| last == stage) {
            self.held = None;
        }
        self.progress = Some((stage.clone(), Instant::now()));
        self.append(time, event);
    }

    fn push_line(&mut self, time: Timestamp, mut event: JobEventKind) {
        let JobEventKind::Log { text, stream, .. } = &mut event else { return };
        self.noteworthy = true;
        shorten(text);
        let printed = *stream != LogStream::System;
        let full = self.lines_left_out > 0 || self.text_bytes + text.len() > self.text_bytes_max;
        if printed && full {
            self.drop_line(time);
        } else {
            self.text_bytes += text.len();
            self.append(time, event);
        }
    }

    fn drop_line(&mut self, time: Timestamp) {
        self.lines_left_out += 1;
        if self.lines_left_out == 1 {
            let kept = self.text_bytes_max;
            let text = format!("the log has reached {kept} bytes; further output is left out");
            self.append(time, remark(text));
        }
    }

    fn report_dropped_output(&mut self, time: Timestamp) {
        if self.lines_left_out > 0 {
            let lines = self.lines_left_out;
            self.append(time, remark(format!("{lines} printed lines were not stored in the log")));
        }
    }

    fn append(&mut self, time: Timestamp, event: JobEventKind) {
        if let Some(held) = self.held.take() {
            self.append_one(time, held);
        }
        self.append_one(time, event);
    }

    fn append_one(&mut self, time: Timestamp, event: JobEventKind) {
        self.events.push_back(JobEvent { sequence: self.next, time, event });
        self.next += 1;
    }

    /// Adds the progress event that was held back by the limit, so that the latest progress of a
    /// stalled stage is visible.
    pub(crate) fn release_throttled(&mut self, time: Timestamp) {
        if let Some(held) = self.held.take() {
            self.append_one(time, held);
        }
    }

    /// Returns the sequence number of the last event; 0 before the first event.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Returns the number of unstored events.
    pub(crate) fn waiting(&self) -> usize {
        (self.last() - self.stored) as usize
    }

    /// Returns true if there are events other than start and end.
    pub(crate) fn is_noteworthy(&self) -> bool {
        self.noteworthy
    }

    /// Returns the unstored events.
    pub(crate) fn unstored(&self) -> Vec<JobEvent> {
        self.from(self.stored).cloned().collect()
    }

    /// Marks the events up to `sequence` as stored. Keeps the most recent events in memory.
    pub(crate) fn mark_stored(&mut self, sequence: u64) {
        self.stored = self.stored.max(sequence);
        while self.events.len() > TAIL
            && self.events.front().is_some_and(|event| event.sequence <= self.stored)
        {
            self.events.pop_front();
        }
    }

    /// Returns the events with sequence numbers above `after`, up to and including `until`.
    pub(crate) fn after(&self, after: u64, until: u64) -> EventsAfter {
        let first = self.events.front().map_or(self.next, |event| event.sequence);
        if after + 1 < first && after < self.stored {
            return EventsAfter::Stored(self.stored.min(first - 1));
        }
        let wanted = |event: &&JobEvent| event.sequence <= until;
        EventsAfter::Events(self.from(after).take(AT_ONCE).take_while(wanted).cloned().collect())
    }

    /// Returns the events in memory after a sequence number. Sequence numbers are consecutive, so a
    /// number determines the index of its event.
    fn from(&self, after: u64) -> impl Iterator<Item = &JobEvent> {
        let first = self.events.front().map_or(self.next, |event| event.sequence);
        let skipped = (after + 1).saturating_sub(first) as usize;
        self.events.range(skipped.min(self.events.len())..)
    }

    /// Replaces the last event, which must be the end of the job, and reuses its sequence number.
    pub(crate) fn replace_last(&mut self, time: Timestamp, event: JobEventKind) {
        if self.events.pop_back().is_some() {
            self.next -= 1;
        }
        self.append_one(time, event);
    }
}

/// Creates a remark, a log line that Headwater itself writes.
pub(crate) fn remark(text: String) -> JobEventKind {
    JobEventKind::Log { stream: LogStream::System, model: None, file: None, line: None, text }
}

fn shorten(text: &mut String) {
    if text.len() > LINE_BYTES_MAX {
        let cut = text.floor_char_boundary(LINE_BYTES_MAX);
        let left_out = text.len() - cut;
        text.truncate(cut);
        let remark = format!(" … ({left_out} bytes left out)");
        text.push_str(&remark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().expect("a time")
    }

    fn line(text: &str) -> JobEventKind {
        JobEventKind::Log {
            stream: LogStream::Stdout,
            model: None,
            file: None,
            line: None,
            text: text.to_owned(),
        }
    }

    fn progress(done: u64) -> JobEventKind {
        JobEventKind::Progress {
            stage: "import".into(),
            done,
            total: Some(1_000),
            unit: "rows".into(),
        }
    }

    fn texts(log: &EventBuffer) -> Vec<String> {
        let text = |event: JobEvent| match event.event {
            JobEventKind::Log { text, .. } => Some(text),
            _ => None,
        };
        log.unstored().into_iter().filter_map(text).collect()
    }

    #[test]
    fn output_beyond_the_limit_is_dropped_with_a_notice_and_a_count() {
        let mut log = EventBuffer::new(10);
        for text in ["12345", "67890", "a", "b"] {
            log.push(now(), line(text));
        }
        log.push(
            now(),
            JobEventKind::Ended { status: headwater_model::JobStatus::Succeeded, error: None },
        );
        let texts = texts(&log);
        assert_eq!(texts[..2], ["12345", "67890"]);
        assert!(texts[2].contains("10 bytes"), "{texts:?}");
        assert!(texts[3].starts_with("2 printed lines"), "{texts:?}");
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn an_endless_line_is_truncated_at_a_character() {
        let mut log = EventBuffer::new(usize::MAX);
        log.push(now(), line(&"é".repeat(LINE_BYTES_MAX)));
        assert!(texts(&log)[0].ends_with(&format!("({LINE_BYTES_MAX} bytes left out)")));
    }

    #[test]
    fn progress_is_throttled_but_its_end_is_kept() {
        let mut log = EventBuffer::new(usize::MAX);
        (0..=1_000).for_each(|done| log.push(now(), progress(done)));
        let events = log.unstored();
        assert!(events.len() < 100, "{} events", events.len());
        assert_eq!(events.last().map(|last| &last.event), Some(&progress(1_000)));
        let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn throttled_progress_precedes_later_events() {
        let mut log = EventBuffer::new(usize::MAX);
        log.push(now(), progress(1));
        log.push(now(), progress(2));
        log.push(now(), line("next"));
        let events: Vec<JobEventKind> =
            log.unstored().into_iter().map(|event| event.event).collect();
        assert_eq!(events, [progress(1), progress(2), line("next")]);
    }

    #[test]
    fn events_that_left_memory_are_read_from_the_store() {
        let mut log = EventBuffer::new(usize::MAX);
        (0..3_000).for_each(|_| log.push(now(), line("x")));
        assert!(
            matches!(log.after(0, 3_000), EventsAfter::Events(events) if events.len() == AT_ONCE)
        );
        assert!(
            matches!(log.after(2_000, 2_500), EventsAfter::Events(events) if events.len() == 500)
        );
        log.mark_stored(3_000);
        assert!(matches!(log.after(0, 3_000), EventsAfter::Stored(1_976)));
        assert!(
            matches!(log.after(1_976, 3_000), EventsAfter::Events(events) if events.len() == 1_024)
        );
        assert!(
            matches!(log.after(3_000, 3_000), EventsAfter::Events(events) if events.is_empty())
        );
    }
}
