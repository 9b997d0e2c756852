//! Matches the columns of two states of a table, and finds their differences.
//!
//! Columns are matched by field id, so a column that was renamed still matches. Columns are matched
//! by name if two branches assigned the same id to different columns, or if the table was recreated
//! with new ids.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use headwater_model::{ColumnDiff, PropertyDiff};
use headwater_tables::{COMMENT, FIELD_ID, INITIAL_DEFAULT, WRITE_DEFAULT, field_type_name};

use super::DiffSide;

/// For one column of the second side: the matching column of the first side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnMatch {
    /// The index of the matching column on the first side; `None` if no column matches.
    pub before: Option<usize>,
    /// True if the columns match by field id. Both sides then read the same values from a shared
    /// data file.
    pub by_id: bool,
}

/// Matches each column of the second side with a column of the first side.
pub(super) fn same_columns(before: &DiffSide, after: &DiffSide) -> Vec<ColumnMatch> {
    let sides = DiffSides { before: Some(before), after: Some(after) };
    sides.match_columns(before.schema().fields(), after.schema().fields())
}

/// Returns the differences of all columns: first the columns of the second side, in their order,
/// then the removed columns.
pub(super) fn diff_columns(before: Option<&DiffSide>, after: Option<&DiffSide>) -> Vec<ColumnDiff> {
    let none = Arc::new(Schema::empty());
    let schema =
        |side: Option<&DiffSide>| side.map_or_else(|| none.clone(), |s| s.schema().clone());
    let mut found = Vec::new();
    let (first, second) = (schema(before), schema(after));
    DiffSides { before, after }.diff(first.fields(), second.fields(), "", &mut found);
    found
}

/// Returns the differences of all columns, matched by name only.
pub(super) fn diff_by_name(before: &Schema, after: &Schema) -> Vec<ColumnDiff> {
    let mut found = Vec::new();
    let sides = DiffSides { before: None, after: None };
    sides.diff(before.fields(), after.fields(), "", &mut found);
    found
}

struct DiffSides<'a> {
    before: Option<&'a DiffSide>,
    after: Option<&'a DiffSide>,
}

impl DiffSides<'_> {
    fn match_columns(&self, before: &Fields, after: &Fields) -> Vec<ColumnMatch> {
        let by_id: Vec<Option<usize>> = after
            .iter()
            .map(|field| before.iter().position(|other| self.is_renamed_or_same(other, field)))
            .collect();
        let by_name = |field: &FieldRef| {
            let named = before.iter().position(|other| other.name() == field.name());
            named.filter(|index| !by_id.contains(&Some(*index)))
        };
        let pairs = after.iter().zip(&by_id).map(|(field, found)| match found {
            Some(index) => ColumnMatch { before: Some(*index), by_id: true },
            None => ColumnMatch { before: by_name(field), by_id: false },
        });
        pairs.collect()
    }

    /// Returns true if two fields are the same column, possibly renamed. This is the case if they
    /// have the same id and name, or if one side has, in any of its schemas, the other side's name
    /// for this id.
    fn is_renamed_or_same(&self, before: &Field, after: &Field) -> bool {
        let (Some(one), Some(other)) = (self.before, self.after) else { return false };
        let id = |field: &Field| field.metadata().get(FIELD_ID)?.parse::<i32>().ok();
        let (Some(id), true) = (id(before), id(before) == id(after)) else { return false };
        one.table.id() == other.table.id()
            && (before.name() == after.name()
                || other.table.has_called(id, before.name())
                || one.table.has_called(id, after.name()))
    }

    fn diff(&self, before: &Fields, after: &Fields, within: &str, found: &mut Vec<ColumnDiff>) {
        let pairs = self.match_columns(before, after);
        for (field, pair) in after.iter().zip(&pairs) {
            let path = format!("{within}{}", field.name());
            match pair.before.map(|index| &before[index]) {
                Some(other) => self.diff_field(other, field, path, found),
                None => found.push(ColumnDiff {
                    column: path,
                    after: Some(field_type_name(field)),
                    ..ColumnDiff::default()
                }),
            }
        }
        let removed = before
            .iter()
            .enumerate()
            .filter(|(index, _)| pairs.iter().all(|pair| pair.before != Some(*index)));
        found.extend(removed.map(|(_, field)| ColumnDiff {
            column: format!("{within}{}", field.name()),
            before: Some(field_type_name(field)),
            ..ColumnDiff::default()
        }));
    }

    fn diff_field(
        &self,
        before: &FieldRef,
        after: &FieldRef,
        path: String,
        found: &mut Vec<ColumnDiff>,
    ) {
        let nested_fields =
            nested_fields(before).zip(nested_fields(after)).filter(|_| is_same_kind(before, after));
        let types = (field_type_name(before), field_type_name(after));
        let diff = ColumnDiff {
            renamed_from: (before.name() != after.name()).then(|| before.name().clone()),
            changes: changes(before, after),
            column: path.clone(),
            before: Some(types.0),
            after: Some(types.1),
        };
        // A difference in nested fields is reported for these fields, not for their parent.
        let retyped = nested_fields.is_none() && diff.before != diff.after;
        if retyped || diff.renamed_from.is_some() || !diff.changes.is_empty() {
            found.push(diff);
        }
        if let Some((before, after)) = nested_fields {
            self.diff(&before, &after, &format!("{path}."), found);
        }
    }
}

/// Returns the fields nested in a field; `None` if the field has a primitive type.
fn nested_fields(field: &Field) -> Option<Fields> {
    match field.data_type() {
        DataType::Struct(fields) => Some(fields.clone()),
        DataType::List(element) => Some(Fields::from(vec![Arc::clone(element)])),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => Some(pair.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn is_same_kind(one: &Field, other: &Field) -> bool {
    std::mem::discriminant(one.data_type()) == std::mem::discriminant(other.data_type())
}

/// Returns the differences between two fields, except differences of name and type.
fn changes(before: &Field, after: &Field) -> Vec<PropertyDiff> {
    let nullable = |field: &Field| Some(if field.is_nullable() { "yes" } else { "no" }.to_owned());
    let metadata = |field: &Field, key: &str| field.metadata().get(key).cloned();
    let all = [
        ("nullable", nullable(before), nullable(after)),
        ("comment", metadata(before, COMMENT), metadata(after, COMMENT)),
        ("default", metadata(before, WRITE_DEFAULT), metadata(after, WRITE_DEFAULT)),
        ("initial-default", metadata(before, INITIAL_DEFAULT), metadata(after, INITIAL_DEFAULT)),
    ];
    let differ = all.into_iter().filter(|(_, before, after)| before != after);
    let diff = |(key, before, after): (&str, _, _)| {
        let key = key.to_owned();
        PropertyDiff { key, before, after }
    };
    differ.map(diff).collect()
}
