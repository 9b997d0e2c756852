//! What users of the crate rely on, over a store in memory that can die at any call.

mod life_cycle;
mod records;
#[expect(dead_code, reason = "the tests of triggers use all of it")]
mod support;
