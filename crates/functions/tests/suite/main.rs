//! Tests of the crate's public interface, with real environments, sandboxes and functions. The
//! packages are downloaded from PyPI, once per machine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod batches;
mod callers;
mod early_results;
mod environment;
mod fairness;
mod handover;
mod held_inputs;
mod invoke;
mod isolation;
mod metering;
mod preparation;
mod projects;
mod provisioning;
mod pythons;
mod support;
mod warm;
mod zygote;
