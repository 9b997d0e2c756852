//! Changes of a table's columns, layout and properties, applied in order.
//!
//! At each level of a path, the column with exactly this name is selected, or else the column whose
//! name differs only in case: `place.lat`, `tags.element.name`, `counts.value.first`. A column
//! keeps its field id, so existing files remain valid.

use std::collections::{BTreeMap, HashSet};

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use headwater_model::PartitionField;
use iceberg::spec::{
    FormatVersion, NestedFieldRef, StructType, TableMetadata, TableMetadataBuilder,
};

use super::column_editor::{ColumnEditor, each};
use super::create_and_evolve::{check_ids, new_ids, rejected, set_properties};
use super::partition_and_sort_order::{PartitionAndSortOrder, PartitionFieldRef};
use crate::{Error, Result, SortColumn};

/// The path of a column, from the outermost name to the innermost.
pub type ColumnPath = Vec<String>;

/// A change of a table's metadata that affects no rows.
#[derive(Debug, Clone)]
pub enum Alteration {
    /// Adds a column as the last column, or at `place`.
    AddColumn {
        /// The path of the parent struct; empty for a top-level column.
        within: ColumnPath,
        /// The name and type of the new column.
        column: Field,
        /// Position of the new column; `None` to add it as the last column.
        place: Option<ColumnPosition>,
        /// True to do nothing if a column with this name exists, false to fail.
        if_not_exists: bool,
    },
    /// Drops a column. Fails if a partition spec uses it.
    DropColumn {
        /// The column to drop.
        column: ColumnPath,
        /// True to do nothing if the column does not exist, false to fail.
        if_exists: bool,
    },
    /// Renames a column.
    RenameColumn {
        /// The column to rename.
        column: ColumnPath,
        /// The new name.
        name: String,
    },
    /// Widens a column's type: int to long, float to double, or a decimal to more digits.
    WidenColumn {
        /// The column to widen.
        column: ColumnPath,
        /// The new type. The name of this field is ignored.
        data_type: Field,
    },
    /// Makes a column optional.
    AllowNulls(ColumnPath),
    /// Makes a column required. Fails if the column contains nulls.
    RequireValues(ColumnPath),
    /// Sets or removes the default of a column of a primitive type. New rows without a value for
    /// the column get this default.
    SetDefault {
        /// The column whose default changes.
        column: ColumnPath,
        /// The default as an array of one value; `None` removes it.
        value: Option<ArrayRef>,
    },
    /// Sets or removes a column's comment.
    Comment {
        /// The column to comment on.
        column: ColumnPath,
        /// The comment; `None` removes it.
        comment: Option<String>,
    },
    /// Moves a column within its level.
    MoveColumn {
        /// The column to move.
        column: ColumnPath,
        /// The new position within its level.
        place: ColumnPosition,
    },
    /// Adds a partition field to the spec that new rows use.
    AddPart {
        /// The partition field to add.
        field: PartitionField,
        /// The field's name; by default it is derived from the column and the transform.
        name: Option<String>,
    },
    /// Drops a partition field from the spec that new rows use.
    DropPart(PartitionFieldRef),
    /// Replaces a partition field in the spec that new rows use.
    ReplacePart {
        /// The field to drop.
        old: PartitionFieldRef,
        /// The field to add.
        field: PartitionField,
        /// The new field's name; by default it is derived from the column and the transform.
        name: Option<String>,
    },
    /// Sets the sort order in which new rows are written; if empty, new rows are not sorted.
    SortBy(Vec<SortColumn>),
    /// Sets the identifier fields: the columns that identify a row. These columns become required.
    /// No check ensures that their values are unique. An empty list removes the identifier fields.
    Identify(Vec<String>),
    /// Sets table properties, or removes properties without a value. `format-version` upgrades the
    /// table's format.
    SetProperties(BTreeMap<String, Option<String>>),
}

/// A position among columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnPosition {
    /// Before all other columns of the level.
    First,
    /// After the named column.
    After(String),
}

/// The metadata that a list of alterations results in.
pub(crate) struct AlteredMetadata {
    /// All columns; `None` if they do not change.
    fields: Option<Vec<NestedFieldRef>>,
    /// The partition fields and sort order; `None` if they do not change.
    layout: Option<PartitionAndSortOrder>,
    /// The new format version; `None` if it does not change.
    version: Option<FormatVersion>,
    properties: BTreeMap<String, Option<String>>,
    identifier: Vec<i32>,
}

