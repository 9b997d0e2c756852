//! Changes of columns at any level, in the order of a table's alterations.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use headwater_model::nearest;
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, StructType, TableMetadata, Type,
};

use super::alter::{Alteration, ColumnPosition};
use super::create_and_evolve::check_names;
use super::partition_and_sort_order::{AlteredColumns, PartitionAndSortOrder};
use crate::column_defaults::{default, has_write_default};
use crate::type_promotion::promote_defaults;
use crate::types::join;
use crate::types::schema::FieldIdAllocator;
use crate::{Error, Result, normalise_schema};

/// The columns of a table while alterations are applied to them.
pub(super) struct ColumnEditor<'a> {
    pub(super) metadata: &'a TableMetadata,
    pub(super) fields: Vec<NestedFieldRef>,
    pub(super) ids: FieldIdAllocator,
    /// The columns that were added so far. Their ids are checked at the end.
    pub(super) added: Vec<NestedFieldRef>,
    pub(super) layout: PartitionAndSortOrder,
}

/// A change of the columns at one level: the top-level columns, or the fields of one struct.
type Change<'c> = &'c mut dyn FnMut(&mut Vec<NestedFieldRef>) -> Result<()>;

impl ColumnEditor<'_> {
    /// Applies an alteration.
    pub(super) fn alter(&mut self, alteration: Alteration) -> Result<()> {
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
            Alteration::SetProperties(_) | Alteration::Identify(_) => Ok(()),
        }
    }

    fn allow_nulls(&mut self, column: &[String]) -> Result<()> {
        let schema = self.metadata.current_schema();
        self.edit(column, |field| {
            if schema.identifier_field_ids().any(|id| id == field.id) {
                let reason = "it identifies rows, so it must not contain nulls".to_owned();
                return Err(Error::InvalidColumn { column: column.join("."), reason });
            }
            field.required = false;
            Ok(())
        })
    }

    /// Makes columns of the table required, so that they can identify rows. Returns their ids.
    pub(super) fn identify(&mut self, names: &[String]) -> Result<Vec<i32>> {
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            self.edit(std::slice::from_ref(name), |field| {
                let reason = match &*field.field_type {
                    Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => {
                        "a floating-point column cannot identify rows"
                    }
                    Type::Primitive(_) => {
                        field.required = true;
                        ids.push(field.id);
                        return Ok(());
                    }
                    _ => "a nested column cannot identify rows",
                };
                Err(Error::InvalidColumn { column: name.clone(), reason: reason.to_owned() })
            })?;
        }
        Ok(ids)
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
        place: Option<&ColumnPosition>,
        if_not_exists: bool,
    ) -> Result<()> {
        let path = join(&within.join("."), column.name());
        let normal = normalise_schema(&Schema::new(vec![column.clone()]))?;
        if !column.is_nullable() && !has_write_default(column) {
            let reason = "existing rows would have no value in a required column".to_owned();
            return Err(Error::InvalidColumn { column: path, reason });
        }
        if within.is_empty() {
            check_names(self.metadata, &normal)?;
        }
        let mut new = self.ids.assign(normal.fields(), None)?;
        // Existing rows also get the default of the new column.
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
        let ColumnEditor { fields, layout, .. } = self;
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
        let new = FieldIdAllocator::after(0).assign(normal.fields(), None)?;
        let Some(new) = new.first() else { return Err(Error::NoColumns) };
        let (within, name) = split(column)?;
        let (metadata, ColumnEditor { fields, layout, .. }) = (self.metadata, self);
        edit(fields, within, name, |field| {
            if field.field_type == new.field_type {
                return Ok(());
            }
            let path = column.join(".");
            if !is_promotion(&field.field_type, &new.field_type) {
                let reason = format!(
                    "type `{}` cannot become `{}`: an int may become a long, a float a double, \
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

    fn move_column(&mut self, column: &[String], place: &ColumnPosition) -> Result<()> {
        let (within, name) = split(column)?;
        self.at(within, &mut |fields| {
            let found = find(fields, name, within)?;
            let field = fields.remove(found);
            let at = index_of(fields, place, within)?;
            fields.insert(at, field);
            Ok(())
        })
    }

    /// Calls `change` for one column of the table.
    fn edit(
        &mut self,
        column: &[String],
        change: impl FnMut(&mut NestedField) -> Result<()>,
    ) -> Result<()> {
        let (within, name) = split(column)?;
        edit(&mut self.fields, within, name, change)
    }

    /// Calls `change` for the columns of one level.
    fn at(&mut self, within: &[String], change: Change<'_>) -> Result<()> {
        descend(&mut self.fields, within, within, change)
    }
}

/// Calls `change` for one of the columns of a level.
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

/// Follows `rest`, the end of `path`, from the level `fields`, and calls `change` at its end.
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

/// Returns the type `of`, changed by `change` at the level to which the path `rest` leads.
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
                    (join(&path.join("."), "key"), "only a map's value can be changed");
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
            let reason = format!("the type `{of}` has no nested columns to change");
            Err(Error::InvalidColumn { column, reason })
        }
    }
}

/// Changes the element of a list, or the key and value of a map. Rejects a change of their names or
/// order, and a default.
fn edit_parts<const N: usize>(
    of: &Type,
    path: &[String],
    parts: [&NestedFieldRef; N],
    change: Change<'_>,
) -> Result<[NestedFieldRef; N]> {
    let mut fields = parts.map(Arc::clone).to_vec();
    match change(&mut fields) {
        // The change drops the only field, or refers to a field that does not exist.
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

/// Returns the index of a column. If no column has exactly this name, the only column whose name
/// differs just in case is selected.
fn find(fields: &[NestedFieldRef], name: &str, within: &[String]) -> Result<usize> {
    let exact = fields.iter().position(|field| field.name == name);
    let mut similar = (0..fields.len()).filter(|index| same(&fields[*index].name, name));
    let alone = similar.next().filter(|_| similar.next().is_none());
    exact.or(alone).ok_or_else(|| Error::ColumnNotFound {
        column: join(&within.join("."), name),
        near: nearest(name, fields.iter().map(|field| field.name.as_str())),
    })
}

fn index_of(fields: &[NestedFieldRef], place: &ColumnPosition, within: &[String]) -> Result<usize> {
    match place {
        ColumnPosition::First => Ok(0),
        ColumnPosition::After(name) => find(fields, name, within).map(|index| index + 1),
    }
}

/// Rejects dropping a column that a partition spec, the sort order or the identifier fields use.
fn check_unused(
    metadata: &TableMetadata,
    layout: &PartitionAndSortOrder,
    field: &NestedField,
    column: &str,
) -> Result<()> {
    let ids = ids_of(field);
    check_unpartitioned(metadata, layout, &ids, column)?;
    let mut identifier = metadata.current_schema().identifier_field_ids();
    let reason = if layout.sorts_by(&ids) {
        "the table is sorted by this column"
    } else if identifier.any(|id| ids.contains(&id)) {
        "the column is an identifier field"
    } else {
        return Ok(());
    };
    Err(Error::InvalidColumn { column: column.to_owned(), reason: reason.to_owned() })
}

/// Rejects a change of a column that a partition field uses, because existing partition values
/// would then be wrong.
fn check_unpartitioned(
    metadata: &TableMetadata,
    layout: &PartitionAndSortOrder,
    ids: &HashSet<i32>,
    column: &str,
) -> Result<()> {
    let mut parts = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    if !parts.any(|part| ids.contains(&part.source_id)) && !layout.splits_by(ids) {
        return Ok(());
    }
    let reason = "the table is or was partitioned by this column".to_owned();
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
pub(super) fn each(field: &NestedFieldRef, visit: &mut dyn FnMut(&NestedFieldRef)) {
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
