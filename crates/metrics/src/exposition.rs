//! The text of a scrape: the metrics of all components, in the format that the client accepts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use headwater_model::{JobKind, JobStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::calls::{CallOutcome, FunctionCounts, InstanceStartKind};
use crate::duration_histogram::DurationHistogram;
use crate::events::EventCounts;
use crate::jobs::{KindCounts, STATUSES};
use crate::metric_families::{FamilyWriter, Labels, labels};
use crate::metric_names::{
    BUILD, BYTES_READ, BYTES_WRITTEN, CALLS, CALLS_RUNNING, CALLS_WAITING, COMMIT_CONFLICTS,
    COMMIT_RETRIES, COMMITS, EVENTS_ACCEPTED, EVENTS_DELIVERED, EVENTS_FAILED, EVENTS_PENDING,
    EVENTS_RETRIED, EVENTS_THROTTLED, FUNCTIONS_CPU, INSTANCES, JOB_CPU, JOB_TIME, JOBS,
    JOBS_UNFINISHED, MERGES, PROCESS_CPU, PROCESS_FILES, PROCESS_FILES_MAX, PROCESS_RESIDENT,
    PROCESS_START, PROCESS_THREADS, PROCESS_VIRTUAL, QUEUE_TIME, REQUEST_TIME, REQUESTS, ROWS_READ,
    ROWS_WRITTEN, RUN_TIME, SPANS, START_TIME, STARTS, STATEMENTS, UPTIME,
};
use crate::process::ProcessResources;
use crate::{
    CallMetrics, CommitMetrics, EventMetrics, JobMetrics, RequestMetrics, SpanExportMetrics,
    StatementMetrics,
};

/// The format of a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4.
    #[default]
    Prometheus,
    /// The text format of `OpenMetrics`, version 1.0.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// Returns the format for the header `accept`: `OpenMetrics` if the header contains its media
    /// type, otherwise the format of Prometheus.
    pub fn accepted(accept: Option<&str>) -> Self {
        let names = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if names { MetricsFormat::OpenMetrics } else { MetricsFormat::Prometheus }
    }

    /// Returns the content type of the text.
    pub const fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Prometheus => prometheus_text::CONTENT_TYPE,
            MetricsFormat::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }
}

/// The number of instances of functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceCounts {
    /// Instances that execute a call.
    pub running: u64,
    /// Idle instances, which can execute another call of their function.
    pub idle: u64,
}

/// The number of jobs of one kind that wait or run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfinishedJobs {
    /// The kind of the jobs.
    pub kind: JobKind,
    /// `queued` or `running`.
    pub status: JobStatus,
    /// The number of jobs.
    pub jobs: u64,
}

/// The metrics of all components, and the values that are read at the time of the scrape.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    /// The version of the server.
    pub version: String,
    /// Calls of functions.
    pub calls: CallMetrics,
    /// Instances of functions.
    pub instances: InstanceCounts,
    /// CPU time of all processes of functions, in microseconds; `None` without control groups.
    pub functions_cpu_us: Option<u64>,
    /// Jobs that have ended.
    pub jobs: JobMetrics,
    /// Jobs that have not ended.
    pub unfinished: Vec<UnfinishedJobs>,
    /// Events of triggers.
    pub events: EventMetrics,
    /// Events that wait for their delivery, by trigger.
    pub pending: Vec<(String, u64)>,
    /// Commits and merges.
    pub commits: CommitMetrics,
    /// SQL statements.
    pub statements: StatementMetrics,
    /// HTTP requests.
    pub requests: RequestMetrics,
    /// Spans of traces; `None` if traces are off.
    pub spans: Option<SpanExportMetrics>,
}

impl Exposition {
    /// Encodes the metrics as text.
    pub fn encode(self, format: MetricsFormat) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        match format {
            MetricsFormat::Prometheus => prometheus_text::encode(&mut text, &registry)?,
            MetricsFormat::OpenMetrics => text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }

    fn write_calls(&self, writer: &mut FamilyWriter<'_>) -> fmt::Result {
        let functions = self.calls.functions();
        let each = |value: fn(&FunctionCounts) -> &AtomicU64| {
            let samples = functions.iter().map(move |(name, counts)| {
                (labels([("function", name)]), value(counts).load(Ordering::Relaxed))
            });
            samples.collect::<Vec<_>>()
        };
        let times = |value: fn(&FunctionCounts) -> &DurationHistogram| {
            let samples = functions
                .iter()
                .map(move |(name, counts)| (labels([("function", name)]), value(counts).counts()));
            samples.collect::<Vec<_>>()
        };
        let outcomes = functions.iter().flat_map(|(name, counts)| {
            CallOutcome::ALL.map(|outcome| {
                let value = counts.outcomes[outcome as usize].load(Ordering::Relaxed);
                (labels([("function", name), ("outcome", outcome.as_str())]), value)
            })
        });
        writer.counters(CALLS, outcomes)?;
        let starts = functions.iter().flat_map(|(name, counts)| {
            InstanceStartKind::ALL.map(|start| {
                let value = counts.starts[start as usize].load(Ordering::Relaxed);
                (labels([("function", name), ("start", start.as_str())]), value)
            })
        });
        writer.counters(STARTS, starts)?;
        writer.histograms(QUEUE_TIME, times(|counts| &counts.queue))?;
        writer.histograms(START_TIME, times(|counts| &counts.start))?;
        writer.histograms(RUN_TIME, times(|counts| &counts.run))?;
        writer.gauges(CALLS_WAITING, each(|counts| &counts.waiting))?;
        writer.gauges(CALLS_RUNNING, each(|counts| &counts.running))?;
        let InstanceCounts { running, idle } = self.instances;
        let states = [("running", running), ("idle", idle)];
        let states = states.map(|(state, count)| (labels([("state", state)]), count));
        writer.gauges(INSTANCES, states)?;
        let cpu = self.functions_cpu_us.map(|cpu_us| (Labels::new(), cpu_us as f64 / 1e6));
        writer.counters(FUNCTIONS_CPU, cpu)
    }

