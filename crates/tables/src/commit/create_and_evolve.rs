//! Creation of a table, and evolution of its schema and partition spec.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use headwater_model::PartitionField;
use iceberg::spec::{
    FormatVersion, NestedFieldRef, PrimitiveType, SortOrder, StructType, TableMetadata,
    TableMetadataBuilder, Type,
};
use uuid::Uuid;

use super::alter::take_format_version;
use super::metadata::build;
use super::partition_and_sort_order::set_order;
use crate::metadata_log::{detach_logs, set_timestamp};
use crate::partition::spec_for;
use crate::types::schema::FieldIdAllocator;
use crate::{CreateTable, Error, Result, StagedFiles, normalise_schema, row_ids};

/// Returns the first metadata of a new table.
pub(crate) fn create(
    request: &CreateTable,
    location: String,
    now_ms: i64,
) -> Result<TableMetadata> {
    let normal = normalise_schema(&request.schema)?;
    let schema = iceberg_schema(FieldIdAllocator::after(0).assign(normal.fields(), None)?)?;
    let spec = spec_for(&schema, &request.partition, None)?;
    let mut properties = request.properties.clone();
    let version = take_format_version(&mut properties)?;
    let order = SortOrder::unsorted_order();
    let built = TableMetadataBuilder::new(schema, spec, order, location, version, HashMap::new());
    let builder = built.map_err(|error| rejected("created", &error))?.assign_uuid(Uuid::new_v4());
    let builder = set_properties(builder, properties)?;
    set_timestamp(&build(builder)?, now_ms)
}

/// Checks that partition fields can be used with these columns.
pub(crate) fn check_partition(schema: &Schema, partition: &[PartitionField]) -> Result<()> {
    let normal = normalise_schema(schema)?;
    let schema = iceberg_schema(FieldIdAllocator::after(0).assign(normal.fields(), None)?)?;
    spec_for(&schema, partition, None).map(drop)
}

/// Returns the metadata with other columns and partition fields, no snapshot and no metadata log.
pub(crate) fn replaced(
    metadata: &TableMetadata,
    schema: &SchemaRef,
    partition: &[PartitionField],
    after: Option<i32>,
) -> Result<TableMetadata> {
    let (base, _) = detach_logs(metadata)?;
    build(replace(metadata, base.into_builder(None), schema, partition, after)?)
}

/// Sets table properties.
pub(crate) fn set_properties(
    builder: TableMetadataBuilder,
    properties: BTreeMap<String, String>,
) -> Result<TableMetadataBuilder> {
    let keys = properties.keys().cloned().collect::<Vec<_>>().join("`, `");
    let set = builder.set_properties(properties.into_iter().collect());
    set.map_err(|error| Error::InvalidProperty { keys, reason: error.message().to_owned() })
}

/// Replaces columns and partition fields. Columns with the same name and type keep their field ids;
/// other columns get ids greater than `after`.
pub(crate) fn replace(
    metadata: &TableMetadata,
    builder: TableMetadataBuilder,
    schema: &SchemaRef,
    partition: &[PartitionField],
    after: Option<i32>,
) -> Result<TableMetadataBuilder> {
    let normal = normalise_schema(schema)?;
    let base = metadata.current_schema().as_struct();
    let fields = new_ids(metadata, after).assign(normal.fields(), Some(base))?;
    check_ids(metadata, &fields, base)?;
    check_names(metadata, &normal)?;
    let schema = iceberg_schema(fields)?;
    let spec = spec_for(&schema, partition, Some(metadata))?;
    let built = builder.add_current_schema(schema);
    let built = built.and_then(|builder| builder.add_default_partition_spec(spec));
    let builder = built.map_err(|error| rejected("replaced", &error))?;
    // The sort order may refer to dropped columns, so it is removed.
    if metadata.default_sort_order().is_unsorted() {
        return Ok(builder);
    }
    set_order(builder, Vec::new())
}

/// Returns the source of ids for new columns. All ids are greater than `after`; the caller must
/// have reserved them on all branches. If `after` is `None`, the ids are greater than the last
/// column id of this table state. That is correct only if the table is on no other branch.
pub(crate) fn new_ids(metadata: &TableMetadata, after: Option<i32>) -> FieldIdAllocator {
    FieldIdAllocator::after(after.unwrap_or_else(|| metadata.last_column_id()))
}

/// Rejects a new column whose id was used in the table before. Otherwise, values of the old column
/// would be read as values of the new column.
pub(crate) fn check_ids(
    metadata: &TableMetadata,
    fields: &[NestedFieldRef],
    existing: &StructType,
) -> Result<()> {
    let schema = iceberg_schema(fields.to_vec())?;
    let old = iceberg_schema(existing.fields().to_vec())?;
    let (new, existing) = (schema.field_id_to_name_map(), old.field_id_to_name_map());
    let mut added = new.keys().filter(|id| !existing.contains_key(id));
    let is_known =
        |id: &i32| metadata.schemas_iter().any(|schema| schema.field_by_id(*id).is_some());
    if added.any(is_known) {
        return Err(Error::TableChanged { what: "schema" });
    }
    Ok(())
}

