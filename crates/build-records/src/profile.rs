//! Profiles of the rows that models write: number of rows, and statistics of each column.
//!
//! A profile is a property of the snapshot that contains the rows. So each branch has its own
//! profiles, and the expiry of a snapshot removes its profile. `system.profiles` shows the
//! profiles.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use headwater_lake::BatchStream;
use headwater_shared_memory::SharedTable;
use headwater_sql_aggregates::{DataProfile, DataProfiler};
use parking_lot::Mutex;

/// Maximum size of a profile as a snapshot property, in bytes. Each commit to a table writes the
/// properties of all its snapshots.
const PROPERTY_BYTES_MAX: usize = 4 * 1024;

/// Profile of a stream of rows, which is complete after the last row.
pub struct PendingProfile(Arc<Mutex<DataProfiler>>);

impl PendingProfile {
    /// Returns the profile of the rows that have been read so far, as a snapshot property.
    pub fn to_property(&self) -> String {
        property(self.0.lock().finish())
    }
}

/// Returns the rows, and their profile, which is complete when all rows have been read.
pub fn profiled(schema: &Schema, rows: BatchStream) -> (BatchStream, PendingProfile) {
    let profiler = Arc::new(Mutex::new(DataProfiler::new(schema)));
    let shared = Arc::clone(&profiler);
    let rows = rows.inspect_ok(move |batch| shared.lock().add(batch)).boxed();
    (rows, PendingProfile(profiler))
}

/// Returns the profile of stored rows, as a snapshot property.
pub async fn profile_of(rows: &SharedTable) -> Result<String, ArrowError> {
    let mut profiler = DataProfiler::new(&rows.schema());
    let mut batches = rows.stream();
    while let Some(batch) = batches.next().await {
        profiler.add(&batch?);
    }
    Ok(property(profiler.finish()))
}

/// Returns a profile as a snapshot property. A profile that is too large loses minima and maxima,
/// and then its last columns.
fn property(mut profile: DataProfile) -> String {
    let text = |profile: &DataProfile| serde_json::json!(profile).to_string();
    let mut property = text(&profile);
    if property.len() > PROPERTY_BYTES_MAX {
        for column in &mut profile.columns {
            (column.min, column.max) = (None, None);
        }
        property = text(&profile);
    }
    while property.len() > PROPERTY_BYTES_MAX && profile.columns.pop().is_some() {
        property = text(&profile);
    }
    property
}

#[cfg(test)]
mod tests {
    use headwater_sql_aggregates::ColumnProfile;

    use super::*;

    fn stored(columns: usize) -> DataProfile {
        let column = |number| ColumnProfile {
            name: format!("column_{number}"),
            min: Some("a".repeat(64)),
            max: Some("z".repeat(64)),
            ..ColumnProfile::default()
        };
        let columns = (0..columns).map(column).collect();
        let text = property(DataProfile { rows: 7, columns });
        assert!(text.len() <= PROPERTY_BYTES_MAX, "{}", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_large_profile_loses_minima_and_maxima_and_then_columns() {
        let small = stored(10);
        assert_eq!((small.rows, small.columns.len()), (7, 10));
        assert!(small.columns.iter().all(|column| column.min.is_some()));
        let medium = stored(50);
        assert_eq!((medium.rows, medium.columns.len()), (7, 50));
        assert!(medium.columns.iter().all(|column| column.min.is_none() && column.max.is_none()));
        let large = stored(1_000);
        assert_eq!(large.rows, 7);
        assert!(large.columns.len() > 50 && large.columns.len() < 1_000);
    }
}
