//! Changes of a table's columns, layout and properties, applied in order.
//!
//! A column name matches exactly, or else case-insensitively, at any level: `place.lat`,
//! `tags.element.name`, `counts.value.first`. A column keeps its field id, so existing files remain
//! valid.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use headwater_model::{PartitionField, nearest};
use iceberg::spec::{
    FormatVersion, ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, StructType,
    TableMetadata, TableMetadataBuilder, Type,
};

use super::evolve::{check_ids, check_names, new_ids, rejected, set_properties};
use super::layout::{AlteredColumns, Layout, PartName};
use crate::defaults::{default, has_write_default};
use crate::promotion::promote_defaults;
use crate::types::join;
use crate::types::schema::FieldIds;
use crate::{Error, Result, SortColumn, normalise_schema};

/// The path of a column, from the outermost name to the innermost.
pub type ColumnPath = Vec<String>;

/// A change of a table's metadata that affects no rows.
#[derive(Debug, Clone)]
pub enum Alteration {
    /// Adds a column, last or at `place`.
    AddColumn {
        /// The path of the struct to add it to; empty for a top-level column.
        within: ColumnPath,
        /// The name and type.
        column: Field,
        /// The position; last by default.
        place: Option<Place>,
        /// If true, an existing column of that name is not an error.
        if_not_exists: bool,
    },
    /// Drops a column that no partition spec uses.
    DropColumn {
        /// The column.
        column: ColumnPath,
        /// If true, a missing column is not an error.
        if_exists: bool,
    },
    /// Renames a column.
    RenameColumn {
        /// The column.
        column: ColumnPath,
        /// The new name.
        name: String,
    },
    /// Widens a column's type: int to long, float to double, or a decimal to more digits.
    WidenColumn {
        /// The column.
        column: ColumnPath,
        /// The new type; the field's name is ignored.
        data_type: Field,
    },
    /// A change of a column to optional.
    AllowNulls(ColumnPath),
    /// A change of a column to required. The table must have no nulls in it.
    RequireValues(ColumnPath),
    /// Sets or removes the write default of a column of a primitive type.
    SetDefault {
        /// The column.
        column: ColumnPath,
        /// The default, an array of one value.
        value: Option<ArrayRef>,
    },
    /// Sets or removes a column's comment.
    Comment {
        /// The column.
        column: ColumnPath,
        /// The comment.
        comment: Option<String>,
    },
    /// Moves a column within its level.
    MoveColumn {
        /// The column.
        column: ColumnPath,
        /// The new position.
        place: Place,
    },
    /// Adds a partition field for new rows.
    AddPart {
        /// The field.
        field: PartitionField,
        /// The field's name; derived from column and transform by default.
        name: Option<String>,
    },
    /// Drops a partition field for new rows.
    DropPart(PartName),
    /// Replaces a partition field for new rows.
    ReplacePart {
        /// The field to drop.
        old: PartName,
        /// The field to add.
        field: PartitionField,
        /// The new field's name.
        name: Option<String>,
    },
    /// Sets the sort order for new rows; unsorted if empty.
    SortBy(Vec<SortColumn>),
    /// Sets table properties, or removes those without a value. `format-version` upgrades the
    /// table's format.
    SetProperties(BTreeMap<String, Option<String>>),
}

/// A position among columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// After the named column.
    After(String),
}

/// The result of a list of alterations.
pub(crate) struct Altered {
    /// All columns, if they change.
    fields: Option<Vec<NestedFieldRef>>,
    /// The partition fields and sort order, if they change.
    layout: Option<Layout>,
    /// The new format version, if it changes.
    version: Option<FormatVersion>,
    properties: BTreeMap<String, Option<String>>,
    identifier: Vec<i32>,
}