    fn write_jobs(&self, writer: &mut FamilyWriter<'_>) -> fmt::Result {
        let ended = self.jobs.kinds().flat_map(|(kind, counts)| {
            STATUSES.iter().zip(&counts.ended).map(move |(status, count)| {
                let names = [("kind", kind.as_str()), ("status", status.as_str())];
                (labels(names), count.load(Ordering::Relaxed))
            })
        });
        writer.counters(JOBS, ended)?;
        let unfinished = self.unfinished.iter().map(|jobs| {
            let names = [("kind", jobs.kind.as_str()), ("status", jobs.status.as_str())];
            (labels(names), jobs.jobs)
        });
        writer.gauges(JOBS_UNFINISHED, unfinished)?;
        let elapsed = self
            .jobs
            .kinds()
            .map(|(kind, counts)| (labels([("kind", kind.as_str())]), counts.elapsed.counts()));
        writer.histograms(JOB_TIME, elapsed)?;
        let each = |value: fn(&KindCounts) -> &AtomicU64| {
            let samples = self.jobs.kinds().map(move |(kind, counts)| {
                (labels([("kind", kind.as_str())]), value(counts).load(Ordering::Relaxed))
            });
            samples.collect::<Vec<_>>()
        };
        let cpu = each(|counts| &counts.cpu_us);
        let cpu = cpu.into_iter().map(|(names, cpu_us)| (names, cpu_us as f64 / 1e6));
        writer.counters(JOB_CPU, cpu)?;
        writer.counters(BYTES_READ, each(|counts| &counts.bytes_read))?;
        writer.counters(BYTES_WRITTEN, each(|counts| &counts.bytes_written))?;
        writer.counters(ROWS_READ, each(|counts| &counts.rows_read))?;
        writer.counters(ROWS_WRITTEN, each(|counts| &counts.rows_written))
    }

    fn write_events(&self, writer: &mut FamilyWriter<'_>) -> fmt::Result {
        let triggers = self.events.triggers();
        let each = |value: fn(&EventCounts) -> &AtomicU64| {
            let samples = triggers.iter().map(move |(name, counts)| {
                (labels([("trigger", name)]), value(counts).load(Ordering::Relaxed))
            });
            samples.collect::<Vec<_>>()
        };
        writer.counters(EVENTS_ACCEPTED, each(|counts| &counts.accepted))?;
        writer.counters(EVENTS_DELIVERED, each(|counts| &counts.delivered))?;
        writer.counters(EVENTS_RETRIED, each(|counts| &counts.retried))?;
        writer.counters(EVENTS_THROTTLED, each(|counts| &counts.throttled))?;
        writer.counters(EVENTS_FAILED, each(|counts| &counts.failed))?;
        let pending = self.events.by_label(&self.pending).into_iter();
        let pending = pending.map(|(name, count)| (labels([("trigger", &name)]), count));
        writer.gauges(EVENTS_PENDING, pending)
    }

    fn write_lake(&self, writer: &mut FamilyWriter<'_>) -> fmt::Result {
        let one = |value: u64| [(Labels::new(), value)];
        writer.counters(COMMITS, one(self.commits.commits()))?;
        writer.counters(COMMIT_RETRIES, one(self.commits.retries()))?;
        writer.counters(COMMIT_CONFLICTS, one(self.commits.conflicts()))?;
        let merges = self.commits.merges();
        let merges = merges.map(|(result, count)| (labels([("result", result)]), count));
        writer.counters(MERGES, merges)?;
        let statements = self.statements.counts().into_iter();
        let statements = statements.map(|(name, count)| (labels([("statement", &name)]), count));
        writer.counters(STATEMENTS, statements)
    }

