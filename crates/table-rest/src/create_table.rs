//! Creates tables: at once, as staged tables, or by a commit.

use std::collections::HashMap;

use headwater_model::TableName;
use headwater_table_format::{metadata, time_transforms};
use headwater_tables::{GC_ENABLED, Table, Totals, set_timestamp};
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, PartitionSpec, Schema, SortOrder, TableMetadata, TableMetadataBuilder,
    UnboundPartitionSpec,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::schema_input::schema_without_loss;
use crate::table_checks::{check_table, rejected, take_format_version};
use crate::{Error, RestTables, Result, TableCommit};

/// A request to create a table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewTable {
    /// The name, without the namespace.
    pub name: String,
    /// The table's location; by default a new folder.
    pub location: Option<String>,
    #[serde(deserialize_with = "schema_without_loss")]
    schema: Schema,
    partition_spec: Option<UnboundPartitionSpec>,
    write_order: Option<SortOrder>,
    /// True for a staged table: the request only returns the metadata, and a later commit creates
    /// the table.
    #[serde(default)]
    pub stage_create: bool,
    #[serde(default)]
    properties: HashMap<String, String>,
}

/// Maximum field id in a new table.
const FIELD_ID_MAX: i32 = 1_000_000;

/// The `last-partition-id` of a table without partition fields: ids of partition fields start at
/// 1000.
const PARTITION_IDS_AFTER: i32 = 999;

impl RestTables<'_> {
    /// Returns the metadata of a new table without storing it. The columns get new ids.
    pub async fn describe_new(self, name: &TableName, new: NewTable) -> Result<Value> {
        let metadata = self.new_metadata(name, new).await?;
        self.tables.storage().create_folders(metadata.location()).await?;
        metadata::to_value(&metadata).map_err(|error| Error::internal("encoded", error))
    }

    /// Creates an empty table.
    pub async fn create_new(self, name: &TableName, new: NewTable) -> Result<Table> {
        let _location_lock = self.lock_location(new.location.is_some()).await;
        let metadata = self.new_metadata(name, new).await?;
        let location = metadata::next_location(metadata.location(), None);
        self.tables.metadata_files().store(location, metadata, Totals::default()).await
    }

    async fn new_metadata(self, name: &TableName, new: NewTable) -> Result<TableMetadata> {
        let location = match new.location {
            Some(location) => self.unused_location(&location).await?,
            None => self.tables.metadata_files().new_location(name),
        };
        let mut properties = new.properties;
        properties.remove(GC_ENABLED);
        let version = take_format_version(&mut properties)?.unwrap_or(FormatVersion::V2);
        let spec = time_transforms::hidden(new.partition_spec.unwrap_or_default())?;
        let order = new.write_order.unwrap_or_else(SortOrder::unsorted_order);
        let built =
            TableMetadataBuilder::new(new.schema, spec, order, location, version, properties);
        let built = built.and_then(|builder| builder.assign_uuid(Uuid::new_v4()).build());
        let metadata = built.map_err(|error| rejected(&error))?.metadata;
        check_table(&metadata)?;
        set_timestamp(
            &time_transforms::restored(metadata)?,
            self.tables.options().clock.now().timestamp_millis(),
        )
    }
}

/// Returns the initial metadata for a commit that creates a table. The ids of columns in the commit
/// are kept, because the commit's data files contain them.
pub(crate) async fn initial_metadata(
    rest: RestTables<'_>,
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
    let missing =
        || Error::Refused { reason: "the commit creates a table without a schema".to_owned() };
    let schema = schema.ok_or_else(missing)?;
    if schema.highest_field_id() > FIELD_ID_MAX {
        let reason = format!("field id {} is too large", schema.highest_field_id());
        return Err(Error::Refused { reason });
    }
    let spec = bind(time_transforms::hidden(spec.cloned().unwrap_or_default())?, schema)?;
    let location = match location {
        Some(location) => rest.unused_location(location).await?,
        None => rest.tables.metadata_files().new_location(name),
    };
    let uuid = uuid.unwrap_or_else(Uuid::new_v4);
    let now_ms = rest.tables.options().clock.now().timestamp_millis();
    let (spec, location) = (&spec, location.as_str());
    let mut value =
        first_metadata(&FirstMetadata { version, uuid, schema, spec, location, now_ms });
    time_transforms::specs(&mut value).for_each(time_transforms::restore);
    serde_json::from_value(value).map_err(|error| Error::Refused { reason: error.to_string() })
}

fn bind(spec: UnboundPartitionSpec, schema: &Schema) -> Result<PartitionSpec> {
    spec.bind(schema.clone()).map_err(|error| rejected(&error))
}

/// The parts of a new table's metadata.
struct FirstMetadata<'a> {
    version: FormatVersion,
    uuid: Uuid,
    schema: &'a Schema,
    spec: &'a PartitionSpec,
    location: &'a str,
    now_ms: i64,
}

/// Builds the metadata as JSON, because the metadata builder would assign new ids.
fn first_metadata(first: &FirstMetadata<'_>) -> Value {
    let FirstMetadata { version, uuid, schema, spec, location, now_ms } = *first;
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