impl Altered {
    /// Applies alterations to a copy of the columns and layout. New columns get ids after `after`.
    pub(crate) fn of(
        metadata: &TableMetadata,
        alterations: Vec<Alteration>,
        after: Option<i32>,
    ) -> Result<Self> {
        let schema = metadata.current_schema();
        let before = schema.as_struct().fields();
        let (ids, added) = (new_ids(metadata, after), Vec::new());
        let layout = Layout::of(metadata);
        let mut columns = Columns { metadata, fields: before.to_vec(), ids, added, layout };
        let mut properties = BTreeMap::new();
        for alteration in alterations {
            match alteration {
                Alteration::SetProperties(more) => properties.extend(more),
                other => columns.alter(other)?,
            }
        }
        let Columns { fields, added, layout, .. } = columns;
        check_ids(metadata, &added, &StructType::new(Vec::new()))?;
        layout.check_names(&fields)?;
        let version = upgrade(metadata, &mut properties)?;
        let known = metadata.properties();
        properties.retain(|key, value| known.get(key) != value.as_ref());
        let fields = (fields.as_slice() != before).then_some(fields);
        let layout = Some(layout).filter(|layout| !layout.is_of(metadata));
        let identifier = schema.identifier_field_ids().collect();
        Ok(Altered { fields, layout, version, properties, identifier })
    }

    /// Returns the ids of columns, nested ones included, that become required.
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

    /// Returns true if nothing changes.
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

/// The pseudo-property that selects the format version; it is not stored as a property.
pub(crate) const FORMAT_VERSION: &str = "format-version";

/// Removes the format version from properties; returns it if it changes.
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

/// Parses a format version that can be written.
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

/// A table's columns during alteration.
struct Columns<'a> {
    metadata: &'a TableMetadata,
    fields: Vec<NestedFieldRef>,
    ids: FieldIds,
    /// The added columns, to check their ids.
    added: Vec<NestedFieldRef>,
    layout: Layout,
}

/// An edit of the columns of one level.
type Change<'c> = &'c mut dyn FnMut(&mut Vec<NestedFieldRef>) -> Result<()>;

