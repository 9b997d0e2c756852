//! Applies the requirements and updates of a commit to a table.
//!
//! The metadata builder of the `iceberg` crate takes timestamps from the system clock and checks
//! them against the snapshot log, whose timestamps come from Headwater's own clock. Both clocks may
//! differ. So before the builder is called, each timestamp in the log is replaced by its index in
//! the log; afterwards, the timestamps are restored.

use std::collections::BTreeMap;

use headwater_model::TableName;
use headwater_table_format::{metadata, time_transforms};
use headwater_tables::{ChangeScope, GC_ENABLED, Table};
use iceberg::spec::{
    FormatVersion, MAIN_BRANCH, Schema, Snapshot, Summary, TableMetadata, TableProperties,
};
use iceberg::{TableRequirement, TableUpdate};
use serde_json::{Value, json};

use crate::create_table;
use crate::table_checks::{check_table, decapitalised, rejected, take_format_version};
use crate::{Error, RestTables, Result, TableCommit};

/// Keys of the logs in a metadata file.
const SNAPSHOT_LOG: &str = "snapshot-log";
const METADATA_LOG: &str = "metadata-log";
const LAST_UPDATED: &str = "last-updated-ms";
const TIMESTAMP: &str = "timestamp-ms";

/// Maximum difference between the sequence number of a new snapshot and the last sequence number of
/// the table.
const SEQUENCE_STEP_MAX: i64 = 1_000_000;

/// Maximum difference between a new field id and the last field id of the table. The difference can
/// exceed 1, because other branches may have assigned the ids in between.
const FIELD_STEP_MAX: i64 = 1_000_000;

/// The first field id that Iceberg reserves; columns have smaller ids.
pub(super) const FIELD_ID_END: i32 = 2_147_483_447;

/// Prefix of the error message of the `iceberg` crate for a failed requirement.
const UNMET: &str = "Requirement failed: ";