/// Adds columns after the last column, with ids greater than `after`.
pub(crate) fn add_columns(
    metadata: &TableMetadata,
    builder: TableMetadataBuilder,
    columns: Vec<Field>,
    after: Option<i32>,
) -> Result<TableMetadataBuilder> {
    let current = metadata.current_schema();
    let normal = normalise_schema(&Schema::new(columns))?;
    for field in normal.fields() {
        let column = field.name().clone();
        if current.as_struct().fields().iter().any(|known| known.name == column) {
            return Err(Error::ColumnExists { column });
        }
        if !field.is_nullable() {
            let reason = "existing rows would have no value in a required column".to_owned();
            return Err(Error::InvalidColumn { column, reason });
        }
    }
    check_names(metadata, &normal)?;
    let added = new_ids(metadata, after).assign(normal.fields(), None)?;
    check_ids(metadata, &added, &StructType::new(Vec::new()))?;
    let mut fields: Vec<NestedFieldRef> = current.as_struct().fields().to_vec();
    fields.extend(added);
    check_partition_names(metadata.default_partition_spec(), &fields)?;
    builder.add_current_schema(iceberg_schema(fields)?).map_err(|error| rejected("changed", &error))
}

pub(crate) fn iceberg_schema(fields: Vec<NestedFieldRef>) -> Result<iceberg::spec::Schema> {
    let built = iceberg::spec::Schema::builder().with_fields(fields).build();
    built.map_err(|error| rejected("given its columns", &error))
}

/// Rejects a column with the name of a derived partition field, such as `ts_day`.
pub(crate) fn check_names(metadata: &TableMetadata, schema: &Schema) -> Result<()> {
    for spec in metadata.partition_specs_iter() {
        for field in spec.fields() {
            let derived = field.transform != iceberg::spec::Transform::Identity;
            if derived && schema.field_with_name(&field.name).is_ok() {
                let reason = "a partition field of the table has this name".to_owned();
                return Err(Error::InvalidColumn { column: field.name.clone(), reason });
            }
        }
    }
    Ok(())
}

/// Rejects a column with the name of another column's identity partition field. Readers that find
/// partition fields by name would read the wrong column, and Iceberg's readers reject such tables.
fn check_partition_names(
    spec: &iceberg::spec::PartitionSpec,
    columns: &[NestedFieldRef],
) -> Result<()> {
    let identity = |field: &&iceberg::spec::PartitionField| {
        field.transform == iceberg::spec::Transform::Identity
    };
    for field in spec.fields().iter().filter(identity) {
        let mut others = columns.iter().filter(|column| column.id != field.source_id);
        if others.any(|column| column.name == field.name) {
            let reason =
                "the table has a partition field of this name for another column".to_owned();
            return Err(Error::InvalidColumn { column: field.name.clone(), reason });
        }
    }
    Ok(())
}

/// Rejects metadata for which every later change of the table would fail.
pub fn check_table(metadata: &TableMetadata) -> Result<()> {
    let columns = metadata.current_schema().as_struct().fields();
    check_partition_names(metadata.default_partition_spec(), columns)?;
    check_version(metadata)
}

/// Rejects columns with reserved names, and columns that the format version does not support.
fn check_version(metadata: &TableMetadata) -> Result<()> {
    let schema = metadata.current_schema();
    let three = metadata.format_version() >= FormatVersion::V3;
    for field in schema.field_id_to_fields().values() {
        let defaults = field.initial_default.is_some() || field.write_default.is_some();
        let nanoseconds = matches!(
            *field.field_type,
            Type::Primitive(PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs)
        );
        let column = || schema.name_by_field_id(field.id).unwrap_or(&field.name).to_owned();
        let needs = |what| Err(Error::NeedsVersion3 { column: column(), what });
        if !three && defaults {
            return needs("a default requires");
        }
        if !three && nanoseconds {
            return needs("nanosecond precision requires");
        }
        if three && row_ids::NAMES.contains(&field.name.as_str()) {
            let reason = "the name is reserved in tables of format version 3";
            return Err(Error::InvalidColumn { column: column(), reason: reason.to_owned() });
        }
    }
    Ok(())
}

/// Checks that files written for one state of a table can be added to another state. Each written
/// column must exist with the same id, name and type. Each required column must have been written
/// or have a default.
pub(crate) fn check_staged(metadata: &TableMetadata, staged: &StagedFiles) -> Result<()> {
    if staged.table != metadata.uuid() {
        return Err(Error::TableChanged { what: "identity" });
    }
    let current = metadata.current_schema().as_struct();
    let written = staged.schema.as_struct();
    let same = written.fields().iter().all(|field| {
        current
            .field_by_id(field.id)
            .is_some_and(|known| known.name == field.name && known.field_type == field.field_type)
    });
    let complete = current.fields().iter().all(|known| match written.field_by_id(known.id) {
        Some(field) => field.required || !known.required,
        None => !known.required || known.initial_default.is_some(),
    });
    if !same || !complete {
        return Err(Error::TableChanged { what: "schema" });
    }
    let spec = metadata.default_partition_spec();
    if !Arc::ptr_eq(spec, &staged.spec) && !spec.is_compatible_with(&staged.spec) {
        return Err(Error::TableChanged { what: "partitioning" });
    }
    Ok(())
}

/// Checks that replacement files and delete files were written for the table's current format
/// version. Only version 3 has row ids, and only earlier versions have position delete files.
pub(crate) fn check_same_version(metadata: &TableMetadata, staged: &StagedFiles) -> Result<()> {
    if staged.is_empty() || staged.version == metadata.format_version() {
        return Ok(());
    }
    Err(Error::TableChanged { what: "format version" })
}

/// Converts an error that the `iceberg` crate is not expected to return.
pub(crate) fn rejected(doing: &'static str, error: &iceberg::Error) -> Error {
    Error::internal(doing, error)
}
