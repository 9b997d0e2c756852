//! Tables that are there already, to be taken over by their metadata file: held to all that a table must be
//! which is made here.

use iceberg::spec::{MAIN_BRANCH, TableMetadata};
use serde_json::Value;

use super::apply::FIELD_ID_END;
use super::check_table;
use super::files::{METADATA_BYTES_MAX, refuse};
use crate::commit::named_snapshots;
use crate::{Error, Result, Table, Tables, metadata};

/// Numbers of commits, and of rows, that are far from any that a table comes to.
const NUMBER_MAX: i64 = 1 << 60;

/// Ids of partition fields, of specs and of orders that leave room for more.
const SMALL_ID_MAX: i64 = 1 << 30;

impl Tables {
    /// Takes over a table whose metadata file another engine, or an earlier state of this lake, left in the
    /// warehouse.
    pub async fn register(&self, location: &str) -> Result<Table> {
        let content = self.given_metadata(location, METADATA_BYTES_MAX).await?;
        let metadata = metadata::decode(location, &content).map_err(refuse)?;
        self.check_given(&metadata).await?;
        let named = named_snapshots(&metadata);
        let named = metadata.snapshots().filter(|it| named.contains(&it.snapshot_id()));
        let mut named: Vec<_> = named.cloned().collect();
        named.sort_by_key(|snapshot| snapshot.sequence_number());
        self.take_all(&metadata, &named).await?;
        self.storage().sync(std::iter::once(location)).await?;
        self.load(location).await
    }

    /// Fails for a table that could not be made here, or changed any further.
    async fn check_given(&self, metadata: &TableMetadata) -> Result<()> {
        let path = self.check_location(metadata.location())?;
        if self.lies_in_another(&path).await? {
            let reason = format!("`{}` lies in another table", metadata.location());
            return Err(Error::Refused { reason });
        }
        let value =
            serde_json::to_value(metadata).map_err(|error| Error::internal("registered", error))?;
        check_numbers(metadata, &value)?;
        if metadata.encryption_keys_iter().next().is_some() {
            let reason = "encrypted tables cannot be read here".to_owned();
            return Err(Error::Refused { reason });
        }
        let main = &value["refs"][MAIN_BRANCH]["type"];
        if main.is_string() && main != "branch" {
            let reason = format!("`{MAIN_BRANCH}` is a branch, and cannot be a tag");
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

/// Fails for ids that no column can have, or that were not given away, and for numbers after which none come.
fn check_numbers(metadata: &TableMetadata, value: &Value) -> Result<()> {
    let refused = |reason: String| Err(Error::Refused { reason });
    let last = metadata.last_column_id();
    let used = metadata.schemas_iter().map(|schema| schema.highest_field_id()).max();
    let used = used.unwrap_or_default();
    if used > last {
        return refused(format!("field id {used} is above the last column id, {last}"));
    }
    if !(0..FIELD_ID_END).contains(&last) {
        return refused(format!("column id {last} leaves no room for others"));
    }
    let small = ["last-partition-id", "default-spec-id", "default-sort-order-id"];
    let large = ["last-sequence-number", "next-row-id", "last-updated-ms"];
    let all = small.map(|key| (key, SMALL_ID_MAX)).into_iter();
    for (key, most) in all.chain(large.map(|key| (key, NUMBER_MAX))) {
        let number = &value[key];
        if !number.is_null() && !number.as_i64().is_some_and(|number| (-1..=most).contains(&number))
        {
            return refused(format!("`{key}` is {number}, after which nothing comes"));
        }
    }
    let highest = metadata.partition_specs_iter().filter_map(|spec| spec.highest_field_id()).max();
    if let Some(highest) = highest
        && highest > metadata.last_partition_id()
    {
        return refused(format!("partition field id {highest} is above the last one"));
    }
    Ok(())
}
