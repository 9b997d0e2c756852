//! Changes of the layout of new rows: partition fields and sort order. Existing files keep their
//! own partition spec.

use headwater_model::{PartitionField, nearest};
use iceberg::spec::{
    NestedFieldRef, NullOrder, SortDirection, SortField, SortOrder, TableMetadata,
    TableMetadataBuilder, Transform,
};

use super::create_and_evolve::rejected;
use crate::partition::{NewPartitionField, check_new, column_at, part_for, spec_of, transform_of};
use crate::{Error, Result, SortColumn};

/// A reference to an existing partition field.
#[derive(Debug, Clone)]
pub enum PartitionFieldRef {
    /// The name of the field, or, for a field with the identity transform, the name of its column.
    Name(String),
    /// The transform and column of the field.
    Field(PartitionField),
}

/// The partition fields and the sort order of a table while alterations are applied to them.
#[derive(Debug)]
pub(super) struct PartitionAndSortOrder {
    parts: Vec<NewPartitionField>,
    order: Vec<SortField>,
}

/// The columns of a table after its alterations, and the metadata of the table before the
/// alterations.
pub(super) struct AlteredColumns<'a> {
    pub(super) fields: &'a [NestedFieldRef],
    pub(super) metadata: &'a TableMetadata,
}

impl PartitionAndSortOrder {
    pub fn of(metadata: &TableMetadata) -> Self {
        let fields = metadata.default_partition_spec().fields().iter();
        // Tables of format version 1 keep a dropped partition field with the transform `void`.
        let fields = fields.filter(|field| field.transform != Transform::Void);
        let parts = fields.map(|field| NewPartitionField {
            source_id: field.source_id,
            name: field.name.clone(),
            transform: field.transform,
        });
        PartitionAndSortOrder {
            parts: parts.collect(),
            order: metadata.default_sort_order().fields.clone(),
        }
    }

    /// Appends a partition field.
    pub fn add(
        &mut self,
        field: &PartitionField,
        name: Option<&str>,
        columns: &AlteredColumns<'_>,
    ) -> Result<()> {
        let part = part_for(field, name, columns.fields, Some(columns.metadata))?;
        check_new(&part, &self.parts, field)?;
        self.parts.push(part);
        Ok(())
    }

    /// Removes a partition field and returns its index.
    pub fn remove(
        &mut self,
        part: &PartitionFieldRef,
        columns: &[NestedFieldRef],
    ) -> Result<usize> {
        let index = self.find(part, columns)?;
        self.parts.remove(index);
        Ok(index)
    }

    /// Replaces a partition field.
    pub fn replace(
        &mut self,
        old: &PartitionFieldRef,
        field: &PartitionField,
        name: Option<&str>,
        columns: &AlteredColumns<'_>,
    ) -> Result<()> {
        let index = self.remove(old, columns.fields)?;
        self.add(field, name, columns)?;
        let last = self.parts.len() - 1;
        self.parts[index..=last].rotate_right(1);
        Ok(())
    }

    fn find(&self, part: &PartitionFieldRef, columns: &[NestedFieldRef]) -> Result<usize> {
        let by_transform = |name: &str, transform: Transform| {
            let id = column_at(columns, name)?.1.id;
            self.parts.iter().position(|part| (part.source_id, part.transform) == (id, transform))
        };
        let by_name = |name: &str| {
            let exact = self.parts.iter().position(|part| part.name == name);
            exact.or_else(|| self.parts.iter().position(|part| same(&part.name, name)))
        };
        let (found, written) = match part {
            PartitionFieldRef::Name(name) => {
                (by_name(name).or_else(|| by_transform(name, Transform::Identity)), name.clone())
            }
            PartitionFieldRef::Field(field) => {
                (by_transform(&field.column, transform_of(field.transform)), field.to_string())
            }
        };
        found.ok_or_else(|| {
            let near = nearest(&written, self.parts.iter().map(|part| part.name.as_str()));
            Error::PartitionNotFound { field: written, near }
        })
    }

    /// Sets the sort order. If `by` is empty, the table becomes unsorted.
    pub fn sort(&mut self, by: &[SortColumn], columns: &[NestedFieldRef]) -> Result<()> {
        self.order.clear();
        for key in by {
            let exact = columns.iter().find(|column| column.name == key.name);
            let column = exact.or_else(|| columns.iter().find(|one| same(&one.name, &key.name)));
            let column = column.ok_or_else(|| Error::ColumnNotFound {
                column: key.name.clone(),
                near: nearest(&key.name, columns.iter().map(|column| column.name.as_str())),
            })?;
            let is_duplicate = self.order.iter().any(|known| known.source_id == column.id);
            if is_duplicate || !column.field_type.is_primitive() {
                let reason = if is_duplicate {
                    "the sort order contains the column twice"
                } else {
                    "sort columns must have primitive types"
                };
                let column = column.name.clone();
                return Err(Error::InvalidColumn { column, reason: reason.to_owned() });
            }
            self.order.push(SortField {
                source_id: column.id,
                transform: Transform::Identity,
                direction: if key.descending {
                    SortDirection::Descending
                } else {
                    SortDirection::Ascending
                },
                null_order: if key.nulls_first { NullOrder::First } else { NullOrder::Last },
            });
        }
        Ok(())
    }

    /// Rejects a column that has the name of a partition field, unless that field has the identity
    /// transform and this column as source.
    pub fn check_names(&self, columns: &[NestedFieldRef]) -> Result<()> {
        for part in &self.parts {
            let own = |column: &NestedFieldRef| {
                part.transform == Transform::Identity && column.id == part.source_id
            };
            if columns.iter().any(|column| column.name == part.name && !own(column)) {
                let reason = if part.transform == Transform::Identity {
                    "the table has a partition field of this name for another column"
                } else {
                    "a partition field of the table has this name"
                };
                let column = part.name.clone();
                return Err(Error::InvalidColumn { column, reason: reason.to_owned() });
            }
        }
        Ok(())
    }

    /// Returns true if new rows are partitioned by one of the columns.
    pub fn splits_by(&self, ids: &std::collections::HashSet<i32>) -> bool {
        self.parts.iter().any(|part| ids.contains(&part.source_id))
    }

    /// Returns true if new rows are sorted by one of the columns.
    pub fn sorts_by(&self, ids: &std::collections::HashSet<i32>) -> bool {
        self.order.iter().any(|key| ids.contains(&key.source_id))
    }

    pub fn is_of(&self, metadata: &TableMetadata) -> bool {
        let now = PartitionAndSortOrder::of(metadata);
        now.parts == self.parts && now.order == self.order
    }

    /// Adds the partition spec and the sort order to the builder, if they have changed.
    pub fn apply(
        self,
        metadata: &TableMetadata,
        mut builder: TableMetadataBuilder,
    ) -> Result<TableMetadataBuilder> {
        let now = PartitionAndSortOrder::of(metadata);
        if now.parts != self.parts {
            let spec = spec_of(&self.parts)?;
            let added = builder.add_default_partition_spec(spec);
            builder = added.map_err(|error| rejected("altered", &error))?;
        }
        if now.order == self.order {
            return Ok(builder);
        }
        set_order(builder, self.order)
    }
}

/// Sets the sort order of a table's metadata.
pub(super) fn set_order(
    builder: TableMetadataBuilder,
    fields: Vec<SortField>,
) -> Result<TableMetadataBuilder> {
    let order = SortOrder { order_id: i64::from(!fields.is_empty()), fields };
    let added = builder.add_sort_order(order);
    let added = added.and_then(|builder| builder.set_default_sort_order(-1));
    added.map_err(|error| rejected("altered", &error))
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}