impl Columns<'_> {
    fn alter(&mut self, alteration: Alteration) -> Result<()> {
        match alteration {
            Alteration::AddColumn { within, column, place, if_not_exists } => {
                self.add(&within, &column, place.as_ref(), if_not_exists)
            }
            Alteration::DropColumn { column, if_exists } => self.remove(&column, if_exists),
            Alteration::RenameColumn { column, name } => self.rename(&column, &name),
            Alteration::WidenColumn { column, data_type } => self.widen(&column, &data_type),
            Alteration::AllowNulls(column) => self.allow_nulls(&column),
            Alteration::RequireValues(column) => self.require(&column),
            Alteration::SetDefault { column, value } => {
                let path = column.join(".");
                self.edit(&column, |field| {
                    field.write_default = match &value {
                        Some(value) => default(&path, value, &field.field_type)?,
                        None => None,
                    };
                    Ok(())
                })
            }
            Alteration::Comment { column, comment } => self.edit(&column, |field| {
                field.doc = comment.clone().filter(|text| !text.is_empty());
                Ok(())
            }),
            Alteration::MoveColumn { column, place } => self.move_column(&column, &place),
            Alteration::AddPart { field, name } => self.layout.add(
                &field,
                name.as_deref(),
                &AlteredColumns { fields: &self.fields, metadata: self.metadata },
            ),
            Alteration::DropPart(part) => self.layout.remove(&part, &self.fields).map(drop),
            Alteration::ReplacePart { old, field, name } => {
                let columns = AlteredColumns { fields: &self.fields, metadata: self.metadata };
                self.layout.replace(&old, &field, name.as_deref(), &columns)
            }
            Alteration::SortBy(columns) => self.layout.sort(&columns, &self.fields),
            Alteration::SetProperties(_) => Ok(()),
        }
    }

    fn allow_nulls(&mut self, column: &[String]) -> Result<()> {
        let schema = self.metadata.current_schema();
        self.edit(column, |field| {
            if schema.identifier_field_ids().any(|id| id == field.id) {
                let reason = "an identifier field must be required".to_owned();
                return Err(Error::InvalidColumn { column: column.join("."), reason });
            }
            field.required = false;
            Ok(())
        })
    }

    fn require(&mut self, column: &[String]) -> Result<()> {
        self.edit(column, |field| {
            field.required = true;
            Ok(())
        })
    }

    fn add(
        &mut self,
        within: &[String],
        column: &Field,
        place: Option<&Place>,
        if_not_exists: bool,
    ) -> Result<()> {
        let path = join(&within.join("."), column.name());
        let normal = normalise_schema(&Schema::new(vec![column.clone()]))?;
        if !column.is_nullable() && !has_write_default(column) {
            let reason = "existing rows would have no value for it".to_owned();
            return Err(Error::InvalidColumn { column: path, reason });
        }
        if within.is_empty() {
            check_names(self.metadata, &normal)?;
        }
        let mut new = self.ids.assign(normal.fields(), None)?;
        // Existing rows have the default as well.
        for field in new.iter_mut().filter(|field| field.write_default.is_some()) {
            let mut with_default = (**field).clone();
            with_default.initial_default.clone_from(&with_default.write_default);
            *field = with_default.into();
        }
        let mut inserted = Vec::new();
        self.at(within, &mut |fields| {
            let known = fields.iter().any(|known| same(&known.name, column.name()));
            if known && if_not_exists {
                return Ok(());
            }
            if known {
                return Err(Error::ColumnExists { column: path.clone() });
            }
            let at = match place {
                Some(place) => index_of(fields, place, within)?,
                None => fields.len(),
            };
            fields.splice(at..at, new.iter().cloned());
            inserted.clone_from(&new);
            Ok(())
        })?;
        self.added.extend(inserted);
        Ok(())
    }

    fn remove(&mut self, column: &[String], if_exists: bool) -> Result<()> {
        let metadata = self.metadata;
        let (within, name) = split(column)?;
        let Columns { fields, layout, .. } = self;
        descend(fields, within, within, &mut |fields| {
            let found = match find(fields, name, within) {
                Err(Error::ColumnNotFound { .. }) if if_exists => return Ok(()),
                found => found?,
            };
            check_unused(metadata, layout, &fields[found], &column.join("."))?;
            if fields.len() == 1 {
                return Err(Error::NoColumns);
            }
            fields.remove(found);
            Ok(())
        })
    }

    fn rename(&mut self, column: &[String], name: &str) -> Result<()> {
        let (within, old) = split(column)?;
        let new = Schema::new(vec![Field::new(name, arrow::datatypes::DataType::Int32, true)]);
        let normal = normalise_schema(&new)?;
        if within.is_empty() {
            check_names(self.metadata, &normal)?;
        }
        self.at(within, &mut |fields| {
            let found = find(fields, old, within)?;
            let mut others = fields.iter().enumerate().filter(|(other, _)| *other != found);
            if others.any(|(_, other)| same(&other.name, name)) {
                return Err(Error::ColumnExists { column: join(&within.join("."), name) });
            }
            let mut field = (*fields[found]).clone();
            name.clone_into(&mut field.name);
            fields[found] = field.into();
            Ok(())
        })
    }

    fn widen(&mut self, column: &[String], data_type: &Field) -> Result<()> {
        let normal = normalise_schema(&Schema::new(vec![data_type.clone()]))?;
        let new = FieldIds::after(0).assign(normal.fields(), None)?;
        let Some(new) = new.first() else { return Err(Error::NoColumns) };
        let (within, name) = split(column)?;
        let (metadata, Columns { fields, layout, .. }) = (self.metadata, self);
        edit(fields, within, name, |field| {
            if field.field_type == new.field_type {
                return Ok(());
            }
            let path = column.join(".");
            if !is_promotion(&field.field_type, &new.field_type) {
                let reason = format!(
                    "its type `{}` cannot become `{}`: an int may become a long, a float a double, \
                     and a decimal may have more digits before the point",
                    field.field_type, new.field_type
                );
                return Err(Error::InvalidColumn { column: path, reason });
            }
            check_unpartitioned(metadata, layout, &ids_of(field), &path)?;
            field.field_type.clone_from(&new.field_type);
            promote_defaults(field);
            Ok(())
        })
    }

    fn move_column(&mut self, column: &[String], place: &Place) -> Result<()> {
        let (within, name) = split(column)?;
        self.at(within, &mut |fields| {
            let found = find(fields, name, within)?;
            let field = fields.remove(found);
            let at = index_of(fields, place, within)?;
            fields.insert(at, field);
            Ok(())
        })
    }

    /// Edits one column.
    fn edit(
        &mut self,
        column: &[String],
        change: impl FnMut(&mut NestedField) -> Result<()>,
    ) -> Result<()> {
        let (within, name) = split(column)?;
        edit(&mut self.fields, within, name, change)
    }

    /// Edits the columns of one level.
    fn at(&mut self, within: &[String], change: Change<'_>) -> Result<()> {
        descend(&mut self.fields, within, within, change)
    }
}

