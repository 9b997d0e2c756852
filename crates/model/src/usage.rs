//! The resources that jobs use, and their cost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The usage of a job, a model or an invocation. Usages can be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Elapsed time in milliseconds, rounded up.
    pub wall_ms: u64,
    /// Processor time in microseconds, user and system.
    pub cpu_us: u64,
    /// Peak memory in bytes.
    pub memory_bytes_peak: u64,
    /// Bytes read from table files and imported files.
    pub bytes_read: u64,
    /// Bytes of table files that were not read again, because their columns were in memory.
    pub bytes_cached: u64,
    /// Bytes written to table files.
    pub bytes_written: u64,
    /// Rows read from tables or files.
    pub rows_read: u64,
    /// Rows written to tables, or returned by a query.
    pub rows_written: u64,
    /// Bytes passed to functions: inputs and arguments.
    pub bytes_in: u64,
    /// Bytes that functions returned.
    pub bytes_out: u64,
    /// Time that the work waited in a queue, in milliseconds.
    pub queue_ms: u64,
    /// Time spent waiting for the environments of functions, in milliseconds.
    pub environment_ms: u64,
    /// Time spent waiting for zygotes (the processes with imported packages from which calls are
    /// cloned), in milliseconds.
    pub start_ms: u64,
    /// The part of the elapsed time in which the runtimes of functions, such as Node, started, in
    /// milliseconds.
    pub runtime_start_ms: u64,
    /// Number of function calls.
    pub calls: u64,
    /// Number of cold starts: calls without a zygote.
    pub cold_starts: u64,
    /// Number of retries with more memory after a function ran out of memory.
    pub retries: u64,
    /// Number of requests to queues.
    pub requests: u64,
}

impl Usage {
    /// Adds the usage of other work, which ran before, after or at the same time. Times and bytes
    /// are added, and the larger memory peak is kept.
    pub fn add(&mut self, other: &Usage) {
        self.wall_ms += other.wall_ms;
        self.cpu_us += other.cpu_us;
        self.memory_bytes_peak = self.memory_bytes_peak.max(other.memory_bytes_peak);
        self.bytes_read += other.bytes_read;
        self.bytes_cached += other.bytes_cached;
        self.bytes_written += other.bytes_written;
        self.rows_read += other.rows_read;
        self.rows_written += other.rows_written;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.queue_ms += other.queue_ms;
        self.environment_ms += other.environment_ms;
        self.start_ms += other.start_ms;
        self.runtime_start_ms += other.runtime_start_ms;
        self.calls += other.calls;
        self.cold_starts += other.cold_starts;
        self.retries += other.retries;
        self.requests += other.requests;
    }

    /// Returns the peak memory multiplied by the elapsed time, in gibibyte-seconds. For several
    /// jobs, add their results: the memory peak of a sum is only the largest peak.
    pub fn gib_seconds(&self) -> f64 {
        self.memory_bytes_peak as f64 / GIB * (self.wall_ms as f64 / 1000.0)
    }

    /// Returns the waiting time in milliseconds. The waiting time costs nothing and is not part of
    /// the elapsed time of a call or step.
    pub fn waited_ms(&self) -> u64 {
        self.queue_ms + self.environment_ms + self.start_ms
    }
}

/// Prices per unit of usage; `[rates]` in `headwater.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateCard {
    /// The currency code.
    pub currency: String,
    /// Price of one processor second.
    pub cpu_second: f64,
    /// Price of one gibibyte of memory for one second.
    pub memory_gib_second: f64,
    /// Price of one gibibyte read.
    pub gib_read: f64,
    /// Price of one gibibyte written.
    pub gib_written: f64,
    /// Price of one million requests to queues.
    pub million_requests: f64,
    /// Price of one million function calls.
    pub million_calls: f64,
}

impl Default for RateCard {
    /// Returns approximate prices of a large cloud provider for functions and object storage in
    /// 2026.
    fn default() -> Self {
        RateCard {
            currency: "USD".to_owned(),
            cpu_second: 0.000_024,
            memory_gib_second: 0.000_004,
            gib_read: 0.000_5,
            gib_written: 0.002,
            million_requests: 0.4,
            million_calls: 0.0,
        }
    }
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

impl RateCard {
    /// Returns the cost of a usage in the card's currency.
    pub fn cost(&self, usage: &Usage) -> f64 {
        usage.cpu_us as f64 / 1e6 * self.cpu_second
            + usage.gib_seconds() * self.memory_gib_second
            + usage.bytes_read as f64 / GIB * self.gib_read
            + usage.bytes_written as f64 / GIB * self.gib_written
            + usage.requests as f64 / 1e6 * self.million_requests
            + usage.calls as f64 / 1e6 * self.million_calls
    }
}

/// One line of `headwater usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageLine {
    /// The group, such as a day, a job kind, a function or a trigger.
    pub group: String,
    /// The value of the second property, if usage is grouped by two properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subgroup: Option<String>,
    /// Number of jobs in the group.
    pub jobs: u64,
    /// The usage of the jobs in the group.
    pub usage: Usage,
    /// The sum over the jobs of peak memory multiplied by elapsed time, in gibibyte-seconds.
    #[serde(default)]
    pub gib_seconds: f64,
    /// The cost of this usage by the rate card.
    pub cost: f64,
    /// The rate card's currency.
    pub currency: String,
}
