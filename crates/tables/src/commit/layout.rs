//! Changes of how rows are laid out that are written from now on: partition fields, and the order of
//! rows in files. What is written already stays as it is, each file by the spec that it was written by.

use headwater_model::{PartitionField, nearest};
use iceberg::spec::{
    NestedFieldRef, NullOrder, SortDirection, SortField, SortOrder, TableMetadata,
    TableMetadataBuilder, Transform,
};

use super::evolve::refused;
use crate::partition::{Part, check_new, column_at, part_for, spec_of, transform_of};
use crate::{Error, Result, SortColumn};

/// A partition field that is there, as a statement knows it.
#[derive(Debug, Clone)]
pub enum PartName {
    /// By its name, or by that of the column whose values it holds as they are.
    Name(String),
    /// By what it says.
    Field(PartitionField),
}

/// The layout of a table while it is changed.
#[derive(Debug)]
pub(super) struct Layout {
    parts: Vec<Part>,
    order: Vec<SortField>,
}

impl Layout {
    pub fn of(metadata: &TableMetadata) -> Self {
        let fields = metadata.default_partition_spec().fields().iter();
        // What version 1 keeps in place of a field that was dropped.
        let fields = fields.filter(|field| field.transform != Transform::Void);
        let parts = fields.map(|field| Part {
            source_id: field.source_id,
            name: field.name.clone(),
            transform: field.transform,
        });
        Layout { parts: parts.collect(), order: metadata.default_sort_order().fields.clone() }
    }

    /// Adds a partition field after the last.
    pub fn add(
        &mut self,
        field: &PartitionField,
        name: Option<&str>,
        (columns, metadata): (&[NestedFieldRef], &TableMetadata),
    ) -> Result<()> {
        let part = part_for(field, name, columns, Some(metadata))?;
        check_new(&part, &self.parts, field)?;
        self.parts.push(part);
        Ok(())
    }

    /// Removes a partition field, and gives its place.
    pub fn remove(&mut self, part: &PartName, columns: &[NestedFieldRef]) -> Result<usize> {
        let place = self.find(part, columns)?;
        self.parts.remove(place);
        Ok(place)
    }

    /// Puts a partition field in place of another.
    pub fn replace(
        &mut self,
        old: &PartName,
        field: &PartitionField,
        name: Option<&str>,
        (columns, metadata): (&[NestedFieldRef], &TableMetadata),
    ) -> Result<()> {
        let place = self.remove(old, columns)?;
        self.add(field, name, (columns, metadata))?;
        let last = self.parts.len() - 1;
        self.parts[place..=last].rotate_right(1);
        Ok(())
    }

    fn find(&self, part: &PartName, columns: &[NestedFieldRef]) -> Result<usize> {
        let says = |name: &str, transform: Transform| {
            let id = column_at(columns, name)?.1.id;
            self.parts.iter().position(|part| (part.source_id, part.transform) == (id, transform))
        };
        let named = |name: &str| {
            let exact = self.parts.iter().position(|part| part.name == name);
            exact.or_else(|| self.parts.iter().position(|part| same(&part.name, name)))
        };
        let (found, written) = match part {
            PartName::Name(name) => {
                (named(name).or_else(|| says(name, Transform::Identity)), name.clone())
            }
            PartName::Field(field) => {
                (says(&field.column, transform_of(field.transform)), field.to_string())
            }
        };
        found.ok_or_else(|| {
            let near = nearest(&written, self.parts.iter().map(|part| part.name.as_str()));
            Error::PartitionNotFound { field: written, near }
        })
    }

    /// Orders rows by columns of the table itself; by none, where there are none.
    pub fn sort(&mut self, by: &[SortColumn], columns: &[NestedFieldRef]) -> Result<()> {
        self.order.clear();
        for key in by {
            let exact = columns.iter().find(|column| column.name == key.name);
            let column = exact.or_else(|| columns.iter().find(|one| same(&one.name, &key.name)));
            let column = column.ok_or_else(|| Error::ColumnNotFound {
                column: key.name.clone(),
                near: nearest(&key.name, columns.iter().map(|column| column.name.as_str())),
            })?;
            let twice = self.order.iter().any(|known| known.source_id == column.id);
            if twice || !column.field_type.is_primitive() {
                let reason = if twice {
                    "the table would be sorted by it twice"
                } else {
                    "a table is sorted by columns without columns in them"
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

    /// Refuses columns under the name of a partition field that holds something else.
    pub fn check_names(&self, columns: &[NestedFieldRef]) -> Result<()> {
        for part in &self.parts {
            let own = |column: &NestedFieldRef| {
                part.transform == Transform::Identity && column.id == part.source_id
            };
            if columns.iter().any(|column| column.name == part.name && !own(column)) {
                let reason = if part.transform == Transform::Identity {
                    "the table is partitioned by another column under that name"
                } else {
                    "a partition field of the table has that name"
                };
                let column = part.name.clone();
                return Err(Error::InvalidColumn { column, reason: reason.to_owned() });
            }
        }
        Ok(())
    }

    /// Whether rows that are written now are partitioned by a column.
    pub fn splits_by(&self, ids: &std::collections::HashSet<i32>) -> bool {
        self.parts.iter().any(|part| ids.contains(&part.source_id))
    }

    /// Whether rows that are written now are put in order by a column.
    pub fn sorts_by(&self, ids: &std::collections::HashSet<i32>) -> bool {
        self.order.iter().any(|key| ids.contains(&key.source_id))
    }

    pub fn is_of(&self, metadata: &TableMetadata) -> bool {
        let now = Layout::of(metadata);
        now.parts == self.parts && now.order == self.order
    }

    /// The builder with this layout, where it has another.
    pub fn apply(
        self,
        metadata: &TableMetadata,
        mut builder: TableMetadataBuilder,
    ) -> Result<TableMetadataBuilder> {
        let now = Layout::of(metadata);
        if now.parts != self.parts {
            let spec = spec_of(&self.parts)?;
            let added = builder.add_default_partition_spec(spec);
            builder = added.map_err(|error| refused("altered", &error))?;
        }
        if now.order == self.order {
            return Ok(builder);
        }
        set_order(builder, self.order)
    }
}

/// The builder with these columns to sort by.
pub(super) fn set_order(
    builder: TableMetadataBuilder,
    fields: Vec<SortField>,
) -> Result<TableMetadataBuilder> {
    let order = SortOrder { order_id: i64::from(!fields.is_empty()), fields };
    let added = builder.add_sort_order(order);
    let added = added.and_then(|builder| builder.set_default_sort_order(-1));
    added.map_err(|error| refused("altered", &error))
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}