impl RestTables<'_> {
    /// Applies a commit and returns the table's next state. The entries of `summary` are added to
    /// the summaries of new snapshots.
    pub async fn apply(
        self,
        table: &Table,
        commit: &TableCommit,
        summary: &BTreeMap<String, String>,
    ) -> Result<Table> {
        let before = table.metadata();
        commit.check(Some(before))?;
        if commit.updates.is_empty() {
            return Ok(table.clone());
        }
        let previous = table.metadata_location();
        let _location_lock =
            self.lock_location(commit.sets_location(Some(before.location()))).await;
        let metadata = self.update(before, Some(previous), commit, summary).await?;
        let totals = if metadata.current_snapshot_id() == before.current_snapshot_id() {
            table.totals()
        } else {
            self.tables.metadata_files().totals(&metadata).await?
        };
        let location = metadata::next_location(metadata.location(), Some(previous));
        self.tables.metadata_files().store(location, metadata, totals).await
    }

    /// Creates the table that a commit describes, including its rows.
    pub async fn create_from(self, name: &TableName, commit: &TableCommit) -> Result<Table> {
        commit.check(None)?;
        let _location_lock = self.lock_location(commit.sets_location(None)).await;
        let initial = create_table::initial_metadata(self, name, commit).await?;
        let metadata = self.update(&initial, None, commit, &BTreeMap::new()).await?;
        let totals = self.tables.metadata_files().totals(&metadata).await?;
        let location = metadata::next_location(metadata.location(), None);
        self.tables.metadata_files().store(location, metadata, totals).await
    }

    /// Returns the metadata after a commit's updates. The entries of `summary` are added to the
    /// summary of each new snapshot, but do not replace existing entries.
    async fn update(
        self,
        before: &TableMetadata,
        location: Option<&str>,
        commit: &TableCommit,
        summary: &BTreeMap<String, String>,
    ) -> Result<TableMetadata> {
        let (base, times) = detach_logs(before)?;
        let mut builder = base.into_builder(None);
        for update in &commit.updates {
            commit.check_update(before, update)?;
            let update = self.prepare_update(before, update, summary).await?;
            for update in update {
                builder = update.apply(builder).map_err(|error| rejected(&error))?;
            }
        }
        let built = builder.build().map_err(|error| rejected(&error))?.metadata;
        let same = built.current_schema() == before.current_schema()
            && built.format_version() == before.format_version()
            && built.default_partition_spec() == before.default_partition_spec();
        if !same || location.is_none() {
            check_table(&built)?;
        }
        let now = self.tables.options().clock.now().timestamp_millis();
        let metadata = attach_logs(&built, before, times, location, now)?;
        let next_row_id = self.check_new_files(before, &metadata, commit).await?;
        with_next_row_id(metadata, next_row_id)
    }

    /// Converts an update of a client to one or two updates that the metadata builder accepts.
    async fn prepare_update(
        self,
        before: &TableMetadata,
        update: &TableUpdate,
        summary: &BTreeMap<String, String>,
    ) -> Result<Vec<TableUpdate>> {
        match update {
            TableUpdate::AssignUuid { uuid } if *uuid != before.uuid() => {
                let reason = "a table's UUID cannot be changed".to_owned();
                return Err(Error::Refused { reason });
            }
            TableUpdate::SetSnapshotRef { ref_name, reference }
                if ref_name == MAIN_BRANCH && !reference.is_branch() =>
            {
                let reason = format!("`{MAIN_BRANCH}` must be a branch, not a tag");
                return Err(Error::Refused { reason });
            }
            TableUpdate::AddSchema { schema } => check_ids(before, schema)?,
            TableUpdate::SetLocation { location }
                if is_different_location(location, before.location()) =>
            {
                self.location_to_move_to(location, before.uuid()).await?;
            }
            TableUpdate::SetProperties { updates } => {
                let mut updates = updates.clone();
                updates.remove(GC_ENABLED);
                let version = take_format_version(&mut updates)?;
                let upgrade = version
                    .map(|format_version| TableUpdate::UpgradeFormatVersion { format_version });
                let set = TableUpdate::SetProperties { updates };
                return Ok(upgrade.into_iter().chain([set]).collect());
            }
            TableUpdate::AddSpec { spec } => {
                return Ok(vec![TableUpdate::AddSpec {
                    spec: time_transforms::hidden(spec.clone())?,
                }]);
            }
            TableUpdate::AddSnapshot { snapshot } => {
                self.check_location(snapshot.manifest_list())?;
                check_sequence(before, snapshot)?;
                let snapshot = with_summary(before, snapshot, summary);
                return Ok(vec![TableUpdate::AddSnapshot { snapshot }]);
            }
            TableUpdate::SetStatistics { statistics } => {
                self.check_location(&statistics.statistics_path)?;
            }
            TableUpdate::SetPartitionStatistics { partition_statistics } => {
                self.check_location(&partition_statistics.statistics_path)?;
            }
            TableUpdate::AddEncryptionKey { .. } => {
                let reason = "encrypted tables are not supported".to_owned();
                return Err(Error::Refused { reason });
            }
            _ => {}
        }
        Ok(vec![update.clone()])
    }
}

/// Returns true if the two locations differ.
pub(crate) fn is_different_location(given: &str, location: &str) -> bool {
    given.trim_end_matches('/') != location
}

impl TableCommit {
    /// Returns true if the commit sets a location that differs from `before`.
    fn sets_location(&self, before: Option<&str>) -> bool {
        self.updates.iter().any(|update| match update {
            TableUpdate::SetLocation { location } => {
                before.is_none_or(|before| is_different_location(location, before))
            }
            _ => false,
        })
    }