impl AlteredMetadata {
    /// Applies alterations to a copy of the columns and layout. The field ids of new columns are
    /// greater than `after`.
    pub(crate) fn of(
        metadata: &TableMetadata,
        alterations: Vec<Alteration>,
        after: Option<i32>,
    ) -> Result<Self> {
        let schema = metadata.current_schema();
        let before = schema.as_struct().fields();
        let (ids, added) = (new_ids(metadata, after), Vec::new());
        let layout = PartitionAndSortOrder::of(metadata);
        let mut columns = ColumnEditor { metadata, fields: before.to_vec(), ids, added, layout };
        let mut properties = BTreeMap::new();
        let mut identifier: Vec<i32> = schema.identifier_field_ids().collect();
        for alteration in alterations {
            match alteration {
                Alteration::SetProperties(more) => properties.extend(more),
                Alteration::Identify(names) => identifier = columns.identify(&names)?,
                other => columns.alter(other)?,
            }
        }
        let ColumnEditor { fields, added, layout, .. } = columns;
        check_ids(metadata, &added, &StructType::new(Vec::new()))?;
        layout.check_names(&fields)?;
        let version = upgrade(metadata, &mut properties)?;
        let known = metadata.properties();
        properties.retain(|key, value| known.get(key) != value.as_ref());
        let is_identified_before = {
            let known: HashSet<i32> = schema.identifier_field_ids().collect();
            known == identifier.iter().copied().collect()
        };
        let fields = (fields.as_slice() != before || !is_identified_before).then_some(fields);
        let layout = Some(layout).filter(|layout| !layout.is_of(metadata));
        Ok(AlteredMetadata { fields, layout, version, properties, identifier })
    }

    /// Returns the ids of columns, including nested columns, that change from optional to required.
    pub(crate) fn columns_to_require(&self, metadata: &TableMetadata) -> Vec<i32> {
        let schema = metadata.current_schema();
        let mut found = Vec::new();
        let mut look = |field: &NestedFieldRef| {
            let lenient = schema.field_by_id(field.id).is_some_and(|before| !before.required);
            if field.required && lenient {
                found.push(field.id);
            }
        };
        self.fields.iter().flatten().for_each(|field| each(field, &mut look));
        found
    }

    /// Returns true if the alterations change nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.fields.is_none()
            && self.layout.is_none()
            && self.version.is_none()
            && self.properties.is_empty()
    }

    /// Applies the changes to the builder.
    pub(crate) fn apply(
        self,
        metadata: &TableMetadata,
        builder: TableMetadataBuilder,
    ) -> Result<TableMetadataBuilder> {
        let mut builder = change_properties(builder, self.properties)?;
        if let Some(version) = self.version {
            let upgraded = builder.upgrade_format_version(version);
            builder = upgraded.map_err(|error| rejected("upgraded", &error))?;
        }
        if let Some(fields) = self.fields {
            let schema = iceberg::spec::Schema::builder()
                .with_fields(fields)
                .with_identifier_field_ids(self.identifier);
            let built = schema.build().and_then(|schema| builder.add_current_schema(schema));
            builder = built.map_err(|error| rejected("altered", &error))?;
        }
        match self.layout {
            Some(layout) => layout.apply(metadata, builder),
            None => Ok(builder),
        }
    }
}

/// The name under which a statement sets the format version. It is not stored as a property.
pub(crate) const FORMAT_VERSION: &str = "format-version";

/// Removes the format version from properties. Returns it if it differs from the table's version.
fn upgrade(
    metadata: &TableMetadata,
    properties: &mut BTreeMap<String, Option<String>>,
) -> Result<Option<FormatVersion>> {
    let Some(requested) = properties.remove(FORMAT_VERSION) else { return Ok(None) };
    let now = metadata.format_version();
    let version = version_of(requested.as_deref().unwrap_or_default())?;
    if version < now {
        let reason = format!("format version {now} cannot be downgraded to {version}");
        return Err(Error::InvalidProperty { keys: FORMAT_VERSION.to_owned(), reason });
    }
    Ok((version > now).then_some(version))
}

/// Removes the format version from a new table's properties.
pub(crate) fn take_format_version(
    properties: &mut BTreeMap<String, String>,
) -> Result<FormatVersion> {
    let requested = properties.remove(FORMAT_VERSION);
    requested.map_or(Ok(FormatVersion::V2), |text| version_of(&text))
}

/// Parses a format version. Fails if Headwater cannot write this version.
fn version_of(text: &str) -> Result<FormatVersion> {
    match text {
        "2" => Ok(FormatVersion::V2),
        "3" => Ok(FormatVersion::V3),
        _ => {
            let reason = format!("format version `{text}` is not supported; use 2 or 3");
            Err(Error::InvalidProperty { keys: FORMAT_VERSION.to_owned(), reason })
        }
    }
}

fn change_properties(
    builder: TableMetadataBuilder,
    properties: BTreeMap<String, Option<String>>,
) -> Result<TableMetadataBuilder> {
    let (set, removed): (Vec<_>, Vec<_>) =
        properties.into_iter().partition(|(_, value)| value.is_some());
    let set = set.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let builder = set_properties(builder, set.collect())?;
    let removed: Vec<String> = removed.into_iter().map(|(key, _)| key).collect();
    let keys = removed.join("`, `");
    let done = builder.remove_properties(&removed);
    done.map_err(|error| Error::InvalidProperty { keys, reason: error.message().to_owned() })
}