    fn write_requests(&self, writer: &mut FamilyWriter<'_>) -> fmt::Result {
        let routes = self.requests.routes();
        let answered = routes.iter().flat_map(|(route, counts)| {
            counts.responses().into_iter().map(move |(key, count)| {
                let status = key.status.to_string();
                let names = [("method", key.method), ("route", route), ("status", &status)];
                (labels(names), count)
            })
        });
        writer.counters(REQUESTS, answered)?;
        let elapsed = routes
            .iter()
            .map(|(route, counts)| (labels([("route", route)]), counts.elapsed.counts()));
        writer.histograms(REQUEST_TIME, elapsed)?;
        let spans = self.spans.iter().flat_map(SpanExportMetrics::counts);
        writer.counters(SPANS, spans.map(|(result, count)| (labels([("result", result)]), count)))
    }

    fn write_process(&self, writer: &mut FamilyWriter<'_>) -> fmt::Result {
        let state = ProcessResources::read();
        let plain = |value: Option<u64>| value.map(|value| (Labels::new(), value));
        writer.info(BUILD, &labels([("version", &self.version)]))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let uptime = state.start_seconds.map(|start| (Labels::new(), (now - start).max(0.0)));
        writer.gauges(UPTIME, uptime)?;
        let start = state.start_seconds.map(|start| (Labels::new(), start));
        writer.gauges(PROCESS_START, start)?;
        writer.counters(PROCESS_CPU, state.cpu_seconds.map(|cpu| (Labels::new(), cpu)))?;
        writer.gauges(PROCESS_RESIDENT, plain(state.resident_bytes))?;
        writer.gauges(PROCESS_VIRTUAL, plain(state.virtual_bytes))?;
        writer.gauges(PROCESS_FILES, plain(state.open_files))?;
        writer.gauges(PROCESS_FILES_MAX, plain(state.open_files_max))?;
        writer.gauges(PROCESS_THREADS, plain(state.threads))
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = FamilyWriter(encoder);
        self.write_calls(&mut writer)?;
        self.write_events(&mut writer)?;
        self.write_jobs(&mut writer)?;
        self.write_lake(&mut writer)?;
        self.write_requests(&mut writer)?;
        self.write_process(&mut writer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_model::{TriggerEventStatus, Usage};

    use super::*;
    use crate::{CallEnd, MergeResult};

    fn sample() -> Exposition {
        let exposition = Exposition {
            version: "1.2.3".to_owned(),
            pending: vec![("landing".to_owned(), 4), ("unknown".to_owned(), 1)],
            functions_cpu_us: Some(2_500_000),
            ..Exposition::default()
        };
        let mut call = exposition.calls.begin("clean \"it\"");
        call.run();
        call.end(CallEnd {
            outcome: CallOutcome::Succeeded,
            start: Some(InstanceStartKind::Cold),
            start_time: Duration::from_millis(3),
        });
        let events = exposition.events.of("landing");
        events.accepted(5);
        events.attempted(TriggerEventStatus::Done, false);
        let usage = Usage { bytes_read: 10, wall_ms: 20, ..Usage::default() };
        exposition.jobs.ended(JobKind::Query, JobStatus::Succeeded, &usage);
        exposition.commits.merged(MergeResult::Conflict);
        exposition.statements.started("SELECT");
        let elapsed = Duration::from_millis(1);
        exposition.requests.answered("/v1/query", "POST", 200, elapsed);
        exposition.requests.answered("/v1/query", "BREW", 405, elapsed);
        exposition
    }

    #[test]
    fn the_text_has_the_format_of_prometheus() {
        let text = sample().encode(MetricsFormat::Prometheus).expect("text");
        for line in [
            "# TYPE headwater_function_calls_total counter",
            r#"headwater_function_calls_total{function="clean \"it\"",outcome="succeeded"} 1"#,
            r#"headwater_function_starts_total{function="clean \"it\"",start="cold"} 1"#,
            r#"headwater_function_start_seconds_bucket{function="clean \"it\"",le="0.005"} 1"#,
            "headwater_functions_cpu_seconds_total 2.5",
            r#"headwater_events_accepted_total{trigger="landing"} 5"#,
            r#"headwater_events_delivered_total{trigger="landing"} 1"#,
            r#"headwater_events_pending{trigger="landing"} 4"#,
            r#"headwater_events_pending{trigger="other"} 1"#,
            r#"headwater_jobs_total{kind="query",status="succeeded"} 1"#,
            r#"headwater_read_bytes_total{kind="query"} 10"#,
            r#"headwater_merges_total{result="conflict"} 1"#,
            r#"headwater_statements_total{statement="SELECT"} 1"#,
            r#"headwater_http_requests_total{method="POST",route="/v1/query",status="200"} 1"#,
            r#"headwater_http_requests_total{method="other",route="/v1/query",status="405"} 1"#,
            r#"headwater_build_info{version="1.2.3"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn the_text_has_the_format_of_openmetrics() {
        let format = MetricsFormat::accepted(Some("application/openmetrics-text;version=1.0.0"));
        let text = sample().encode(format).expect("text");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("# TYPE headwater_function_calls counter\n"), "{text}");
        assert!(text.contains("headwater_jobs_total{kind=\"query\",status=\"succeeded\"} 1\n"));
        assert_eq!(MetricsFormat::accepted(Some("*/*")), MetricsFormat::Prometheus);
        assert_eq!(MetricsFormat::accepted(None), MetricsFormat::Prometheus);
    }
}