/// Edits one column.
fn edit(
    fields: &mut Vec<NestedFieldRef>,
    within: &[String],
    name: &str,
    mut change: impl FnMut(&mut NestedField) -> Result<()>,
) -> Result<()> {
    descend(fields, within, within, &mut |fields| {
        let found = find(fields, name, within)?;
        let mut field = (*fields[found]).clone();
        change(&mut field)?;
        fields[found] = field.into();
        Ok(())
    })
}

/// Descends a path, of which `rest` remains, and edits the columns there.
fn descend(
    fields: &mut Vec<NestedFieldRef>,
    rest: &[String],
    path: &[String],
    change: Change<'_>,
) -> Result<()> {
    let Some((name, rest)) = rest.split_first() else { return change(fields) };
    let above = &path[..path.len() - rest.len() - 1];
    let found = find(fields, name, above)?;
    let mut field = (*fields[found]).clone();
    *field.field_type = within(&field.field_type, rest, path, change)?;
    fields[found] = field.into();
    Ok(())
}

/// Returns a type with the columns of one of its levels edited.
fn within(of: &Type, rest: &[String], path: &[String], change: Change<'_>) -> Result<Type> {
    let part = |field: &NestedFieldRef, rest: &[String], change: Change<'_>| {
        let mut part = (**field).clone();
        *part.field_type = within(&part.field_type, rest, path, change)?;
        Ok::<_, Error>(part.into())
    };
    match (of, rest) {
        (Type::Struct(parts), rest) => {
            let mut fields = parts.fields().to_vec();
            descend(&mut fields, rest, path, change)?;
            Ok(StructType::new(fields).into())
        }
        (Type::List(list), []) => {
            let [element] = edit_parts(of, path, [&list.element_field], change)?;
            Ok(ListType::new(element).into())
        }
        (Type::Map(map), []) => {
            let parts = [&map.key_field, &map.value_field];
            let [key, value] = edit_parts(of, path, parts, change)?;
            if key != map.key_field {
                let (column, reason) =
                    (join(&path.join("."), "key"), "a map's key cannot be changed");
                return Err(Error::InvalidColumn { column, reason: reason.to_owned() });
            }
            Ok(MapType::new(key, value).into())
        }
        (Type::List(list), [name, rest @ ..]) if same(name, "element") => {
            Ok(ListType::new(part(&list.element_field, rest, change)?).into())
        }
        (Type::Map(map), [name, rest @ ..]) if same(name, "value") => {
            let value = part(&map.value_field, rest, change)?;
            Ok(MapType::new(map.key_field.clone(), value).into())
        }
        (Type::List(_) | Type::Map(_), _) => {
            Err(invalid_part(of, &path[..path.len() - rest.len()]))
        }
        _ => {
            let column = path[..path.len() - rest.len()].join(".");
            let reason = format!("its type `{of}` has no nested columns to change");
            Err(Error::InvalidColumn { column, reason })
        }
    }
}

/// Edits the element of a list, or the key and the value of a map. Their names, number and order
/// are fixed, and they have no defaults.
fn edit_parts<const N: usize>(
    of: &Type,
    path: &[String],
    parts: [&NestedFieldRef; N],
    change: Change<'_>,
) -> Result<[NestedFieldRef; N]> {
    let mut fields = parts.map(Arc::clone).to_vec();
    match change(&mut fields) {
        // The change was to drop the only field or names a missing one.
        Err(Error::NoColumns | Error::ColumnNotFound { .. }) => return Err(invalid_part(of, path)),
        done => done?,
    }
    let kept = |(new, old): (&NestedFieldRef, &NestedFieldRef)| {
        (new.id, &new.name) == (old.id, &old.name) && new.write_default == old.write_default
    };
    let all = fields.len() == N && fields.iter().zip(parts).all(kept);
    let fields = all.then_some(fields).and_then(|fields| fields.try_into().ok());
    fields.ok_or_else(|| invalid_part(of, path))
}

