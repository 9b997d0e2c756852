//! Runs the integration tests of the lake again with tables on S3, and tests imports from S3.

#[cfg(test)]
mod cloud;
#[cfg(test)]
#[path = "../clouds/fault_proxy.rs"]
#[expect(dead_code, reason = "used only by tests of faults")]
mod fault_proxy;
#[cfg(test)]
#[path = "../../../ingest/tests/it/fixture.rs"]
#[expect(dead_code, reason = "used only by tests of formats")]
mod fixture;
#[cfg(test)]
mod import;
#[cfg(test)]
#[path = "../clouds/s3.rs"]
mod s3;
#[cfg(test)]
mod storage;

#[cfg(test)]
#[path = "../it/changes.rs"]
#[expect(dead_code, reason = "used by tests of folders only")]
mod changes;
#[cfg(test)]
#[path = "../it/groups.rs"]
mod groups;
#[cfg(test)]
#[path = "../../../ingest/tests/it/state.rs"]
mod import_state;
#[cfg(test)]
#[path = "../it/maintenance.rs"]
mod maintenance;
#[cfg(test)]
#[path = "../it/merge.rs"]
mod merge;
#[cfg(test)]
#[path = "../it/support.rs"]
mod support;
#[cfg(test)]
#[path = "../it/transaction.rs"]
mod transaction;
#[cfg(test)]
#[path = "../it/uncertain_store.rs"]
mod uncertain_store;
#[cfg(test)]
#[path = "../it/writers.rs"]
mod writers;
