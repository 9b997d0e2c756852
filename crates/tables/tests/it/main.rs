//! Tests of the crate's public API on a local folder.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails by panicking")]

mod clients;
mod commit;
mod corrupt;
mod deletes;
mod evolve;
mod fixture;
mod foreign;
mod locations;
mod manifests;
mod partition;
mod plan;
mod unmeasured;
mod version_3;
mod write;