    pub(crate) fn check(&self, metadata: Option<&TableMetadata>) -> Result<()> {
        for requirement in &self.requirements {
            requirement.check(metadata).map_err(|error| {
                let message = error.message();
                let known = metadata.and_then(|metadata| changed_id_message(requirement, metadata));
                let builders = || decapitalised(message.strip_prefix(UNMET).unwrap_or(message));
                Error::Unmet { reason: known.unwrap_or_else(builders) }
            })?;
        }
        Ok(())
    }
}

/// Returns the message for a failed requirement that an id (such as the current schema id) is
/// unchanged, in the wording that Iceberg's clients expect; `None` for other requirements.
fn changed_id_message(requirement: &TableRequirement, metadata: &TableMetadata) -> Option<String> {
    use TableRequirement as One;
    let (what, expected, found) = match requirement {
        One::CurrentSchemaIdMatch { current_schema_id: expected } => {
            ("current schema", i64::from(*expected), i64::from(metadata.current_schema_id()))
        }
        One::LastAssignedFieldIdMatch { last_assigned_field_id: expected } => {
            ("last assigned field", i64::from(*expected), i64::from(metadata.last_column_id()))
        }
        One::LastAssignedPartitionIdMatch { last_assigned_partition_id: expected } => {
            let found = metadata.last_partition_id();
            ("last assigned partition", i64::from(*expected), i64::from(found))
        }
        One::DefaultSpecIdMatch { default_spec_id: expected } => {
            let found = metadata.default_partition_spec_id();
            ("default spec", i64::from(*expected), i64::from(found))
        }
        One::DefaultSortOrderIdMatch { default_sort_order_id: expected } => {
            ("default sort order", *expected, metadata.default_sort_order().order_id)
        }
        _ => return None,
    };
    Some(format!("{what} id has changed: expected {expected}, found {found}"))
}

/// Rejects a snapshot whose sequence number is far above the table's last sequence number. Also
/// rejects a snapshot whose sequence number or row ids are already used, because another snapshot
/// was committed after the client prepared this one.
fn check_sequence(before: &TableMetadata, snapshot: &Snapshot) -> Result<()> {
    if before.format_version() == FormatVersion::V1 {
        return Ok(());
    }
    let (last, number) = (before.last_sequence_number(), snapshot.sequence_number());
    if number > last.saturating_add(SEQUENCE_STEP_MAX) {
        let reason = format!("sequence number {number} does not follow {last}");
        return Err(Error::Refused { reason });
    }
    let stale = number <= last;
    let rows = snapshot.first_row_id().is_some_and(|first| first < before.next_row_id());
    if stale || rows {
        let reason = format!("sequence number {number} is already used");
        return Err(Error::Unmet { reason });
    }
    Ok(())
}

/// Rejects a schema with a reserved field id, or with one far above the table's last field id.
fn check_ids(before: &TableMetadata, schema: &Schema) -> Result<()> {
    let id = schema.highest_field_id();
    if id < FIELD_ID_END && i64::from(id) <= i64::from(before.last_column_id()) + FIELD_STEP_MAX {
        return Ok(());
    }
    Err(Error::Refused { reason: format!("field id {id} is too large") })
}

