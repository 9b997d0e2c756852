//! Profiles of the rows that models write: number of rows, and statistics of each column.
//!
//! A profile is a property of the snapshot that contains the rows, so each branch has its own
//! profiles, and the expiry of a snapshot removes its profile. `system.profiles` shows them.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{RowProfile, RowProfiler};
use headwater_functions::SharedTable;
use headwater_lake::BatchStream;
use parking_lot::Mutex;

/// Snapshot property that contains the profile of the rows that a model wrote, as JSON.
pub(crate) const PROFILE: &str = "headwater.profile";

/// Profile of rows that have not been read completely.
pub(crate) struct PendingProfile(Arc<Mutex<RowProfiler>>);

impl PendingProfile {
    /// Returns the profile of the rows that have been read so far, as a snapshot property.
    pub fn to_property(&self) -> String {
        property(&self.0.lock().finish())
    }
}

/// Returns the rows, and their profile, which is complete when all rows have been read.
pub(crate) fn profiled(schema: &Schema, rows: BatchStream) -> (BatchStream, PendingProfile) {
    let profiler = Arc::new(Mutex::new(RowProfiler::new(schema)));
    let shared = Arc::clone(&profiler);
    let rows = rows.inspect_ok(move |batch| shared.lock().add(batch)).boxed();
    (rows, PendingProfile(profiler))
}

/// Returns the profile of stored rows, as a snapshot property.
pub(crate) async fn profile_of(rows: &SharedTable) -> Result<String, ArrowError> {
    let mut profiler = RowProfiler::new(&rows.schema());
    let mut batches = rows.stream();
    while let Some(batch) = batches.next().await {
        profiler.add(&batch?);
    }
    Ok(property(&profiler.finish()))
}

fn property(profile: &RowProfile) -> String {
    serde_json::json!(profile).to_string()
}