/// Returns the error of an unsupported change in a list or map.
fn invalid_part(of: &Type, path: &[String]) -> Error {
    let (kind, parts) = match of {
        Type::List(_) => ("list", "one part, `element`"),
        _ => ("map", "two parts, `key` and `value`"),
    };
    let reason = format!(
        "a {kind} has {parts}: only its type, comment and nullability \
         can be changed"
    );
    Error::InvalidColumn { column: path.join("."), reason }
}

fn split(column: &[String]) -> Result<(&[String], &str)> {
    match column.split_last() {
        Some((name, within)) => Ok((within, name)),
        None => Err(Error::NoColumns),
    }
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Returns the index of a column: an exact match, or else the only case-insensitive one.
fn find(fields: &[NestedFieldRef], name: &str, within: &[String]) -> Result<usize> {
    let exact = fields.iter().position(|field| field.name == name);
    let mut similar = (0..fields.len()).filter(|index| same(&fields[*index].name, name));
    let alone = similar.next().filter(|_| similar.next().is_none());
    exact.or(alone).ok_or_else(|| Error::ColumnNotFound {
        column: join(&within.join("."), name),
        near: nearest(name, fields.iter().map(|field| field.name.as_str())),
    })
}

fn index_of(fields: &[NestedFieldRef], place: &Place, within: &[String]) -> Result<usize> {
    match place {
        Place::First => Ok(0),
        Place::After(name) => find(fields, name, within).map(|index| index + 1),
    }
}

/// Rejects dropping a column used by a partition spec, the sort order or the identifier fields.
fn check_unused(
    metadata: &TableMetadata,
    layout: &Layout,
    field: &NestedField,
    column: &str,
) -> Result<()> {
    let ids = ids_of(field);
    check_unpartitioned(metadata, layout, &ids, column)?;
    let mut identifier = metadata.current_schema().identifier_field_ids();
    let reason = if layout.sorts_by(&ids) {
        "the table is sorted by it"
    } else if identifier.any(|id| ids.contains(&id)) {
        "it is an identifier field"
    } else {
        return Ok(());
    };
    Err(Error::InvalidColumn { column: column.to_owned(), reason: reason.to_owned() })
}

/// Rejects changes of partition source columns: existing partition values would no longer match.
fn check_unpartitioned(
    metadata: &TableMetadata,
    layout: &Layout,
    ids: &HashSet<i32>,
    column: &str,
) -> Result<()> {
    let mut parts = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    if !parts.any(|part| ids.contains(&part.source_id)) && !layout.splits_by(ids) {
        return Ok(());
    }
    let reason = "the table is or was partitioned by it".to_owned();
    Err(Error::InvalidColumn { column: column.to_owned(), reason })
}

/// Returns the ids of a column and its nested columns.
fn ids_of(field: &NestedField) -> HashSet<i32> {
    let mut ids = HashSet::from([field.id]);
    each_part(&field.field_type, &mut |part| {
        ids.insert(part.id);
    });
    ids
}

/// Visits a column and its nested columns.
fn each(field: &NestedFieldRef, visit: &mut dyn FnMut(&NestedFieldRef)) {
    visit(field);
    each_part(&field.field_type, visit);
}

/// Visits the columns nested in a type.
fn each_part(of: &Type, visit: &mut dyn FnMut(&NestedFieldRef)) {
    match of {
        Type::Struct(parts) => parts.fields().iter().for_each(|part| each(part, visit)),
        Type::List(list) => each(&list.element_field, visit),
        Type::Map(map) => {
            each(&map.key_field, visit);
            each(&map.value_field, visit);
        }
        Type::Primitive(_) => {}
    }
}

/// Returns true if Iceberg allows the promotion of one type to the other.
fn is_promotion(from: &Type, to: &Type) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (from, to) {
        (Type::Primitive(from), Type::Primitive(to)) => match (from, to) {
            (Int, Long) | (Float, Double) => true,
            (Decimal { precision: from, scale: one }, Decimal { precision: to, scale: other }) => {
                from <= to && one == other
            }
            _ => false,
        },
        _ => false,
    }
}