/// Adds the properties that a snapshot inherits from the previous snapshot. A snapshot that
/// replaces or deletes all rows inherits no properties.
fn with_summary(
    before: &TableMetadata,
    snapshot: &Snapshot,
    inherited: &BTreeMap<String, String>,
) -> Snapshot {
    let current = before.current_snapshot().map(|snapshot| &**snapshot);
    let summary = snapshot.summary();
    let is_empty = summary.additional_properties.get("total-records").is_some_and(|n| n == "0");
    if inherited.is_empty() || is_empty || ChangeScope::of(snapshot, current) == ChangeScope::All {
        return snapshot.clone();
    }
    let mut properties = summary.additional_properties.clone();
    for (key, value) in inherited {
        properties.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let summary =
        Summary { operation: summary.operation.clone(), additional_properties: properties };
    let builder = Snapshot::builder()
        .with_snapshot_id(snapshot.snapshot_id())
        .with_parent_snapshot_id(snapshot.parent_snapshot_id())
        .with_sequence_number(snapshot.sequence_number())
        .with_timestamp_ms(snapshot.timestamp_ms())
        .with_manifest_list(snapshot.manifest_list())
        .with_summary(summary);
    match (snapshot.schema_id(), snapshot.row_range()) {
        (Some(schema), Some((first, added))) => {
            builder.with_schema_id(schema).with_row_range(first, added).build()
        }
        (Some(schema), None) => builder.with_schema_id(schema).build(),
        (None, Some((first, added))) => builder.with_row_range(first, added).build(),
        (None, None) => builder.build(),
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal("committed", error)
}

/// Returns the metadata with `next_row_id` as next row id, or with its own if that is larger.
fn with_next_row_id(metadata: TableMetadata, next_row_id: u64) -> Result<TableMetadata> {
    if next_row_id <= metadata.next_row_id() {
        return Ok(metadata);
    }
    let mut value = serde_json::to_value(&metadata).map_err(failed)?;
    value["next-row-id"] = json!(next_row_id);
    serde_json::from_value(value).map_err(failed)
}

/// Replaces the timestamps in the snapshot log by their indexes, and removes the metadata log.
/// Returns the changed metadata and the timestamps.
fn detach_logs(metadata: &TableMetadata) -> Result<(TableMetadata, Vec<Value>)> {
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    let mut times = Vec::new();
    if let Some(Value::Array(log)) = value.get_mut(SNAPSHOT_LOG) {
        for (index, entry) in log.iter_mut().enumerate() {
            times.push(std::mem::replace(&mut entry[TIMESTAMP], json!(index)));
        }
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove(METADATA_LOG);
    }
    for spec in time_transforms::specs(&mut value) {
        time_transforms::hide(spec)?;
    }
    Ok((serde_json::from_value(value).map_err(failed)?, times))
}

/// Restores the timestamps of the snapshot log, and adds the previous metadata file to the metadata
/// log. The time of the last update becomes `now_ms` or, if later, the last timestamp.
fn attach_logs(
    built: &TableMetadata,
    before: &TableMetadata,
    mut times: Vec<Value>,
    previous: Option<&str>,
    now_ms: i64,
) -> Result<TableMetadata> {
    let mut value = serde_json::to_value(built).map_err(failed)?;
    time_transforms::specs(&mut value).for_each(time_transforms::restore);
    let mut latest = now_ms.max(before.last_updated_ms());
    if let Some(Value::Array(log)) = value.get_mut(SNAPSHOT_LOG) {
        for entry in log {
            let time = entry[TIMESTAMP].as_i64().unwrap_or_default();
            match usize::try_from(time).ok().and_then(|index| times.get_mut(index)) {
                Some(before) => entry[TIMESTAMP] = before.take(),
                None => latest = latest.max(time),
            }
        }
    }
    let mut log: Vec<Value> = before
        .metadata_log()
        .iter()
        .map(|entry| json!({"metadata-file": entry.metadata_file, TIMESTAMP: entry.timestamp_ms}))
        .collect();
    log.extend(
        previous.map(|file| json!({"metadata-file": file, TIMESTAMP: before.last_updated_ms()})),
    );
    let log_length_max =
        built.properties().get(TableProperties::PROPERTY_METADATA_PREVIOUS_VERSIONS_MAX);
    let log_length_max = log_length_max.and_then(|log_length_max| log_length_max.parse().ok());
    let log_length_max =
        log_length_max.unwrap_or(TableProperties::PROPERTY_METADATA_PREVIOUS_VERSIONS_MAX_DEFAULT);
    log.drain(..log.len().saturating_sub(log_length_max.max(1)));
    value[METADATA_LOG] = Value::Array(log);
    value[LAST_UPDATED] = json!(latest);
    serde_json::from_value(value).map_err(failed)
}
