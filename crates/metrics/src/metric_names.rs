//! The names and descriptions of all metrics. Names of counters omit the suffix `_total`.
//! docs/observability.md lists the metrics for users.

use crate::metric_families::MetricFamily;

pub(crate) const CALLS: MetricFamily = MetricFamily {
    name: "headwater_function_calls",
    help: "Calls of functions that have ended, by outcome",
};
pub(crate) const STARTS: MetricFamily = MetricFamily {
    name: "headwater_function_starts",
    help: "Starts of calls: cold, as a clone of a process with packages, or in a reused instance",
};
pub(crate) const QUEUE_TIME: MetricFamily = MetricFamily {
    name: "headwater_function_queue_seconds",
    help: "Time that calls waited in the queue",
};
pub(crate) const START_TIME: MetricFamily = MetricFamily {
    name: "headwater_function_start_seconds",
    help: "Time until the process with packages was ready; zero for reused instances",
};
pub(crate) const RUN_TIME: MetricFamily = MetricFamily {
    name: "headwater_function_run_seconds",
    help: "Duration of calls, from the start of the handler",
};
pub(crate) const CALLS_WAITING: MetricFamily =
    MetricFamily { name: "headwater_function_calls_waiting", help: "Queued calls" };
pub(crate) const CALLS_RUNNING: MetricFamily =
    MetricFamily { name: "headwater_function_calls_running", help: "Running calls" };
pub(crate) const INSTANCES: MetricFamily =
    MetricFamily { name: "headwater_instances", help: "Instances of functions, by state" };
pub(crate) const FUNCTIONS_CPU: MetricFamily = MetricFamily {
    name: "headwater_functions_cpu_seconds",
    help: "CPU time of all processes of functions",
};
pub(crate) const JOBS: MetricFamily =
    MetricFamily { name: "headwater_jobs", help: "Jobs that have ended, by kind and status" };
pub(crate) const JOBS_UNFINISHED: MetricFamily =
    MetricFamily { name: "headwater_jobs_unfinished", help: "Jobs that are queued or running" };
pub(crate) const JOB_TIME: MetricFamily =
    MetricFamily { name: "headwater_job_seconds", help: "Elapsed time of jobs" };
pub(crate) const JOB_CPU: MetricFamily =
    MetricFamily { name: "headwater_job_cpu_seconds", help: "CPU time of jobs" };
pub(crate) const BYTES_READ: MetricFamily = MetricFamily {
    name: "headwater_read_bytes",
    help: "Bytes that jobs read from table files and imported files",
};
pub(crate) const BYTES_WRITTEN: MetricFamily =
    MetricFamily { name: "headwater_written_bytes", help: "Bytes that jobs wrote to table files" };
pub(crate) const ROWS_READ: MetricFamily =
    MetricFamily { name: "headwater_read_rows", help: "Rows that jobs read" };
pub(crate) const ROWS_WRITTEN: MetricFamily =
    MetricFamily { name: "headwater_written_rows", help: "Rows that jobs wrote or returned" };
pub(crate) const EVENTS_ACCEPTED: MetricFamily =
    MetricFamily { name: "headwater_events_accepted", help: "Events that were stored" };
pub(crate) const EVENTS_DELIVERED: MetricFamily =
    MetricFamily { name: "headwater_events_delivered", help: "Events that were delivered" };
pub(crate) const EVENTS_RETRIED: MetricFamily =
    MetricFamily { name: "headwater_event_retries", help: "Failed deliveries that are retried" };
pub(crate) const EVENTS_THROTTLED: MetricFamily = MetricFamily {
    name: "headwater_event_throttles",
    help: "Deliveries that were postponed; they do not count toward `retries`",
};
pub(crate) const EVENTS_FAILED: MetricFamily = MetricFamily {
    name: "headwater_events_failed",
    help: "Events that failed and are not retried",
};
pub(crate) const EVENTS_PENDING: MetricFamily = MetricFamily {
    name: "headwater_events_pending",
    help: "Events that wait or are being delivered",
};
pub(crate) const COMMITS: MetricFamily =
    MetricFamily { name: "headwater_commits", help: "Commits of tables and views" };
pub(crate) const COMMIT_RETRIES: MetricFamily = MetricFamily {
    name: "headwater_commit_retries",
    help: "Attempts to commit that were repeated after a concurrent commit",
};
pub(crate) const COMMIT_CONFLICTS: MetricFamily = MetricFamily {
    name: "headwater_commit_conflicts",
    help: "Commits that failed because of a concurrent commit",
};
pub(crate) const MERGES: MetricFamily =
    MetricFamily { name: "headwater_merges", help: "Merges, cherry-picks and reverts, by result" };
pub(crate) const STATEMENTS: MetricFamily =
    MetricFamily { name: "headwater_statements", help: "SQL statements, by name" };
pub(crate) const REQUESTS: MetricFamily =
    MetricFamily { name: "headwater_http_requests", help: "HTTP requests, by route and status" };
pub(crate) const REQUEST_TIME: MetricFamily = MetricFamily {
    name: "headwater_http_request_seconds",
    help: "Time until the response headers are sent",
};
pub(crate) const BUILD: MetricFamily =
    MetricFamily { name: "headwater_build", help: "The version of the server" };
pub(crate) const UPTIME: MetricFamily =
    MetricFamily { name: "headwater_uptime_seconds", help: "Time since the start of the process" };
pub(crate) const PROCESS_START: MetricFamily = MetricFamily {
    name: "process_start_time_seconds",
    help: "Start time of the process, in seconds since 1970",
};
pub(crate) const PROCESS_CPU: MetricFamily =
    MetricFamily { name: "process_cpu_seconds", help: "CPU time of the server, without functions" };
pub(crate) const PROCESS_RESIDENT: MetricFamily =
    MetricFamily { name: "process_resident_memory_bytes", help: "Resident memory of the server" };
pub(crate) const PROCESS_VIRTUAL: MetricFamily =
    MetricFamily { name: "process_virtual_memory_bytes", help: "Virtual memory of the server" };
pub(crate) const PROCESS_FILES: MetricFamily =
    MetricFamily { name: "process_open_fds", help: "Open files of the server" };
pub(crate) const PROCESS_FILES_MAX: MetricFamily =
    MetricFamily { name: "process_max_fds", help: "Maximum number of open files" };
pub(crate) const PROCESS_THREADS: MetricFamily =
    MetricFamily { name: "process_threads", help: "Threads of the server" };
pub(crate) const SPANS: MetricFamily = MetricFamily {
    name: "headwater_trace_spans",
    help: "Spans of traces, by result of the export",
};
