//! Behaviour that users of the crate rely on, over an in-memory store that can fail at any call.

mod budgets;
mod life_cycle;
mod quotas;
mod records;
#[expect(dead_code, reason = "the tests of triggers use all items")]
mod support;
mod traces;
