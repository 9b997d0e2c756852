//! Registers existing tables by their metadata files. The tables must satisfy all rules for tables
//! that Headwater creates.

use headwater_table_format::metadata;
use headwater_tables::{Table, referenced_snapshots};
use iceberg::spec::{MAIN_BRANCH, TableMetadata};
use serde_json::Value;

use crate::apply_updates::FIELD_ID_END;
use crate::file_checks::{METADATA_BYTES_MAX, reject};
use crate::table_checks::check_table;
use crate::{Error, RestTables, Result};

/// Maximum sequence number and row id, so that later commits can increase them. Real tables have
/// far lower values.
const NUMBER_MAX: i64 = 1 << 60;

/// Maximum id of partition fields, specs and sort orders.
const SMALL_ID_MAX: i64 = 1 << 30;

impl RestTables<'_> {
    /// Registers a table by its metadata file in the warehouse, written by another engine, or by
    /// this lake at an earlier time.
    pub async fn register(self, location: &str) -> Result<Table> {
        let content = self.read_client_metadata(location, METADATA_BYTES_MAX).await?;
        let metadata = metadata::decode(location, &content).map_err(reject)?;
        self.check_registrable(&metadata).await?;
        let referenced = referenced_snapshots(&metadata);
        let referenced = metadata.snapshots().filter(|it| referenced.contains(&it.snapshot_id()));
        let mut referenced: Vec<_> = referenced.cloned().collect();
        referenced.sort_by_key(|snapshot| snapshot.sequence_number());
        self.check_all_snapshots(&metadata, &referenced).await?;
        self.tables.storage().sync(std::iter::once(location)).await?;
        self.tables.load(location).await
    }

    /// Rejects a table with features that Headwater does not create, or that Headwater could not
    /// change later.
    async fn check_registrable(self, metadata: &TableMetadata) -> Result<()> {
        let path = self.check_location(metadata.location())?;
        if self.is_in_a_table(&path).await? {
            let reason = format!("`{}` is inside another table", metadata.location());
            return Err(Error::Refused { reason });
        }
        let value =
            serde_json::to_value(metadata).map_err(|error| Error::internal("registered", error))?;
        check_numbers(metadata, &value)?;
        if metadata.encryption_keys_iter().next().is_some() {
            let reason = "encrypted tables are not supported".to_owned();
            return Err(Error::Refused { reason });
        }
        let main = &value["refs"][MAIN_BRANCH]["type"];
        if main.is_string() && main != "branch" {
            let reason = format!("`{MAIN_BRANCH}` must be a branch, not a tag");
            return Err(Error::Refused { reason });
        }
        for statistics in metadata.statistics_iter() {
            self.check_location(&statistics.statistics_path)?;
        }
        for statistics in metadata.partition_statistics_iter() {
            self.check_location(&statistics.statistics_path)?;
        }
        check_table(metadata)
    }
}

/// Rejects field ids that a column cannot have, ids that the table has not assigned, and counters
/// that are too large to be increased.
fn check_numbers(metadata: &TableMetadata, value: &Value) -> Result<()> {
    let rejected = |reason: String| Err(Error::Refused { reason });
    let last = metadata.last_column_id();
    let used = metadata.schemas_iter().map(|schema| schema.highest_field_id()).max();
    let used = used.unwrap_or_default();
    if used > last {
        return rejected(format!("field id {used} is above `last-column-id`, {last}"));
    }
    if !(0..FIELD_ID_END).contains(&last) {
        return rejected(format!("`last-column-id` {last} is too large"));
    }
    let small = ["last-partition-id", "default-spec-id", "default-sort-order-id"];
    let large = ["last-sequence-number", "next-row-id", "last-updated-ms"];
    let all = small.map(|key| (key, SMALL_ID_MAX)).into_iter();
    for (key, most) in all.chain(large.map(|key| (key, NUMBER_MAX))) {
        let number = &value[key];
        if !number.is_null() && !number.as_i64().is_some_and(|number| (-1..=most).contains(&number))
        {
            return rejected(format!("`{key}` is out of range: {number}"));
        }
    }
    let highest = metadata.partition_specs_iter().filter_map(|spec| spec.highest_field_id()).max();
    if let Some(highest) = highest
        && highest > metadata.last_partition_id()
    {
        return rejected(format!("partition field id {highest} is above `last-partition-id`"));
    }
    Ok(())
}
