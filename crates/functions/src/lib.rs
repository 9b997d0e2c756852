//! The function runtime: instances of Python functions, their zygotes and the queue of calls.
//!
//! [`Functions`] is the handle. It builds an [`Environment`] for a set of packages, and runs a
//! user's Python function in it. Each function runs in a separate process, which the spawner
//! creates in separate Linux namespaces and with resource limits. Inputs and output are sealed
//! memory files, which the receiver maps into its memory. The caller receives printed lines while
//! the function runs.
//!
//! This crate uses Arrow and processes, but never the tables of the lake. It does not read
//! environment variables or the home folder. The server process, which uses [`Functions`], never
//! forks.

mod call_arrivals;
mod call_execution;
mod call_outcome;
mod call_registry;
mod cpu_boost;
mod early_result;
mod environment_cache;
mod environment_operations;
mod error;
mod functions;
mod idle_pause;
mod idle_shrink;
mod instance;
mod instance_keys;
mod instance_spec;
mod instance_start_durations;
mod invocation;
mod invoke;
mod keep_alive;
mod lake_access;
mod optional_call_parts;
mod options;
mod pending_rows;
mod periodic_tasks;
mod preload_library;
mod preparation;
mod prepared_clones;
mod project_folders;
mod provisioning;
mod queue;
mod runtime_start_clock;
mod streaming_input;
mod unreleased_files;
mod warm_instance;
mod worker_io;
mod worker_protocol;
mod zygote;

pub use early_result::EarlyResultSender;
pub use environment_cache::EnvironmentCache;
pub use error::{Error, Result, TracebackFrame};
pub use functions::Functions;
pub use headwater_environments::{
    Environment, EnvironmentEvent, EnvironmentSpec, make_folder, package_changes,
};
pub use headwater_sandbox::{
    AllowedHost, EnvironmentVariables, LimitSource, Limits, NetworkAccess, SpawnerCommand,
    set_default_time_slice, set_short_time_slice, spawner_main,
};
pub use headwater_shared_memory::{SharedTable, TableQuota};
pub use headwater_telemetry::Telemetry;
pub use invocation::{
    Argument, ArgumentValue, CallOwner, FunctionEvent, FunctionResult, Invocation,
    InvocationOutcome, ResultKind, ReuseScope,
};
pub use keep_alive::ExpectedCall;
pub use lake_access::{LAKE_CONTENT_BYTES_MAX, LakeAccess, LakeRequest, LakeResponse, too_large};
pub use optional_call_parts::{OptionalCallParts, ResponsePart, ResponseSender};
pub use options::{FunctionsOptions, Isolation, ZygoteOptions};
pub use provisioning::ProvisionedStatus;
pub use streaming_input::{RowStream, StreamedInput};
pub use zygote::ZygoteReport;
