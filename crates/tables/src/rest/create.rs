//! New tables: as they are described, and as a commit that follows a description makes them.

use headwater_model::TableName;
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, PartitionSpec, Schema, SortOrder, TableMetadata, TableMetadataBuilder,
    UnboundPartitionSpec,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::show::GC_ENABLED;
use super::{NewTable, TableCommit, check_table, refused, take_version};
use crate::commit::stamp::stamp;
use crate::commit::{Unwritten, store_as};
use crate::table::Totals;
use crate::{Error, Result, Table, Tables, metadata, time_parts};

/// The largest field id that a new table may have.
const FIELD_ID_MAX: i32 = 1_000_000;

/// The number that the ids of partition fields follow.
const PARTITION_IDS_AFTER: i32 = 999;

impl Tables {
    /// The metadata of a table that is asked for, stored nowhere. Columns get ids of their own.
    pub async fn describe_new(&self, name: &TableName, new: NewTable) -> Result<Value> {
        let metadata = self.new_metadata(name, new).await?;
        self.storage().make_folders(metadata.location()).await?;
        metadata::to_value(&metadata).map_err(|error| Error::internal("described", error))
    }

    /// Makes the table that is asked for, without rows.
    pub async fn create_new(&self, name: &TableName, new: NewTable) -> Result<Table> {
        let _placing = self.hold_place(new.location.is_some()).await;
        let metadata = self.new_metadata(name, new).await?;
        let location = metadata::next_location(metadata.location(), None);
        store_as(self, location, metadata, Totals::default(), Unwritten::default()).await
    }

    async fn new_metadata(&self, name: &TableName, new: NewTable) -> Result<TableMetadata> {
        let location = match new.location {
            Some(location) => self.free_location(&location).await?,
            None => self.new_location(name),
        };
        let mut properties = new.properties;
        properties.remove(GC_ENABLED);
        let version = take_version(&mut properties)?.unwrap_or(FormatVersion::V2);
        let spec = time_parts::hidden(new.partition_spec.unwrap_or_default())?;
        let order = new.write_order.unwrap_or_else(SortOrder::unsorted_order);
        let built =
            TableMetadataBuilder::new(new.schema, spec, order, location, version, properties);
        let built = built.and_then(|builder| builder.assign_uuid(Uuid::new_v4()).build());
        let metadata = built.map_err(|error| refused(&error))?.metadata;
        check_table(&metadata)?;
        stamp(&time_parts::revealed(metadata)?, self.options().clock.now().timestamp_millis())
    }
}

/// The metadata that a commit of a table that is not there yet begins with. Ids are as the commit has
/// them: its data files are written.
pub(super) async fn begin(
    tables: &Tables,
    name: &TableName,
    commit: &TableCommit,
) -> Result<TableMetadata> {
    let mut schema = None;
    let (mut spec, mut uuid, mut location, mut version) = (None, None, None, FormatVersion::V2);
    for update in &commit.updates {
        match update {
            TableUpdate::AddSchema { schema: added } => schema = schema.or(Some(added)),
            TableUpdate::AddSpec { spec: added } => spec = spec.or(Some(added)),
            TableUpdate::AssignUuid { uuid: given } => uuid = Some(*given),
            TableUpdate::SetLocation { location: given } => location = Some(given),
            TableUpdate::UpgradeFormatVersion { format_version } => version = *format_version,
            _ => {}
        }
    }
    let missing = || Error::Refused { reason: "a table that is made has no schema".to_owned() };
    let schema = schema.ok_or_else(missing)?;
    if schema.highest_field_id() > FIELD_ID_MAX {
        let reason = format!("field id {} is too large", schema.highest_field_id());
        return Err(Error::Refused { reason });
    }
    let spec = bind(time_parts::hidden(spec.cloned().unwrap_or_default())?, schema)?;
    let location = match location {
        Some(location) => tables.free_location(location).await?,
        None => tables.new_location(name),
    };
    let uuid = uuid.unwrap_or_else(Uuid::new_v4);
    let now = tables.options().clock.now().timestamp_millis();
    let mut value = first(version, uuid, (schema, &spec), &location, now);
    time_parts::specs(&mut value).for_each(time_parts::reveal);
    serde_json::from_value(value).map_err(|error| Error::Refused { reason: error.to_string() })
}

fn bind(spec: UnboundPartitionSpec, schema: &Schema) -> Result<PartitionSpec> {
    spec.bind(schema.clone()).map_err(|error| refused(&error))
}

/// The builder begins with ids of its own making, so that ids which are given can only be kept by way of
/// the JSON form.
fn first(
    version: FormatVersion,
    uuid: Uuid,
    (schema, spec): (&Schema, &PartitionSpec),
    location: &str,
    now_ms: i64,
) -> Value {
    let last_partition = spec.highest_field_id().unwrap_or(PARTITION_IDS_AFTER);
    let mut value = json!({
        "format-version": version,
        "table-uuid": uuid,
        "location": location,
        "last-updated-ms": now_ms,
        "last-column-id": schema.highest_field_id(),
        "schemas": [schema],
        "current-schema-id": schema.schema_id(),
        "partition-specs": [spec],
        "default-spec-id": spec.spec_id(),
        "last-partition-id": last_partition,
        "sort-orders": [SortOrder::unsorted_order()],
        "default-sort-order-id": 0,
    });
    match version {
        FormatVersion::V1 => value["schema"] = json!(schema),
        FormatVersion::V2 => value["last-sequence-number"] = json!(0),
        FormatVersion::V3 => {
            value["last-sequence-number"] = json!(0);
            value["next-row-id"] = json!(0);
        }
    }
    value
}
