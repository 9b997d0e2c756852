//! The names and descriptions of all metrics. Names of counters omit the suffix `_total`.
//! docs/observability.md lists the metrics for users.

use crate::metric_families::Family;

pub(crate) const CALLS: Family = Family {
    name: "headwater_function_calls",
    help: "Calls of functions that have ended, by outcome",
};
pub(crate) const STARTS: Family = Family {
    name: "headwater_function_starts",
    help: "Starts of calls: cold, as a clone of a process with packages, or in a reused instance",
};
pub(crate) const QUEUE_TIME: Family = Family {
    name: "headwater_function_queue_seconds",
    help: "Time that calls waited in the queue",
};
pub(crate) const START_TIME: Family = Family {
    name: "headwater_function_start_seconds",
    help: "Time until the process with packages was ready; zero for reused instances",
};
pub(crate) const RUN_TIME: Family = Family {
    name: "headwater_function_run_seconds",
    help: "Duration of calls, from the start of the handler",
};
pub(crate) const CALLS_WAITING: Family =
    Family { name: "headwater_function_calls_waiting", help: "Calls that wait in the queue" };
pub(crate) const CALLS_RUNNING: Family =
    Family { name: "headwater_function_calls_running", help: "Calls that run" };
pub(crate) const INSTANCES: Family =
    Family { name: "headwater_instances", help: "Instances of functions, by state" };
pub(crate) const FUNCTIONS_CPU: Family = Family {
    name: "headwater_functions_cpu_seconds",
    help: "CPU time of all processes of functions",
};
pub(crate) const JOBS: Family =
    Family { name: "headwater_jobs", help: "Jobs that have ended, by kind and status" };
pub(crate) const JOBS_UNFINISHED: Family =
    Family { name: "headwater_jobs_unfinished", help: "Jobs that are queued or running" };
pub(crate) const JOB_TIME: Family =
    Family { name: "headwater_job_seconds", help: "Elapsed time of jobs" };
pub(crate) const JOB_CPU: Family =
    Family { name: "headwater_job_cpu_seconds", help: "CPU time of jobs" };
pub(crate) const BYTES_READ: Family = Family {
    name: "headwater_read_bytes",
    help: "Bytes that jobs read from table files and imported files",
};
pub(crate) const BYTES_WRITTEN: Family =
    Family { name: "headwater_written_bytes", help: "Bytes that jobs wrote to table files" };
pub(crate) const ROWS_READ: Family =
    Family { name: "headwater_read_rows", help: "Rows that jobs read" };
pub(crate) const ROWS_WRITTEN: Family =
    Family { name: "headwater_written_rows", help: "Rows that jobs wrote or returned" };
pub(crate) const EVENTS_ACCEPTED: Family =
    Family { name: "headwater_events_accepted", help: "Events that were stored" };
pub(crate) const EVENTS_DELIVERED: Family =
    Family { name: "headwater_events_delivered", help: "Events that were delivered" };
pub(crate) const EVENTS_RETRIED: Family =
    Family { name: "headwater_event_retries", help: "Failed deliveries that are retried" };
pub(crate) const EVENTS_THROTTLED: Family = Family {
    name: "headwater_event_throttles",
    help: "Deliveries that were postponed; they do not count toward `retries`",
};
pub(crate) const EVENTS_FAILED: Family =
    Family { name: "headwater_events_failed", help: "Events that failed and are not retried" };
pub(crate) const EVENTS_PENDING: Family =
    Family { name: "headwater_events_pending", help: "Events that wait or are being delivered" };
pub(crate) const COMMITS: Family =
    Family { name: "headwater_commits", help: "Commits of tables and views" };
pub(crate) const COMMIT_RETRIES: Family = Family {
    name: "headwater_commit_retries",
    help: "Attempts to commit that were repeated after a concurrent commit",
};
pub(crate) const COMMIT_CONFLICTS: Family = Family {
    name: "headwater_commit_conflicts",
    help: "Commits that failed because of a concurrent commit",
};
pub(crate) const MERGES: Family =
    Family { name: "headwater_merges", help: "Merges, cherry-picks and reverts, by result" };
pub(crate) const STATEMENTS: Family =
    Family { name: "headwater_statements", help: "SQL statements, by name" };
pub(crate) const REQUESTS: Family =
    Family { name: "headwater_http_requests", help: "HTTP requests, by route and status" };
pub(crate) const REQUEST_TIME: Family = Family {
    name: "headwater_http_request_seconds",
    help: "Time until the response headers are sent",
};
pub(crate) const BUILD: Family =
    Family { name: "headwater_build", help: "The version of the server" };
pub(crate) const UPTIME: Family =
    Family { name: "headwater_uptime_seconds", help: "Time since the start of the process" };
pub(crate) const PROCESS_START: Family = Family {
    name: "process_start_time_seconds",
    help: "Start time of the process, in seconds since 1970",
};
pub(crate) const PROCESS_CPU: Family =
    Family { name: "process_cpu_seconds", help: "CPU time of the server, without functions" };
pub(crate) const PROCESS_RESIDENT: Family =
    Family { name: "process_resident_memory_bytes", help: "Resident memory of the server" };
pub(crate) const PROCESS_VIRTUAL: Family =
    Family { name: "process_virtual_memory_bytes", help: "Virtual memory of the server" };
pub(crate) const PROCESS_FILES: Family =
    Family { name: "process_open_fds", help: "Open files of the server" };
pub(crate) const PROCESS_FILES_MAX: Family =
    Family { name: "process_max_fds", help: "Maximum number of open files" };
pub(crate) const PROCESS_THREADS: Family =
    Family { name: "process_threads", help: "Threads of the server" };
pub(crate) const SPANS: Family =
    Family { name: "headwater_trace_spans", help: "Spans of traces, by result of their export" };
